// A family that is not exponential and whose log_prob_ratio depends on d, for
// test_family_contract.py. It satisfies csrc/families.h with nothing but its own functions.
#include "families.h"

using namespace spherical;

struct Toy {
  static constexpr const char *name = "toy";
  static constexpr double upper_bound = 3.0;
  template <class T> static T log_prob_at_mode(T, const Dim<T> &);
  template <class T> static T log_prob_at_mode_dkappa(T, const Dim<T> &);
  template <class T> static T log_prob_at_mode_dkappa2(T, const Dim<T> &);
  template <class T> static T log_prob_at_mode_over_uniform(T, const Dim<T> &);
  template <class T> static T log_prob_ratio(T, const Dim<T> &, HalfAngle<T>);
  template <class T> static T log_prob_ratio_dt(T, const Dim<T> &, HalfAngle<T>);
  template <class T> static T log_prob_ratio_dkappa(T, const Dim<T> &, HalfAngle<T>);
  template <class T> static T mean_resultant_length(T, const Dim<T> &);
  template <class T> static T mean_resultant_length_dkappa(T, const Dim<T> &);
  template <class T> static T kl_uniform(T, const Dim<T> &);
  template <class T> static T kl_uniform_dkappa(T, const Dim<T> &);
  template <class T, class Noise>
  static SampleCoefficients<T> sample(T, const Dim<T> &, T, T, const Noise &);
  template <class T> static T implicit_gradient(T, const Dim<T> &, HalfAngle<T>);
};

static_assert(is_family<Toy>());
