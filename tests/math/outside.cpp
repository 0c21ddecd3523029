// Every scalar function of csrc/math, and every loop of csrc/cpu over the rows of a tile, at
// concentrations at and beyond the ends of the domain, for test_outside.py. The program branches on
// each result, so that valgrind reports what depends on uninitialised memory. It prints what is not
// NaN for a concentration outside of the domain, or NaN inside.
#include "cpu/family_rows.h"
#include "kl.h"
#include "sphere.h"
#include <cstdio>
#include <limits>

using namespace spherical;

constexpr int64_t kDimensions[] = {2, 3, 4, 5, 17, 64, 2000};
constexpr double kNumbers[] = {-HUGE_VAL, -1e300,  -1e9,     -1,       -1e-45, -0.0, 0.0,
                               1e-45,     1e-20,   1e-3,     0.5,      1,      30,   1e4,
                               1e8,       1e12,    1e15,     0x1p50,   1e16,   1e20, 3e38,
                               1e150,     9.1e307, 1.79e308, HUGE_VAL, NAN};
constexpr int64_t kCount = sizeof kNumbers / sizeof *kNumbers;

int failures = 0;

template <class T> void expect(bool outside, T result, const char *what, double kappa, int64_t d) {
  if ((result != result) == outside)
    return;
  ++failures;
  std::printf("%s is %g at kappa = %g, d = %lld\n", what, static_cast<double>(result), kappa,
              static_cast<long long>(d));
}

template <class Family> bool is_outside(double kappa) {
  return !(kappa >= 0 && kappa < Family::upper_bound);
}

#define EXPECT(FUNCTION, ...) expect(outside, Family::FUNCTION(__VA_ARGS__), #FUNCTION, number, d)

template <class Family, class T> void check_scalars(double number, int64_t d) {
  const auto dim = make_dim<T>(d);
  const bool outside = is_outside<Family>(static_cast<T>(number));
  const T kappa = in_domain<Family>(static_cast<T>(number));
  EXPECT(log_prob_at_mode, kappa, dim);
  EXPECT(log_prob_at_mode_dkappa, kappa, dim);
  EXPECT(log_prob_at_mode_dkappa2, kappa, dim);
  EXPECT(log_prob_at_mode_over_uniform, kappa, dim);
  EXPECT(mean_resultant_length, kappa, dim);
  EXPECT(mean_resultant_length_dkappa, kappa, dim);
  EXPECT(kl_uniform, kappa, dim);
  EXPECT(kl_uniform_dkappa, kappa, dim);
  for (const T sin2 : {T(1e-12), T(0.3), T(0.9)}) {
    const HalfAngle<T> c = {sin2, T(1) - sin2};
    EXPECT(log_prob_ratio, kappa, dim, c);
    EXPECT(log_prob_ratio_dt, kappa, dim, c);
    EXPECT(implicit_gradient, kappa, dim, c);
    if (Family::log_prob_ratio_dkappa(kappa, dim, c) > T(0)) // may not depend on kappa
      ++failures;
  }
  const auto x =
      sample_coefficients<Family>(kappa, dim, T(0.3), T(1.1), ProposalNoise<T>{RowStream{1, 2}});
  expect(outside, x.t, "t of a sample", number, d);
  expect(outside, x.r, "r of a sample", number, d);
  if constexpr (std::is_same_v<T, double>) {
    const auto wide = make_dim<long double>(d);
    expect(outside, Family::log_prob_at_mode((long double)kappa, wide), "long double", number, d);
  }
}

template <class Family, class T> void check_tile(int64_t d) {
  T kappa[kCount], out[kCount];
  double peak[kCount], wide[kCount];
  HalfAngle<T> c[kCount];
  for (int64_t r = 0; r < kCount; ++r) {
    kappa[r] = in_domain<Family>(static_cast<T>(kNumbers[r]));
    wide[r] = double{kappa[r]};
    c[r] = {T(0.3), T(0.7)};
  }
  const auto dim = make_dim<T>(d);
  const auto all = [&](const auto *results, const char *what) {
    for (int64_t r = 0; r < kCount; ++r)
      expect(is_outside<Family>(static_cast<T>(kNumbers[r])), results[r], what, kNumbers[r], d);
  };
  using Rows = OverRows<Family>;
  Rows::log_prob_at_mode(make_dim<double>(d), kCount, kappa, peak);
  all(peak, "log_prob_at_mode of a tile");
  Rows::log_prob_at_mode_dkappa(dim, kCount, kappa, out);
  all(out, "log_prob_at_mode_dkappa of a tile");
  Rows::implicit_gradient(dim, kCount, kappa, c, out);
  all(out, "implicit_gradient of a tile");
  if constexpr (std::is_same_v<T, double>) {
    Rows::log_prob_at_mode_over_uniform(dim, kCount, wide, peak);
    all(peak, "log_prob_at_mode_over_uniform of a tile");
  }
}

template <class P, class Q> void check_divergence() {
  using Kl = decltype(divergence(P(), Q()));
  if constexpr (!std::is_same_v<Kl, UnknownDivergence>)
    for (const int64_t d : {2, 17})
      for (int64_t i = 0; i < kCount; ++i) {
        const double number = kNumbers[i], other = kNumbers[(i * 7 + 3) % kCount];
        const double p = in_domain<P>(number), q = in_domain<Q>(other);
        const bool outside = is_outside<P>(number) || is_outside<Q>(other);
        const auto dim = make_dim<double>(d);
        const HalfAngle<double> means = {0.3, 0.7};
        expect(outside, Kl::kl(p, q, dim, means), "kl", number, d);
        expect(outside, Kl::kl_dkappa_p(p, q, dim, means), "kl_dkappa_p", number, d);
        expect(outside, Kl::kl_dkappa_q(p, q, dim, means), "kl_dkappa_q", number, d);
        expect(outside, Kl::kl_dsin2(p, q, dim, means), "kl_dsin2", number, d);
      }
}

template <class P, class... Members> void check_family(List<Members...>) {
  for (const int64_t d : kDimensions) {
    for (const double number : kNumbers) {
      check_scalars<P, float>(number, d);
      check_scalars<P, double>(number, d);
    }
    check_tile<P, float>(d);
    check_tile<P, double>(d);
  }
  (check_divergence<P, Members>(), ...);
}

template <class... Members> void check_families(List<Members...> all) {
  (check_family<Members>(all), ...);
}

int main() {
  check_families(Families());
  return failures > 0;
}
