// log_prob of all pairs of a value and a law, at the speed of a matrix product.
//
// Sums of products give the half angles of all pairs. Each comes with an estimate of its error. The
// pairs for which the error counts are done again: with products in double, or as rows.
#pragma once
#include "../log_prob.h"
#include "family_rows.h"
#include "pair_tiles.h"
#include <memory>

namespace spherical {

constexpr int64_t kFloatFrom = 128; // the least d at which products in float can be enough

// 1/8 of the pairs of a tile: if more of them are to be done again, then all are, in double.
constexpr int64_t kFewAgain = 8;

template <class Family>
SIMD_CLONES FLATTEN void log_prob_ratios(const Dim<double> &dim, int64_t n, PairTile &s) {
  for (int64_t i = 0; i < n; ++i)
    s.log_p[i] =
        Family::log_prob_ratio(s.kappa[i], dim, HalfAngle<double>{s.sin2[i], 1 - s.sin2[i]});
}

// log p of the pairs of a tile, from their half angles.
template <class Family, class T>
SIMD_CLONES void pair_log_probs(const Dim<double> &dim, int64_t n, PairTile &s) {
  if (is_float32<T>)
    OverRows<Family>::log_prob_ratio_for_float(dim, n, s.kappa, s.sin2, s.log_p);
  else
    log_prob_ratios<Family>(dim, n, s);
  for (int64_t i = 0; i < n; ++i)
    s.log_p[i] += s.at_mode[i];
}

// Sets s.error from that of sin2 to that of log p, relative to max(|log p|, 1), which includes that
// of log p(mu), `rounding` of it. Returns the number of pairs for which it is not at most `allowed`.
// The slope is taken where it may be steepest, within the error of sin2 on the side of the mode.
// Towards the antipode it may grow without bound: no pair is accepted there.
template <class Family>
SIMD_CLONES FLATTEN int64_t pair_errors(const Dim<float> &dim, int64_t n, float rounding,
                                        float allowed, PairTile &s) {
  int32_t bad = 0;
  for (int64_t i = 0; i < n; ++i) {
    const float error = s.error[i], sin2 = static_cast<float>(s.sin2[i]) - error;
    const float cos2 = static_cast<float>(1 - s.sin2[i]);
    const float size = static_cast<float>(std::fabs(s.log_p[i]));
    const float slope = Family::log_prob_ratio_dt(static_cast<float>(s.kappa[i]), dim,
                                                  HalfAngle<float>{sin2 > 0 ? sin2 : 0.0f, cos2});
    const float total = 2 * slope * error + rounding * std::fabs(static_cast<float>(s.at_mode[i]));
    s.error[i] = cos2 > 64 * error ? total / (size > 1 ? size : 1.0f) : float(HUGE_VAL);
    bad += !(s.error[i] <= allowed);
  }
  return bad;
}

// Sets s.error to that of sin2, if its products were added up in S. u is half the spacing of S at 1.
// An addition is wrong by 0.4 u of its result in the mean square; the estimate is 4.5 times what
// follows for the whole sum. A sum has `blocks` partial sums of kProductBlock<true> terms; within a block
// they grow to the sum of the block, in a random walk. In double the sum over the blocks counts as
// well, and so do the last steps.
template <class S>
SIMD_CLONES void errors_of_products(int64_t rows, int64_t columns, int64_t padded, int64_t d,
                                    const RowScalars &x, const ColumnScalars &y, PairTile &s) {
  constexpr float block = kProductBlock<true>, half = is_float32<S> ? 0x1p-24f : 0x1p-53f;
  const float blocks = is_float32<S> ? 0 : static_cast<float>(d) / block;
  constexpr float last = is_float32<S> ? 0 : half;
  const S *squares = reinterpret_cast<const S *>(s.spread);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) {
      const float inverse = static_cast<float>(x.inverse_length[r] * y.inverse_length[c]);
      const float spread = static_cast<float>(squares[r * padded + c]) * inverse * inverse;
      const float walk = x.flatness[r] * y.flatness[c];
      const float t = 1 - 2 * static_cast<float>(s.sin2[r * columns + c]);
      const float within = block * (spread / 3 + walk / 6);
      const float across = blocks * (t * t / 3 + spread / 6);
      s.error[r * columns + c] =
          0.9f * half * std::sqrt(within + across) + last * (0.5f + std::fabs(t));
    }
}

SIMD_CLONES inline void fill(float value, int64_t n, float *to) { std::fill_n(to, n, value); }

