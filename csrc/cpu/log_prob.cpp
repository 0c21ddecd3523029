// log_prob and its gradients: one pass over each row, then the scalars of the family.
#include "../log_prob.h"
#include "row_io.h"

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
T density(const T *x, const T *mu, int64_t d, T kappa, double peak) {
  double sums[2];
  chord_sums(x, mu, d, sums);
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
  const bool one_law = args.in.rows.is_shared(args.kKappa) && args.in.rows.n > 0;
  const double its_peak = one_law ? Family::log_peak(double{args.kappa(0)}, dim) : 0;
  parallel_for(args.in.rows.n, row_grain(d, 1, kRowCost), [&](int64_t begin, int64_t end) {
    std::vector<T> x, mu;
    for (int64_t i = begin; i < end; ++i) {
      const T kappa = args.kappa(i);
      const double peak = one_law ? its_peak : Family::log_peak(double{kappa}, dim);
      args.out[i] = density<Family>(read_row(args.in, args.kValue, i, x),
                                    read_row(args.in, args.kMu, i, mu), d, kappa, peak);
    }
  });
}

template <class Family, class T> void backward(const LogProbBackward<T> &args) {
  const int64_t d = args.in.rows.d;
  const auto &in = args.in;
  // The gradient of one vector goes where for_each_row says, which may add it up.
  const bool mu_is_main = args.summed == args.kGradMu;
  const int other = mu_is_main ? args.kGradValue : args.kGradMu;
  const bool one_law = in.rows.is_shared(args.kKappa) && in.rows.n > 0;
  const T its_slope =
      one_law && args.wants(args.kGradKappa) ? Family::log_peak_1(args.kappa(0), args.dim) : T(0);
  const auto row = [&](int64_t i, T *main_out, Scratch<T> &scratch) {
    const T *x = read_row(in, args.kValue, i, scratch.row[0]);
    const T *mu = read_row(in, args.kMu, i, scratch.row[1]);
    T sums[2];
    chord_sums(x, mu, d, sums);
    const T kappa = args.kappa(i);
    const auto g = density_gradient<Family>(args.grad(i), kappa, sums[0], sums[1]);
    const T *main = mu_is_main ? mu : x, *second = mu_is_main ? x : mu;
    if (main_out)
      gradient(g, main, second, d, main_out);
    if (args.wants(other)) {
      T *out = result_row(in, other, i, scratch.row[2]);
      gradient(g, second, main, d, out);
      finish_row(in, other, i, out);
    }
    if (args.wants(args.kGradKappa))
      *in.result(args.kGradKappa, i) = density_gradient_kappa<Family>(
          args.grad(i), one_law ? its_slope : Family::log_peak_1(kappa, args.dim), sums[0],
          sums[1]);
  };
  for_each_row(in, args.summed, args.sums, args.terms, row_grain(d, 1, kRowCost), row);
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
