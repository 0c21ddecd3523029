// log_prob of all pairs of a value and a law, at the speed of a matrix product.
//
// Sums over products give the half angles of all pairs (docs/numerics.md#all-pairs). Each comes with
// an estimate of its error. The pairs for which the error counts are done again: in double, or as
// rows.
#pragma once
#include "../log_prob.h"
#include "../pairs.h"
#include "family_rows.h"
#include "parallel.h"
#include "products.h"
#include "tiles.h"
#include <memory>

namespace spherical {

constexpr int64_t kFewestOfPairs = 4;        // vectors on either side
constexpr int64_t kPairRows = 48;            // of a tile
constexpr int64_t kPairColumns = 32;         // of a tile
constexpr int64_t kPackedElements = 1 << 20; // of the columns that are packed at a time
constexpr int64_t kFloatFrom = 128;          // the least d at which float products can be enough
constexpr int64_t kFewAgain = 8;             // 1/8 of the pairs of a tile

// One side of the pairs: the batch along one of its dimensions.
template <class T> struct Side {
  RowOperands<T, 3, 1> operands;
  int vector; // the operand that holds the vectors
  bool has_kappa;

  int64_t size() const { return operands.rows.n; }
  int64_t stride(int k) const { return operands.rows.stride[k][0]; }
};

// The scalars of some vectors of one side. flatness = sqrt(sum x_i^4)/|x|^2 lies between
// 1/sqrt(d) and 1.
template <int64_t most> struct VectorScalars {
  double length[most], inverse_length[most];
  float flatness[most];
  double kappa[most], log_prob_at_mode[most];
  bool in_float; // whether sums in float are enough for most pairs
};
using RowScalars = VectorScalars<kPairRows>;
using ColumnScalars = VectorScalars<kPairColumns>;

// The scalars of the pairs of a tile, [rows, columns]. Those of a row may be followed by those of
// padding, which the next row overwrites.
struct PairTile {
  static constexpr int64_t size = kPairRows * kPairColumns, room = size + kPairColumns;
  double sums[size]; // rows are padded to whole vectors
  float spread[size];
  double sin2[room], kappa[room], log_prob_at_mode[room], log_p[room];
  float error[room]; // of sin2, then of log_p relative to max(|log_p|, 1)
};

// Sets the length and the flatness of vector i, and copies it to `to` as double, if that is not
// null. `ahead` elements behind it lies a vector that is fetched for later.
template <bool with_flatness, class T, int64_t most>
SIMD_CLONES void measure(const T *x, int64_t d, int64_t ahead, double *to, int64_t i,
                         VectorScalars<most> &scalars) {
  constexpr int vectors = 4;
  constexpr int64_t width = VectorOf<double>::width;
  Vector<double> squares[vectors] = {}, fourths[vectors] = {};
  double square = 0, fourth = 0;
  int64_t j = 0;
  for (; j + vectors * width <= d; j += vectors * width) {
    __builtin_prefetch(x + j + ahead);
    for (int v = 0; v < vectors; ++v) {
      typename VectorOf<T, int(width) * int(sizeof(T))>::type stored;
      memcpy(&stored, x + j + v * width, sizeof stored);
      const auto wide = __builtin_convertvector(stored, Vector<double>);
      if (to)
        store(wide, to + j + v * width);
      const Vector<double> term = wide * wide;
      squares[v] += term;
      if (with_flatness)
        fourths[v] += term * term;
    }
  }
  for (; j < d; ++j) {
    const double wide = static_cast<double>(x[j]);
    if (to)
      to[j] = wide;
    square += wide * wide;
    fourth += wide * wide * wide * wide;
  }
  for (int64_t l = 0; l < width; ++l) {
    square += (squares[0][l] + squares[1][l]) + (squares[2][l] + squares[3][l]);
    fourth += (fourths[0][l] + fourths[1][l]) + (fourths[2][l] + fourths[3][l]);
  }
  scalars.length[i] = std::sqrt(square);
  scalars.inverse_length[i] = 1 / scalars.length[i];
  scalars.flatness[i] = static_cast<float>(std::sqrt(fourth) / square);
}

// to[i, l] = element i of row l; the last row is repeated.
template <class T, class S>
SIMD_CLONES void pack_panel(const T *const *rows, int64_t n, int64_t lanes, int64_t d, S *to) {
  constexpr int64_t block = 16;
  for (int64_t begin = 0; begin < d; begin += block)
    for (int64_t l = 0; l < lanes; ++l) {
      const T *row = rows[std::min(l, n - 1)];
      for (int64_t i = begin; i < std::min(d, begin + block); ++i)
        to[i * lanes + l] = static_cast<S>(row[i]);
    }
}

// The packed columns of a product, and the sums over them.
template <class S, class Term> struct Packed {
  PairSums<S, Term> sums;
  std::vector<S> panels;

  template <class T> void pack(const T *const *columns, int64_t n, int64_t d, int64_t group) {
    S *to = panels.data() + group * kPairColumns * d;
    for (int64_t c = 0; c < n; c += 2 * sums.width)
      pack_panel(columns + c, n - c, n - c > sums.width ? 2 * sums.width : sums.width, d,
                 to + c * d);
  }
  int64_t padded(int64_t n) const { return (n + sums.width - 1) / sums.width * sums.width; }
  void add(const S *const *rows, int64_t n, int64_t columns, int64_t d, int64_t group,
           PairTile &s) const {
    sums.compute(rows, (n + kRowsAtOnce - 1) / kRowsAtOnce * kRowsAtOnce,
                 panels.data() + group * kPairColumns * d, padded(columns), d, s.sums,
                 reinterpret_cast<S *>(s.spread));
  }
};

// Turns the sums over products, or over squares of differences, into half angles:
//   x . y = |x| |y| (1 - 2 sin2),   |x - y|^2 - (|x| - |y|)^2 = 4 |x| |y| sin2.
template <bool squares>
SIMD_CLONES void half_angles(int64_t rows, int64_t columns, int64_t padded, const RowScalars &x,
                             const ColumnScalars &y, PairTile &s) {
  constexpr int64_t width = VectorOf<double>::width;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; c += width) {
      Vector<double> sum, length, inverse;
      load(s.sums + r * padded + c, sum);
      load(y.length + c, length);
      load(y.inverse_length + c, inverse);
      inverse *= x.inverse_length[r];
      const Vector<double> apart = x.length[r] - length;
      store(squares ? 0.25 * ((sum - apart * apart) * inverse) : 0.5 - 0.5 * (sum * inverse),
            s.sin2 + r * columns + c);
    }
}

