// log_prob and its gradients: one pass over the rows of a tile, then the scalars of the family.
#include "../log_prob.h"
#include "family_rows.h"
#include "row_io.h"

namespace {
using namespace spherical;

constexpr int64_t kRowCost = 128; // see row_grain

// minus = |x - mu|^2 and plus = |x + mu|^2 of each row of a tile, summed in S.
template <class T, class S>
SIMD_CLONES void chord_sums(const T *const *x, const T *const *mu, int64_t n, int64_t d, S *minus,
                            S *plus) {
  if (d < kNarrowRow)
    return with_width(d, [=](auto width) __attribute__((always_inline)) {
      Columns<T> by_x, by_mu;
      by_x.read(x, n, width);
      by_mu.read(mu, n, width);
      for (int64_t r = 0; r < n; ++r) {
        S of_row[2] = {};
        for (int64_t i = 0; i < width; ++i) {
          S terms[2];
          chord_terms(S(by_x.at[i][r]), S(by_mu.at[i][r]), terms);
          of_row[0] += terms[0];
          of_row[1] += terms[1];
        }
        minus[r] = of_row[0];
        plus[r] = of_row[1];
      }
    });
  for (int64_t r = 0; r < n; ++r) {
    const T *xr = x[r], *mur = mu[r];
    S sums[2];
    row_sums<S, 2>(d, sums, [=](int64_t i, S(&out)[2]) __attribute__((always_inline)) {
      chord_terms(S(xr[i]), S(mur[i]), out);
    });
    minus[r] = sums[0];
    plus[r] = sums[1];
  }
}

// The scalars of the rows of a tile. Densities in double, see `rounded`.
template <class T> struct LogDensities {
  T kappa[kTile];
  double minus[kTile], plus[kTile], peak[kTile], log_p[kTile];
};
template <class T> struct Gradients {
  T kappa[kTile], minus[kTile], plus[kTile];
  T upstream[kTile], slope[kTile], kappa_grad[kTile]; // slope = log_prob_at_mode_dkappa
  DensityGradient<T> of_vectors[kTile];
};

template <class Family, class T>
SIMD_CLONES FLATTEN void log_densities(const Dim<double> &dim, int64_t n, LogDensities<T> &s) {
  for (int64_t r = 0; r < n; ++r)
    s.log_p[r] = s.peak[r] +
                 Family::log_prob_ratio(double{s.kappa[r]}, dim, half_angle(s.minus[r], s.plus[r]));
}
template <class Family, class T>
SIMD_CLONES FLATTEN void scalars(const Dim<T> &dim, int64_t n, Gradients<T> &s) {
  for (int64_t r = 0; r < n; ++r)
    s.of_vectors[r] =
        density_gradient<Family>(s.upstream[r], s.kappa[r], dim, s.minus[r], s.plus[r]);
}
template <class Family, class T>
SIMD_CLONES FLATTEN void kappa_gradients(const Dim<T> &dim, int64_t n, Gradients<T> &s) {
  for (int64_t r = 0; r < n; ++r)
    s.kappa_grad[r] = density_gradient_kappa<Family>(s.upstream[r], s.kappa[r], dim, s.slope[r],
                                                     s.minus[r], s.plus[r]);
}

// log p = log p(mu) + log_prob_ratio, which cancels where p is of size 1 and keeps its last digits
// only if both terms are known better than T. Hence double for float rows (the sums are bound by
// memory anyway), and long double for the double rows in which it happens.
template <class Family, class T>
T rounded(const LogDensities<T> &s, int64_t r, const T *x, const T *mu, int64_t d) {
  const double result = s.log_p[r];
  if (is_float32<T> || std::fabs(s.peak[r]) <= 2 * std::max(std::fabs(result), 1.0))
    return static_cast<T>(result);
  long double wide[2];
  row_sums<long double, 2>(d, wide, [=](int64_t i, long double (&out)[2]) {
    chord_terms<long double>(x[i], mu[i], out);
  });
  return static_cast<T>(
      log_density<Family, long double>(s.kappa[r], make_dim<long double>(d), wide[0], wide[1]));
}

template <class Family, class T> void forward(const LogProb<T> &args) {
  const int64_t d = args.in.rows.d, most = tile_rows(d);
  const auto dim = make_dim<double>(d);
  const bool one_law = args.in.rows.is_shared(args.kKappa) && args.in.rows.n > 0;
  double its_peak = 0;
  if (one_law)
    OverRows<Family>::log_prob_at_mode(dim, 1, args.in.row(args.kKappa, 0), &its_peak);
  parallel_for(args.in.rows.n, row_grain(d, 1, kRowCost), [&](int64_t begin, int64_t end) {
    TileRows<T> x_rows, mu_rows;
    LogDensities<T> s;
    std::fill_n(s.peak, kTile, its_peak);
    for (int64_t first = begin; first < end; first += most) {
      const int64_t n = std::min(most, end - first);
      const T *const *x = read_rows(args.in, args.kValue, first, n, x_rows);
      const T *const *mu = read_rows(args.in, args.kMu, first, n, mu_rows);
      read_scalars(args.in, args.kKappa, first, n, s.kappa);
      chord_sums(x, mu, n, d, s.minus, s.plus);
      if (!one_law)
        OverRows<Family>::log_prob_at_mode(dim, n, s.kappa, s.peak);
      log_densities<Family>(dim, n, s);
      for (int64_t r = 0; r < n; ++r)
        args.out[first + r] = rounded<Family>(s, r, x[r], mu[r], d);
    }
  });
}

template <class Family, class T> void backward(const LogProbBackward<T> &args) {
  const int64_t d = args.in.rows.d;
  const auto &in = args.in;
  // The gradient of one vector goes where for_each_tile says, which may add it up.
  const bool mu_is_main = args.summed == args.kGradMu;
  const int other = mu_is_main ? args.kGradValue : args.kGradMu;
  const bool one_law = in.rows.is_shared(args.kKappa) && in.rows.n > 0;
  const bool want_kappa = args.wants(args.kGradKappa);
  T its_slope = 0;
  if (one_law && want_kappa)
    OverRows<Family>::log_prob_at_mode_dkappa(args.dim, 1, in.row(args.kKappa, 0), &its_slope);
  const auto tile = [&](int64_t first, int64_t n, T *const *main_out, Scratch<T> &scratch) {
    const T *const *x = read_rows(in, args.kValue, first, n, scratch.in[0]);
    const T *const *mu = read_rows(in, args.kMu, first, n, scratch.in[1]);
    Gradients<T> s;
    read_scalars(in, args.kKappa, first, n, s.kappa);
    read_scalars(in, args.kGrad, first, n, s.upstream);
    chord_sums(x, mu, n, d, s.minus, s.plus);
    scalars<Family>(args.dim, n, s);
    const T *const *main = mu_is_main ? mu : x, *const *second = mu_is_main ? x : mu;
    if (main_out)
      gradients(s.of_vectors, main, second, n, d, main_out);
    if (args.wants(other)) {
      TileRows<T> &rows = scratch.out[0];
      gradients(s.of_vectors, second, main, n, d, result_rows(in, other, first, n, rows));
      finish_rows(in, other, first, n, rows);
    }
    if (!want_kappa)
      return;
    if (one_law)
      std::fill_n(s.slope, n, its_slope);
    else
      OverRows<Family>::log_prob_at_mode_dkappa(args.dim, n, s.kappa, s.slope);
    kappa_gradients<Family>(args.dim, n, s);
    write_scalars(in, args.kGradKappa, first, n, s.kappa_grad);
  };
  for_each_tile(in, args.summed, args.sums, args.terms, row_grain(d, 1, kRowCost), tile);
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
