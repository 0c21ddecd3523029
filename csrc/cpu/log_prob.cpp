// log_prob and its gradients: one pass over each row, then the scalars of the family.
#include "../log_prob.h"
#include "simd.h"

namespace {
using namespace spherical;

constexpr int64_t kRowCost = 128; // see row_grain

// |x - mu|^2 and |x + mu|^2, summed in S
template <class T, class S>
HD_INLINE void chord_sums_of(const T *x, const T *mu, int64_t d, S (&sums)[2]) {
  row_sums<S, 2>(d, sums, [=](int64_t i, S(&out)[2]) __attribute__((always_inline)) {
    chord_terms(S(x[i]), S(mu[i]), out);
  });
}
SIMD_CLONES void chord_sums(const float *x, const float *mu, int64_t d, float (&sums)[2]) {
  chord_sums_of(x, mu, d, sums);
}
SIMD_CLONES void chord_sums(const float *x, const float *mu, int64_t d, double (&sums)[2]) {
  chord_sums_of(x, mu, d, sums);
}
SIMD_CLONES void chord_sums(const double *x, const double *mu, int64_t d, double (&sums)[2]) {
  chord_sums_of(x, mu, d, sums);
}

// A gradient of the density: of a, where b is the other of x and mu.
template <class T>
HD_INLINE void gradient_of(const DensityGradient<T> &g, const T *a, const T *b, int64_t d, T *out) {
  for (int64_t i = 0; i < d; ++i)
    out[i] = g.element(a[i], b[i]);
}
SIMD_CLONES void gradient(const DensityGradient<float> &g, const float *a, const float *b,
                          int64_t d, float *out) {
  gradient_of(g, a, b, d, out);
}
SIMD_CLONES void gradient(const DensityGradient<double> &g, const double *a, const double *b,
                          int64_t d, double *out) {
  gradient_of(g, a, b, d, out);
}

// log p = log p(mu) + log_falloff, which cancels where p is of size 1 and keeps its last digits
// only if both terms are known better than T. Hence double for float rows (the sums are bound by
// memory anyway), and long double for the double rows in which it happens.
template <class Family, class T>
T density(const T *x, const T *mu, int64_t d, T kappa, const Dim<double> &dim) {
  double sums[2];
  chord_sums(x, mu, d, sums);
  const double peak = Family::log_peak(double{kappa}, dim);
  const double falloff = Family::log_falloff(double{kappa}, chords_of(sums[0], sums[1]));
  const double result = peak + falloff;
  if (is_float32<T> || std::fabs(peak) <= 2 * std::max(std::fabs(result), 1.0))
    return static_cast<T>(result);
  long double wide[2];
  chord_sums_of(x, mu, d, wide);
  return static_cast<T>(
      log_density<Family, long double>(kappa, make_dim<long double>(d), wide[0], wide[1]));
}

template <class Family, class T> void forward(const LogProb<T> &args) {
  const int64_t d = args.in.rows.d;
  const auto dim = make_dim<double>(d);
  parallel_for(args.in.rows.n, row_grain(d, 1, kRowCost), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      args.out[i] = density<Family>(args.value(i), args.mu(i), d, args.kappa(i), dim);
    }
  });
}

template <class Family, class T> void backward(const LogProbBackward<T> &args) {
  const int64_t d = args.in.rows.d;
  parallel_for(args.in.rows.n, row_grain(d, 1, kRowCost), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T *x = args.value(i), *mu = args.mu(i);
      T sums[2];
      chord_sums(x, mu, d, sums);
      const auto g = density_gradient<Family>(args.grad(i), args.kappa(i), args.dim, sums[0],
                                              sums[1], args.grad_kappa != nullptr);
      if (args.grad_value)
        gradient(g, x, mu, d, args.grad_value + i * d);
      if (args.grad_mu)
        gradient(g, mu, x, d, args.grad_mu + i * d);
      if (args.grad_kappa)
        args.grad_kappa[i] = g.kappa;
    }
  });
}

void log_prob_cpu(StableIValue *stack, uint64_t, uint64_t) {
  log_prob(stack, [](auto family, const auto &args) { forward<decltype(family)>(args); });
}

void log_prob_backward_cpu(StableIValue *stack, uint64_t, uint64_t) {
  log_prob_backward(stack, [](auto family, const auto &args) { backward<decltype(family)>(args); });
}

const int registered = [] {
  Implementations("CPU")
      .op("log_prob", log_prob_cpu)
      .op("log_prob_backward", log_prob_backward_cpu);
  return 0;
}();
} // namespace