// Spreads the scalars of the laws over the pairs.
SIMD_CLONES inline void spread_laws(int64_t rows, int64_t columns, const RowScalars *x,
                                    const ColumnScalars &y, PairTile &s) {
  constexpr int64_t width = VectorOf<double>::width;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; c += width) {
      Vector<double> kappa, log_prob_at_mode;
      if (x) {
        kappa = x->kappa[r] - Vector<double>{};
        log_prob_at_mode = x->log_prob_at_mode[r] - Vector<double>{};
      } else {
        load(y.kappa + c, kappa);
        load(y.log_prob_at_mode + c, log_prob_at_mode);
      }
      store(kappa, s.kappa + r * columns + c);
      store(log_prob_at_mode, s.log_prob_at_mode + r * columns + c);
    }
}

template <class Family>
SIMD_CLONES FLATTEN void log_prob_ratios(const Dim<double> &dim, int64_t n, PairTile &s) {
  for (int64_t i = 0; i < n; ++i)
    s.log_p[i] =
        Family::log_prob_ratio(s.kappa[i], dim, HalfAngle<double>{s.sin2[i], 1 - s.sin2[i]});
}

template <class Family, class T>
SIMD_CLONES void pair_log_probs(const Dim<double> &dim, int64_t n, PairTile &s) {
  if (is_float32<T>)
    OverRows<Family>::log_prob_ratio_for_float(dim, n, s.kappa, s.sin2, s.log_p);
  else
    log_prob_ratios<Family>(dim, n, s);
  for (int64_t i = 0; i < n; ++i)
    s.log_p[i] += s.log_prob_at_mode[i];
}

// Returns the number of pairs whose error, relative to max(|log p|, 1), is not at most `allowed`.
// The slope is taken where it may be steepest, within the error of sin2 on the side of the mode.
// Towards the antipode it may grow without bound: no pair is accepted there.
template <class Family>
SIMD_CLONES FLATTEN int64_t pair_errors(const Dim<float> &dim, int64_t n, float allowed,
                                        PairTile &s) {
  int32_t bad = 0;
  for (int64_t i = 0; i < n; ++i) {
    const float error = s.error[i], sin2 = static_cast<float>(s.sin2[i]) - error;
    const float cos2 = static_cast<float>(1 - s.sin2[i]);
    const float size = static_cast<float>(std::fabs(s.log_p[i]));
    const float slope = Family::log_prob_ratio_dt(static_cast<float>(s.kappa[i]), dim,
                                                  HalfAngle<float>{sin2 > 0 ? sin2 : 0.0f, cos2});
    s.error[i] = cos2 > 64 * error ? 2 * slope * error / (size > 1 ? size : 1.0f) : float(HUGE_VAL);
    bad += !(s.error[i] <= allowed);
  }
  return bad;
}

