// log_prob of all pairs of a value and a law, at the speed of a matrix product.
//
// Sums over products give the half angles of all pairs (docs/numerics.md#all-pairs). Their errors
// are absolute, where those of a row are relative. The pairs for which that counts are done again.
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

// One side of the pairs: the batch along one of its dimensions.
template <class T> struct Side {
  RowOperands<T, 3, 1> operands;
  int vector; // the operand that holds the vectors
  bool has_kappa;

  int64_t size() const { return operands.rows.n; }
  int64_t stride(int k) const { return operands.rows.stride[k][0]; }
};

// The scalars of vectors of one side.
template <int64_t most> struct PairScalars {
  double length[most], inverse_length[most], kappa[most], log_prob_at_mode[most];
};

// What is needed of the columns of a tile, beside the packed vectors.
using ColumnScalars = PairScalars<kPairColumns>;

// The scalars of the pairs of a tile: [rows, columns].
struct PairTile {
  static constexpr int64_t most = kPairRows * kPairColumns;
  double sums[most];                           // rows are padded
  double sin2[most + VectorOf<double>::width]; // the others are not
  double kappa[most + VectorOf<double>::width], log_prob_at_mode[most + VectorOf<double>::width],
      log_p[most];
  float error[most];
};

// to[i] = from[i], in double; returns the length of the vector.
template <class T>
SIMD_CLONES double widen(const T *from, int64_t d, double *to, int64_t ahead = 0) {
  constexpr int64_t width = VectorOf<double>::width;
  constexpr int vectors = 4;
  Vector<double> sums[vectors] = {};
  double sum = 0;
  int64_t i = 0;
  for (; i + vectors * width <= d; i += vectors * width)
    for (int v = 0; v < vectors; ++v) {
      typename VectorOf<T, int(width) * int(sizeof(T))>::type narrow;
      if (v == 0)
        __builtin_prefetch(from + i + ahead);
      memcpy(&narrow, from + i + v * width, sizeof narrow);
      const auto x = __builtin_convertvector(narrow, Vector<double>);
      store(x, to + i + v * width);
      sums[v] += x * x;
    }
  for (; i < d; ++i) {
    const double x = static_cast<double>(from[i]);
    to[i] = x;
    sum += x * x;
  }
  const Vector<double> all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  for (int l = 0; l < width; ++l)
    sum += all[l];
  return std::sqrt(sum);
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

template <class T, class S>
void pack_panels(const T *const *rows, int64_t n, int64_t width, int64_t d, S *to) {
  for (int64_t c = 0; c < n; c += 2 * width)
    pack_panel(rows + c, n - c, n - c > width ? 2 * width : width, d, to + c * d);
}

// Turns the sums over products, or over squares of differences, into half angles:
//   x . y = |x| |y| (1 - 2 sin2),   |x - y|^2 - (|x| - |y|)^2 = 4 |x| |y| sin2,
// and spreads kappa and log_prob_at_mode over the pairs.
template <bool squares, bool rows_have_kappa, class Rows>
SIMD_CLONES void half_angles(int64_t rows, int64_t columns, int64_t padded, const Rows &x,
                             const ColumnScalars &y, PairTile &s) {
  constexpr int64_t width = VectorOf<double>::width;
  for (int64_t r = 0; r < rows; ++r) {
    const double *sums = s.sums + r * padded;
    double *sin2 = s.sin2 + r * columns, *kappa = s.kappa + r * columns,
           *log_prob_at_mode = s.log_prob_at_mode + r * columns;
    // Whole vectors: the next row overwrites what lies beyond this one.
    for (int64_t c = 0; c < columns; c += width) {
      Vector<double> sum, length, inverse, of_law;
      load(sums + c, sum);
      load(y.length + c, length);
      load(y.inverse_length + c, inverse);
      inverse *= x.inverse_length[r];
      const Vector<double> apart = x.length[r] - length;
      store(squares ? 0.25 * ((sum - apart * apart) * inverse) : 0.5 - 0.5 * (sum * inverse),
            sin2 + c);
      load(y.kappa + c, of_law);
      store(rows_have_kappa ? x.kappa[r] - Vector<double>{} : of_law, kappa + c);
      load(y.log_prob_at_mode + c, of_law);
      store(rows_have_kappa ? x.log_prob_at_mode[r] - Vector<double>{} : of_law,
            log_prob_at_mode + c);
    }
  }
}

template <class Family>
SIMD_CLONES FLATTEN void pair_log_probs(const Dim<double> &dim, int64_t n, PairTile &s) {
  for (int64_t i = 0; i < n; ++i)
    s.log_p[i] =
        s.log_prob_at_mode[i] +
        Family::log_prob_ratio(s.kappa[i], dim, HalfAngle<double>{s.sin2[i], 1 - s.sin2[i]});
}

// error[i] of log_p[i], relative to max(|log p|, 1), where sin2 has the error
// absolute + relative * sin2. Returns whether all are at most `allowed`.
template <class Family>
SIMD_CLONES FLATTEN bool pair_errors(const Dim<float> &dim, int64_t n, float absolute,
                                     float relative, float allowed, PairTile &s) {
  int bad = 0;
  for (int64_t i = 0; i < n; ++i) {
    const float sin2 = static_cast<float>(s.sin2[i]);
    const float cos2 = static_cast<float>(1 - s.sin2[i]);
    const float size = static_cast<float>(std::fabs(s.log_p[i]));
    const float slope = Family::log_prob_ratio_dt(static_cast<float>(s.kappa[i]), dim,
                                                  HalfAngle<float>{sin2, cos2});
    const float error = 2 * slope * (absolute + relative * sin2) / (size > 1 ? size : 1.0f);
    s.error[i] = cos2 < 0x1p-20f ? float(HUGE_VAL) : error;
    bad += !(s.error[i] <= allowed);
  }
  return bad == 0;
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

// Reads kappa, and computes log p(mu), of n <= kTile laws.
template <class Family, class T, int64_t most>
void read_laws(const Dim<double> &dim, const Side<T> &side, int k, int64_t first, int64_t n,
               PairScalars<most> &to) {
  T kappa[kTile];
  read_scalars(side.operands, k, first, n, kappa);
  std::copy(kappa, kappa + n, to.kappa);
  const bool shared = side.stride(k) == 0;
  OverRows<Family>::log_prob_at_mode(dim, shared ? 1 : n, kappa, to.log_prob_at_mode);
  if (shared)
    std::fill_n(to.log_prob_at_mode, n, to.log_prob_at_mode[0]);
}

template <class Family, class T, class Redo>
void log_prob_of_product(int64_t d, const Side<T> &rows, const Side<T> &columns, const Redo &redo) {
  using Args = LogProb<T>;
  constexpr bool squares = !is_float32<T>;
  const auto dim = make_dim<double>(d);
  const auto dim_float = convert_dim<float>(dim);
  const PairSums<double, std::conditional_t<squares, AddSquare, AddProduct>> sums;

  constexpr double eps = 0x1p-53;
  const double block = static_cast<double>(std::min(d, kProductBlock)), size = double(d);
  const float absolute = squares ? 0.0f : static_cast<float>(2 * eps * (2 + std::sqrt(size)));
  const float relative =
      squares ? static_cast<float>(eps * (2 + std::sqrt(block * block / size + size / block)))
              : 0.0f;
  const float allowed = squares ? 0x1p-50f : 0x1p-26f;

  T *const out = static_cast<T *>(rows.operands.results[0]);
  const int64_t row_stride = rows.stride(Args::kLogProb);
  const int64_t column_stride = columns.stride(Args::kLogProb);
  const int64_t groups = (columns.size() + kPairColumns - 1) / kPairColumns;
  const int64_t row_tiles = (rows.size() + kPairRows - 1) / kPairRows;
  const int64_t most = std::clamp<int64_t>(kPackedElements / (kPairColumns * d), 1, groups);
  std::vector<double> panels(static_cast<size_t>(most * kPairColumns * d));
  std::vector<ColumnScalars> scalars(static_cast<size_t>(most));
  const auto padded = [&sums](int64_t n) { return (n + sums.width - 1) / sums.width * sums.width; };

  for (int64_t begin_group = 0; begin_group < groups; begin_group += most) {
    const int64_t end_group = std::min(groups, begin_group + most);
    const auto first_column = [](int64_t group) { return group * kPairColumns; };
    const auto count = [&](int64_t group) {
      return std::min(kPairColumns, columns.size() - first_column(group));
    };
    parallel_for(end_group - begin_group, row_grain(d, 4 * kPairColumns, 0),
                 [&](int64_t begin, int64_t end) {
                   TileRows<T> tile;
                   std::vector<double> wide(static_cast<size_t>(d));
                   for (int64_t g = begin; g < end; ++g) {
                     const int64_t first = first_column(begin_group + g),
                                   n = count(begin_group + g);
                     const T *const *y =
                         read_rows(columns.operands, columns.vector, first, n, tile);
                     pack_panels(y, n, sums.width, d, panels.data() + g * kPairColumns * d);
                     ColumnScalars &to = scalars[static_cast<size_t>(g)];
                     to = {};
                     for (int64_t c = 0; c < n; ++c) {
                       to.length[c] = widen(y[c], d, wide.data());
                       to.inverse_length[c] = 1 / to.length[c];
                     }
                     if (columns.has_kappa)
                       read_laws<Family>(dim, columns, Args::kKappa, first, n, to);
                   }
                 });

    const int64_t grain = std::max<int64_t>(
        1, 1000000 / (kPairRows * kPairColumns * (end_group - begin_group) * (d + 64)));
    parallel_for(row_tiles, grain, [&](int64_t begin, int64_t end) {
      const auto scratch = std::make_unique<PairTile>();
      PairTile &s = *scratch;
      TileRows<T> tile, redone;
      std::vector<double> wide(static_cast<size_t>(kPairRows * d));
      const double *x[kPairRows];
      PairScalars<kPairRows> of_rows;
      for (int64_t first = begin * kPairRows; first < std::min(rows.size(), end * kPairRows);
           first += kPairRows) {
        const int64_t n = std::min(kPairRows, rows.size() - first);
        const T *const *from = read_rows(rows.operands, rows.vector, first, n, tile);
        for (int64_t r = 0; r < n; ++r) {
          x[r] = wide.data() + r * d;
          of_rows.length[r] = widen(from[r], d, wide.data() + r * d, kPairRows * rows.stride(rows.vector));
          of_rows.inverse_length[r] = 1 / of_rows.length[r];
        }
        const int64_t n_padded = (n + kRowsAtOnce - 1) / kRowsAtOnce * kRowsAtOnce;
        std::fill(x + n, x + n_padded, x[n - 1]);
        if (rows.has_kappa)
          read_laws<Family>(dim, rows, Args::kKappa, first, n, of_rows);
        for (int64_t g = begin_group; g < end_group; ++g) {
          const int64_t m = count(g), m_padded = padded(m);
          const ColumnScalars &y = scalars[static_cast<size_t>(g - begin_group)];
          sums.compute(x, n_padded, panels.data() + (g - begin_group) * kPairColumns * d, m_padded,
                       d, s.sums);
          if (rows.has_kappa)
            half_angles<squares, true>(n, m, m_padded, of_rows, y, s);
          else
            half_angles<squares, false>(n, m, m_padded, of_rows, y, s);
          pair_log_probs<Family>(dim, n * m, s);
          T *to = out + first * row_stride + first_column(g) * column_stride;
          write_pairs(s.log_p, n, m, to, row_stride, column_stride);
          if (pair_errors<Family>(dim_float, n * m, absolute, relative, allowed, s))
            continue;
          const T *redo_x[kTile], *redo_y[kTile];
          T kappa[kTile], log_prob[kTile];
          double log_prob_at_mode[kTile];
          T *place[kTile];
          int64_t k = 0;
          const auto flush = [&] {
            if (k > 0)
              redo(redo_x, redo_y, k, kappa, log_prob_at_mode, log_prob);
            for (int64_t i = 0; i < k; ++i)
              *place[i] = log_prob[i];
            k = 0;
          };
          const T *const *all =
              read_rows(columns.operands, columns.vector, first_column(g), m, redone);
          for (int64_t r = 0; r < n; ++r)
            for (int64_t c = 0; c < m; ++c) {
              const int64_t p = r * m + c;
              if (s.error[p] <= allowed)
                continue;
              redo_x[k] = from[r];
              redo_y[k] = all[c];
              kappa[k] = static_cast<T>(s.kappa[p]);
              log_prob_at_mode[k] = s.log_prob_at_mode[p];
              place[k] = to + r * row_stride + c * column_stride;
              if (++k == kTile)
                flush();
            }
          flush();
        }
      }
    });
  }
}

// Computes log_prob if the batch consists of all pairs of values and laws; else returns false.
// redo(x, mu, n, kappa, log_prob_at_mode, log_prob) computes n <= kTile of them as rows.
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
    if (values.size() >= laws.size())
      log_prob_of_product<Family>(rows.d, values, laws, redo);
    else
      log_prob_of_product<Family>(rows.d, laws, values, redo);
  }
  return true;
}

} // namespace spherical