// A family, as the loops over pairs call it. They are compiled once for all families.
template <class T> struct LogProbOfPairsFamily {
  T upper_bound;
  void (*log_prob_at_mode)(const Dim<double> &, int64_t, const T *, double *);
  void (*log_probs)(const Dim<double> &, int64_t, PairTile &);
  int64_t (*errors)(const Dim<float> &, int64_t, float, float, PairTile &);
};
template <class Family, class T>
constexpr LogProbOfPairsFamily<T> kLogProbOfPairs{T(Family::upper_bound),
                                                  OverRows<Family>::log_prob_at_mode,
                                                  pair_log_probs<Family, T>, pair_errors<Family>};

// The product of two sides. again(x, mu, n, kappa, log_prob_at_mode, log_prob) computes n <= kTile
// pairs as rows. check(inverse_lengths, n) is called for all values.
template <class T, class Again, class Check> class LogProbOfPairs {
public:
  using Args = LogProb<T>;
  using Operands = decltype(Args::operands);

  LogProbOfPairs(const LogProbOfPairsFamily<T> &family, const Side<Operands> &rows,
                 const Side<Operands> &columns, const Again &again, const Check &check)
      : family(family), tiles(rows, columns, rows.operands.rows.d >= kFloatFrom),
        dim(make_dim<double>(tiles.d)), dim_float(make_dim<float>(tiles.d)), again(again),
        check(check) {}

  void run() {
    const int64_t d = tiles.d, n = tiles.rows.size();
    const int64_t most = std::clamp<int64_t>(kPackedElements / (kPairColumns * d), 1, tiles.groups);
    const auto set_laws = [this](const auto &side, int64_t first, int64_t n, auto &to) {
      read_laws(side, first, n, to);
    };
    for (int64_t first = 0; first < tiles.groups; first += most) {
      const int64_t some = std::min(tiles.groups - first, most);
      tiles.pack(first, some, set_laws);
      if (tiles.columns.vector == Args::kValue)
        for (int64_t g = 0; g < some; ++g)
          check(tiles.scalars[static_cast<size_t>(g)].inverse_length, tiles.count(first + g));
      const int64_t cost = kPairRows * kPairColumns * some * (d + 64); // in units of 0.03 ns
      parallel_for((n + kPairRows - 1) / kPairRows, std::max<int64_t>(1, 1000000 / cost),
                   [&](int64_t begin, int64_t end) {
                     const auto x = std::make_unique<typename Tiles::Rows>();
                     const auto s = std::make_unique<PairTile>();
                     TileRows<T> column_tile;
                     for (int64_t i = begin; i < end; ++i) {
                       tiles.read(i * kPairRows, *x, set_laws);
                       if (tiles.rows.vector == Args::kValue)
                         check(x->scalars.inverse_length, x->n);
                       for (int64_t g = 0; g < some; ++g)
                         tile(*x, first, g, *s, column_tile);
                     }
                   });
    }
  }

private:
  using Tiles = PairTiles<T, Operands, true>;
  static constexpr float kAllowedInFloat = 0x1p-25f;
  static constexpr float kAllowedInDouble = is_float32<T> ? 0x1p-26f : 0x1.8p-51f;
  static constexpr float kRounding = is_float32<T> ? 0 : 0x1p-52f; // of log p(mu)

  bool may_be_float() const { return is_float32<T> && tiles.d >= kFloatFrom; }

  // Reads kappa, and computes log p(mu), of n <= kTile laws.
  template <int64_t most>
  void read_laws(const Side<Operands> &side, int64_t first, int64_t n,
                 VectorScalars<most> &to) const {
    T kappa[kTile];
    read_concentrations(side.operands, Args::kKappa, first, n, family.upper_bound, kappa);
    std::copy(kappa, kappa + n, to.kappa);
    const bool shared = side.stride(Args::kKappa) == 0;
    family.log_prob_at_mode(dim, shared ? 1 : n, kappa, to.at_mode);
    if (shared)
      std::fill_n(to.at_mode, n, to.at_mode[0]);
    to.in_float = may_be_float() && is_in_float(n, to.kappa, to.at_mode);
  }

  // Returns whether sums in float would be enough for most of n laws at a point in general position.
  bool is_in_float(int64_t n, const double *kappa, const double *log_prob_at_mode) const {
    const auto s = std::make_unique<PairTile>();
    std::copy(kappa, kappa + n, s->kappa);
    std::copy(log_prob_at_mode, log_prob_at_mode + n, s->at_mode);
    std::fill_n(s->sin2, n, 0.5);
    const float size = static_cast<float>(tiles.d);
    std::fill_n(s->error, n, 0x1p-24f * 0.9f * std::sqrt(kProductBlock<true> * 0.83f / size));
    family.log_probs(dim, n, *s);
    return kFewAgain * family.errors(dim_float, n, kRounding, kAllowedInFloat, *s) <= n;
  }

  // Computes the pairs of a tile, with products in S, and returns the number that must be done
  // again.
  template <class S>
  int64_t compute(typename Tiles::Rows &x, int64_t g, int64_t m, float allowed, PairTile &s) {
    constexpr bool in_float = is_float32<S>;
    const ColumnScalars &y = tiles.scalars[static_cast<size_t>(g)];
    tiles.set_half_angles(x, g, in_float, s);
    if constexpr (is_float32<S> == is_float32<T>) {
      const int64_t padded =
          in_float ? tiles.packed_float.sums.padded(m) : tiles.packed.sums.padded(m);
      errors_of_products<S>(x.n, m, padded, tiles.d, x.scalars, y, s);
    } else { // of float vectors in double: more than enough for float
      fill(0x1p-53f * (2 + std::sqrt(static_cast<float>(tiles.d))), x.n * m, s.error);
    }
    family.log_probs(dim, x.n * m, s);
    return family.errors(dim_float, x.n * m, kRounding, allowed, s);
  }

  void tile(typename Tiles::Rows &x, int64_t first, int64_t g, PairTile &s,
            TileRows<T> &column_tile) {
    const int64_t m = tiles.count(first + g), row_stride = tiles.rows.stride(Args::kLogProb);
    const int64_t column_stride = tiles.columns.stride(Args::kLogProb);
    const ColumnScalars &y = tiles.scalars[static_cast<size_t>(g)];
    T *to = static_cast<T *>(tiles.rows.operands.results[0]) + x.begin * row_stride +
            (first + g) * kPairColumns * column_stride;
    if (tiles.rows.has_kappa || s.group != first + g) // else s holds the laws of these columns
      spread_laws(x.n, m, tiles.rows.has_kappa, x.scalars, y, s);
    s.group = first + g;
    int64_t bad = x.n * m;
    float allowed = kAllowedInFloat;
    if constexpr (is_float32<T>)
      if (tiles.rows.has_kappa ? x.scalars.in_float : y.in_float)
        bad = compute<float>(x, g, m, allowed, s);
    if (kFewAgain * bad > x.n * m) {
      allowed = kAllowedInDouble;
      bad = compute<double>(x, g, m, allowed, s);
    }
    write_pairs(s.log_p, x.n, m, to, row_stride, column_stride);
    if (bad == 0)
      return;
    const T *const *mu = tiles.read_group(g, column_tile);
    const T *left[kTile], *right[kTile];
    T kappa[kTile], log_prob[kTile], *place[kTile];
    double log_prob_at_mode[kTile];
    for (int64_t i = 0, k = 0; i < x.n * m; ++i) {
      if (!(s.error[i] <= allowed)) {
        left[k] = x.row[i / m];
        right[k] = mu[i % m];
        kappa[k] = static_cast<T>(s.kappa[i]);
        log_prob_at_mode[k] = s.at_mode[i];
        place[k++] = to + i / m * row_stride + i % m * column_stride;
      }
      if (k == kTile || (k > 0 && i == x.n * m - 1)) {
        again(left, right, k, kappa, log_prob_at_mode, log_prob);
        for (int64_t j = 0; j < k; ++j)
          *place[j] = log_prob[j];
        k = 0;
      }
    }
  }

  const LogProbOfPairsFamily<T> &family;
  Tiles tiles;
  const Dim<double> dim;
  const Dim<float> dim_float;
  const Again &again;
  const Check &check;
};

// Computes log_prob if the batch consists of all pairs of values and laws; else returns false.
template <class T, class Again, class Check>
bool log_prob_of_pairs(const LogProbOfPairsFamily<T> &family, const LogProb<T> &args,
                       const Again &again, const Check &check) {
  using Args = LogProb<T>;
  return for_each_product(args.operands, Args::kValue, Args::kMu, Args::kKappa,
                          [&](const auto &x, const auto &y) {
                            LogProbOfPairs<T, Again, Check>(family, x, y, again, check).run();
                          });
}

} // namespace spherical