template <class T>
SIMD_CLONES void write_pairs(const double *from, int64_t rows, int64_t columns, T *to,
                             int64_t row_stride, int64_t column_stride) {
  if (column_stride == 1) {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < columns; ++c)
        to[r * row_stride + c] = static_cast<T>(from[r * columns + c]);
  } else {
    for (int64_t c = 0; c < columns; ++c)
      for (int64_t r = 0; r < rows; ++r)
        to[r * row_stride + c * column_stride] = static_cast<T>(from[r * columns + c]);
  }
}

// The errors of sin2. u is half the spacing of the type at 1. An addition is wrong by 0.4 u of its
// result in the mean square; the estimates are 4.5 times what follows for the whole sum. A sum over
// products has n partial sums; within a block they grow to the sum of the block, in a random walk.
SIMD_CLONES inline void errors_of_float_products(int64_t rows, int64_t columns, int64_t padded,
                                                 const RowScalars &x, const ColumnScalars &y,
                                                 PairTile &s) {
  constexpr float block = kProductBlock, scale = 0.9f * 0x1p-24f;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) {
      const float inverse = static_cast<float>(x.inverse_length[r] * y.inverse_length[c]);
      const float spread = s.spread[r * padded + c] * inverse * inverse;
      const float walk = x.flatness[r] * y.flatness[c];
      s.error[r * columns + c] = scale * std::sqrt(block * (spread / 3 + walk / 6));
    }
}
SIMD_CLONES inline void errors_of_double_products(int64_t n, int64_t d, PairTile &s) {
  std::fill_n(s.error, n, 0x1p-53f * (2 + std::sqrt(float(d))));
}
SIMD_CLONES inline void errors_of_squares(int64_t n, int64_t d, PairTile &s) {
  const float size = static_cast<float>(d), block = std::min<float>(kProductBlock, size);
  const float relative = 0x1p-53f * (2 + std::sqrt(block * block / size + size / block));
  for (int64_t i = 0; i < n; ++i)
    s.error[i] = relative * static_cast<float>(s.sin2[i]);
}

