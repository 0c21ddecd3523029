// log_prob and its gradients: one pass over the rows of a tile, then the scalars of the family.
#include "../log_prob.h"
#include "../registration.h"
#include "family_rows.h"
#include "log_prob_pairs.h"
#include "reduce.h"
#include "sums.h"

namespace {
using namespace spherical;

constexpr int64_t kRowCost = 128; // see row_grain

// minus[r] = |x - mu|^2 and plus[r] = |x + mu|^2 of each row of a tile, summed in S. x and mu are
// [n] pointers to [d].
template <class T, class S>
SIMD_CLONES void chord_sums(const T *const *x, const T *const *mu, int64_t n, int64_t d, S *minus,
                            S *plus) {
  if (d < kColumnwiseBelow)
    return with_width(d, [=](auto width) __attribute__((always_inline)) {
      Columns<T> by_x, by_mu;
      by_x.read(x, n, width);
      by_mu.read(mu, n, width);
      for (int64_t r = 0; r < n; ++r) {
        S sums[2] = {};
        for (int64_t i = 0; i < width; ++i) {
          S terms[2];
          chord_terms(S(by_x.at[i][r]), S(by_mu.at[i][r]), terms);
          sums[0] += terms[0];
          sums[1] += terms[1];
        }
        minus[r] = sums[0];
        plus[r] = sums[1];
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

// The scalars of the rows of a tile. Densities are in double; `rounded` says why.
template <class T> struct LogDensities {
  T kappa[kTile];
  double minus[kTile], plus[kTile], log_prob_at_mode[kTile], log_p[kTile];
};
template <class T> struct Gradients {
  T kappa[kTile], minus[kTile], plus[kTile];
  T upstream[kTile], log_prob_at_mode_dkappa[kTile], kappa_grad[kTile];
  DensityGradient<T> vectors[kTile];
};

template <class Family, class T>
SIMD_CLONES FLATTEN void log_densities(const Dim<double> &dim, int64_t n, LogDensities<T> &s) {
  for (int64_t r = 0; r < n; ++r)
    s.log_p[r] = s.log_prob_at_mode[r] +
                 Family::log_prob_ratio(double{s.kappa[r]}, dim, half_angle(s.minus[r], s.plus[r]));
}
template <class Family, class T>
SIMD_CLONES FLATTEN void vector_gradients(const Dim<T> &dim, int64_t n, Gradients<T> &s) {
  for (int64_t r = 0; r < n; ++r)
    s.vectors[r] = density_gradient<Family>(s.upstream[r], s.kappa[r], dim, s.minus[r], s.plus[r]);
}
template <class Family, class T>
SIMD_CLONES FLATTEN void kappa_gradients(const Dim<T> &dim, int64_t n, Gradients<T> &s) {
  for (int64_t r = 0; r < n; ++r)
    s.kappa_grad[r] = density_gradient_kappa<Family>(
        s.upstream[r], s.kappa[r], dim, s.log_prob_at_mode_dkappa[r], s.minus[r], s.plus[r]);
}

// Returns log p of row r as T. log p = log p(mu) + log_prob_ratio cancels where p is of size 1, and
// keeps its last digits only if both terms are known better than T. Therefore float rows use double
// (the sums are bound by memory anyway), and the double rows in which that happens are computed
// again in long double.
template <class Family, class T>
T rounded(const LogDensities<T> &s, int64_t r, const T *x, const T *mu, int64_t d) {
  const double result = s.log_p[r];
  if (is_float32<T> || std::fabs(s.log_prob_at_mode[r]) <= 2 * std::max(std::fabs(result), 1.0))
    return static_cast<T>(result);
  long double wide[2];
  row_sums<long double, 2>(d, wide, [=](int64_t i, long double (&out)[2]) {
    chord_terms<long double>(x[i], mu[i], out);
  });
  return static_cast<T>(
      log_density<Family, long double>(s.kappa[r], make_dim<long double>(d), wide[0], wide[1]));
}

template <class Family, class T> void forward(const LogProb<T> &args) {
  using Args = LogProb<T>;
  const auto &operands = args.operands;
  const int64_t d = operands.rows.d, most = tile_rows(d);
  const auto dim = make_dim<double>(d);
  const auto again = [&](const T *const *x, const T *const *mu, int64_t n, const T *kappa,
                         const double *log_prob_at_mode, T *log_prob) {
    LogDensities<T> s;
    std::copy(kappa, kappa + n, s.kappa);
    std::copy(log_prob_at_mode, log_prob_at_mode + n, s.log_prob_at_mode);
    chord_sums(x, mu, n, d, s.minus, s.plus);
    log_densities<Family>(dim, n, s);
    for (int64_t r = 0; r < n; ++r)
      log_prob[r] = rounded<Family>(s, r, x[r], mu[r], d);
  };
  if (log_prob_of_pairs<Family>(args, again))
    return;
  const bool one_kappa = operands.rows.is_shared(Args::kKappa) && operands.rows.n > 0;
  double shared_log_prob_at_mode = 0;
  if (one_kappa)
    OverRows<Family>::log_prob_at_mode(dim, 1, operands.row(Args::kKappa, 0),
                                       &shared_log_prob_at_mode);
  parallel_for(operands.rows.n, row_grain(d, 1, kRowCost), [&](int64_t begin, int64_t end) {
    TileRows<T> value_rows, mu_rows;
    LogDensities<T> s;
    std::fill_n(s.log_prob_at_mode, kTile, shared_log_prob_at_mode);
    for (int64_t first = begin; first < end; first += most) {
      const int64_t n = std::min(most, end - first);
      const T *const *x = read_rows(operands, Args::kValue, first, n, value_rows);
      const T *const *mu = read_rows(operands, Args::kMu, first, n, mu_rows);
      read_scalars(operands, Args::kKappa, first, n, s.kappa);
      chord_sums(x, mu, n, d, s.minus, s.plus);
      if (!one_kappa)
        OverRows<Family>::log_prob_at_mode(dim, n, s.kappa, s.log_prob_at_mode);
      log_densities<Family>(dim, n, s);
      T log_prob[kTile];
      for (int64_t r = 0; r < n; ++r)
        log_prob[r] = rounded<Family>(s, r, x[r], mu[r], d);
      write_scalars(operands, Args::kLogProb, first, n, log_prob);
    }
  });
}

template <class Family, class T> void backward(const LogProbBackward<T> &args) {
  using Args = LogProbBackward<T>;
  const auto &operands = args.operands;
  const int64_t d = operands.rows.d;
  // The gradient of one vector goes where for_each_tile says, which may sum it.
  const bool sums_mu = args.sums.operand == Args::kGradMu;
  const int other = sums_mu ? Args::kGradValue : Args::kGradMu;
  const bool one_kappa = operands.rows.is_shared(Args::kKappa) && operands.rows.n > 0;
  const bool needs_kappa = operands.needs(Args::kGradKappa);
  T shared_dkappa = 0;
  if (one_kappa && needs_kappa)
    OverRows<Family>::log_prob_at_mode_dkappa(args.dim, 1, operands.row(Args::kKappa, 0),
                                              &shared_dkappa);
  const auto tile = [&](int64_t first, int64_t n, T *const *out, Scratch<T> &scratch) {
    const T *const *x = read_rows(operands, Args::kValue, first, n, scratch.in[0]);
    const T *const *mu = read_rows(operands, Args::kMu, first, n, scratch.in[1]);
    Gradients<T> s;
    read_scalars(operands, Args::kKappa, first, n, s.kappa);
    read_scalars(operands, Args::kGrad, first, n, s.upstream);
    chord_sums(x, mu, n, d, s.minus, s.plus);
    vector_gradients<Family>(args.dim, n, s);
    const T *const *a = sums_mu ? mu : x, *const *b = sums_mu ? x : mu;
    if (out)
      gradients(s.vectors, a, b, n, d, out);
    if (operands.needs(other)) {
      gradients(s.vectors, b, a, n, d, result_rows(operands, other, first, n, scratch.out));
      finish_rows(operands, other, first, n, scratch.out);
    }
    if (!needs_kappa)
      return;
    if (one_kappa)
      std::fill_n(s.log_prob_at_mode_dkappa, n, shared_dkappa);
    else
      OverRows<Family>::log_prob_at_mode_dkappa(args.dim, n, s.kappa, s.log_prob_at_mode_dkappa);
    kappa_gradients<Family>(args.dim, n, s);
    write_scalars(operands, Args::kGradKappa, first, n, s.kappa_grad);
  };
  for_each_tile(operands, args.sums, row_grain(d, 1, kRowCost), tile);
}

void log_prob_cpu(StableIValue *stack, uint64_t, uint64_t) {
  unpack_log_prob(stack, [](auto family, const auto &args) { forward<decltype(family)>(args); });
}

void log_prob_backward_cpu(StableIValue *stack, uint64_t, uint64_t) {
  unpack_log_prob_backward(stack,
                           [](auto family, const auto &args) { backward<decltype(family)>(args); });
}

const int registered = [] {
  Implementations("CPU")
      .op("log_prob", log_prob_cpu)
      .op("log_prob_backward", log_prob_backward_cpu);
  return 0;
}();
} // namespace