// The product of two sides. redo(x, mu, n, kappa, log_prob_at_mode, log_prob) computes n <= kTile
// pairs as rows.
template <class Family, class T, class Redo> class LogProbOfProduct {
public:
  LogProbOfProduct(int64_t d, const Side<T> &rows, const Side<T> &columns, const Redo &redo)
      : d(d), dim(make_dim<double>(d)), dim_float(make_dim<float>(d)), rows(rows),
        columns(columns), redo(redo), out(static_cast<T *>(rows.operands.results[0])),
        groups((columns.size() + kPairColumns - 1) / kPairColumns) {}

  void run() {
    const int64_t most = std::clamp<int64_t>(kPackedElements / (kPairColumns * d), 1, groups);
    scalars.resize(static_cast<size_t>(most));
    packed.panels.resize(static_cast<size_t>(most * kPairColumns * d));
    if (may_be_float())
      packed_float.panels.resize(static_cast<size_t>(most * kPairColumns * d));
    const int64_t tiles = (rows.size() + kPairRows - 1) / kPairRows;
    for (int64_t first = 0; first < groups; first += most) {
      const int64_t some = std::min(groups - first, most);
      parallel_for(some, row_grain(d, 4 * kPairColumns, 0), [&](int64_t begin, int64_t end) {
        const auto scratch = std::make_unique<Scratch>();
        for (int64_t g = begin; g < end; ++g)
          pack(first, g, *scratch);
      });
      const int64_t cost = kPairRows * kPairColumns * some * (d + 64); // in units of 0.03 ns
      parallel_for(tiles, std::max<int64_t>(1, 1000000 / cost), [&](int64_t begin, int64_t end) {
        const auto scratch = std::make_unique<Scratch>();
        for (int64_t i = begin; i < end; ++i)
          row_tile(i * kPairRows, first, some, *scratch);
      });
    }
  }

private:
  using Args = LogProb<T>;
  static constexpr bool squares = !is_float32<T>;

  struct Scratch {
    PairTile pairs;
    TileRows<T> row_tile, column_tile;
    RowScalars of_rows;
    std::vector<double> wide;
  };

  bool may_be_float() const { return is_float32<T> && d >= kFloatFrom; }

  // The columns of group first + g.
  int64_t count(int64_t group) const {
    return std::min(kPairColumns, columns.size() - group * kPairColumns);
  }

  void pack(int64_t first, int64_t g, Scratch &scratch) {
    const int64_t begin = (first + g) * kPairColumns, n = count(first + g);
    const T *const *y = read_rows(columns.operands, columns.vector, begin, n, scratch.column_tile);
    packed.pack(y, n, d, g);
    if constexpr (is_float32<T>)
      if (may_be_float())
        packed_float.pack(y, n, d, g);
    ColumnScalars &to = scalars[static_cast<size_t>(g)];
    to = {};
    for (int64_t c = 0; c < n; ++c)
      measure_vector(y[c], 0, static_cast<double *>(nullptr), c, to);
    if (columns.has_kappa)
      read_laws(columns, begin, n, scratch.pairs, to);
  }

  template <int64_t most>
  void measure_vector(const T *x, int64_t ahead, double *to, int64_t i,
                      VectorScalars<most> &scalars) const {
    if (may_be_float())
      measure<true>(x, d, ahead, to, i, scalars);
    else
      measure<false>(x, d, ahead, to, i, scalars);
  }

  // Reads kappa, and computes log p(mu), of n <= kTile laws.
  template <int64_t most>
  void read_laws(const Side<T> &side, int64_t first, int64_t n, PairTile &s,
                 VectorScalars<most> &to) const {
    T kappa[kTile];
    read_concentrations<Family>(side.operands, Args::kKappa, first, n, kappa);
    std::copy(kappa, kappa + n, to.kappa);
    const bool shared = side.stride(Args::kKappa) == 0;
    OverRows<Family>::log_prob_at_mode(dim, shared ? 1 : n, kappa, to.log_prob_at_mode);
    if (shared)
      std::fill_n(to.log_prob_at_mode, n, to.log_prob_at_mode[0]);
    to.in_float = may_be_float() && is_in_float(n, to.kappa, to.log_prob_at_mode, s);
  }

  // Returns whether sums in float would be enough for most of n laws at a point in general position.
  bool is_in_float(int64_t n, const double *kappa, const double *log_prob_at_mode,
                   PairTile &s) const {
    std::copy(kappa, kappa + n, s.kappa);
    std::copy(log_prob_at_mode, log_prob_at_mode + n, s.log_prob_at_mode);
    std::fill_n(s.sin2, n, 0.5);
    std::fill_n(s.error, n, 0x1p-24f * 0.9f * std::sqrt(kProductBlock * 0.83f / float(d)));
    pair_log_probs<Family, T>(dim, n, s);
    return kFewAgain * pair_errors<Family>(dim_float, n, kAllowedInFloat, s) <= n;
  }

  void row_tile(int64_t begin, int64_t first, int64_t some, Scratch &scratch) const {
    const int64_t n = std::min(kPairRows, rows.size() - begin);
    const T *const *x = read_rows(rows.operands, rows.vector, begin, n, scratch.row_tile);
    RowScalars &of_rows = scratch.of_rows;
    scratch.wide.resize(static_cast<size_t>(kPairRows * d));
    const double *wide[kPairRows];
    const T *native[kPairRows];
    for (int64_t r = 0; r < kPairRows; ++r) {
      wide[r] = scratch.wide.data() + std::min(r, n - 1) * d;
      native[r] = x[std::min(r, n - 1)];
    }
    const int64_t ahead =
        rows.operands.is_native(rows.vector) ? kPairRows * rows.stride(rows.vector) : 0;
    for (int64_t r = 0; r < n; ++r)
      measure_vector(x[r], ahead, scratch.wide.data() + r * d, r, of_rows);
    if (rows.has_kappa)
      read_laws(rows, begin, n, scratch.pairs, of_rows);
    PairTile &s = scratch.pairs;
    for (int64_t g = 0; g < some; ++g) {
      const int64_t m = count(first + g);
      const ColumnScalars &y = scalars[static_cast<size_t>(g)];
      T *to = out + begin * rows.stride(Args::kLogProb) +
              (first + g) * kPairColumns * columns.stride(Args::kLogProb);
      spread_laws(n, m, rows.has_kappa ? &of_rows : nullptr, y, s);
      int64_t bad = n * m;
      float allowed = kAllowedInFloat;
      if constexpr (is_float32<T>)
        if (rows.has_kappa ? of_rows.in_float : y.in_float) {
          packed_float.add(native, n, m, d, g, s);
          half_angles<false>(n, m, packed_float.padded(m), of_rows, y, s);
          errors_of_float_products(n, m, packed_float.padded(m), of_rows, y, s);
          pair_log_probs<Family, T>(dim, n * m, s);
          bad = pair_errors<Family>(dim_float, n * m, allowed, s);
        }
      if (kFewAgain * bad > n * m) {
        packed.add(wide, n, m, d, g, s);
        half_angles<squares>(n, m, packed.padded(m), of_rows, y, s);
        if (squares)
          errors_of_squares(n * m, d, s);
        else
          errors_of_double_products(n * m, d, s);
        pair_log_probs<Family, T>(dim, n * m, s);
        allowed = squares ? 0x1p-50f : 0x1p-26f;
        bad = pair_errors<Family>(dim_float, n * m, allowed, s);
      }
      write_pairs(s.log_p, n, m, to, rows.stride(Args::kLogProb), columns.stride(Args::kLogProb));
      if (bad > 0)
        again(x, n, first + g, allowed, to, scratch);
    }
  }

  // Computes the pairs of a tile whose errors are not allowed as rows.
  void again(const T *const *x, int64_t n, int64_t group, float allowed, T *to,
             Scratch &scratch) const {
    const PairTile &s = scratch.pairs;
    const int64_t m = count(group);
    const T *const *y =
        read_rows(columns.operands, columns.vector, group * kPairColumns, m, scratch.column_tile);
    const T *first[kTile], *second[kTile];
    T kappa[kTile], log_prob[kTile], *place[kTile];
    double log_prob_at_mode[kTile];
    int64_t k = 0;
    for (int64_t i = 0; i < n * m; ++i) {
      if (!(s.error[i] <= allowed)) {
        const int64_t r = i / m, c = i % m;
        first[k] = x[r];
        second[k] = y[c];
        kappa[k] = static_cast<T>(s.kappa[i]);
        log_prob_at_mode[k] = s.log_prob_at_mode[i];
        place[k++] = to + r * rows.stride(Args::kLogProb) + c * columns.stride(Args::kLogProb);
      }
      if (k == kTile || (k > 0 && i == n * m - 1)) {
        redo(first, second, k, kappa, log_prob_at_mode, log_prob);
        for (int64_t j = 0; j < k; ++j)
          *place[j] = log_prob[j];
        k = 0;
      }
    }
  }

  static constexpr float kAllowedInFloat = 0x1p-25f;
  const int64_t d;
  const Dim<double> dim;
  const Dim<float> dim_float;
  const Side<T> &rows, &columns;
  const Redo &redo;
  T *const out;
  const int64_t groups; // of columns
  std::vector<ColumnScalars> scalars;
  Packed<double, std::conditional_t<squares, AddSquare, AddProduct>> packed;
  Packed<float, AddProductAndSpread> packed_float;
};

// Computes log_prob if the batch consists of all pairs of values and laws; else returns false.
template <class Family, class T, class Redo>
bool log_prob_of_pairs(const LogProb<T> &args, const Redo &redo) {
  using Args = LogProb<T>;
  const auto &rows = args.operands.rows;
  const auto pairs = find_pairs(rows, Args::kValue, Args::kMu, kFewestOfPairs);
  if (!pairs)
    return false;
  const bool by_value = rows.stride[Args::kKappa][pairs->x_dim] != 0;
  if (by_value && rows.stride[Args::kKappa][pairs->y_dim] != 0)
    return false; // a kappa for each pair
  for (int64_t product = 0; product < pairs->outer.n; ++product) {
    const Side<T> values{along(args.operands, pairs->outer, product, pairs->x_dim), Args::kValue,
                         by_value};
    const Side<T> laws{along(args.operands, pairs->outer, product, pairs->y_dim), Args::kMu,
                       !by_value};
    const bool many_values = values.size() >= laws.size();
    LogProbOfProduct<Family, T, Redo>(rows.d, many_values ? values : laws,
                                      many_values ? laws : values, redo)
        .run();
  }
  return true;
}

} // namespace spherical
