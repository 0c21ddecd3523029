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
#include "sums.h"
#include "tiles.h"
#include <memory>

namespace spherical {

constexpr int64_t kFewestOfPairs = 4;        // vectors on either side
constexpr int64_t kPairRows = 48;            // of a tile
constexpr int64_t kPairColumns = 32;         // of a tile
constexpr int64_t kPackedElements = 1 << 20; // of the columns that are packed at a time

// The vectors of one side of the pairs, along one dimension of the batch.
template <class T, class Operands> struct Side {
  Operands operands;
  int vector; // the operand that holds the vectors
  bool has_kappa;

  int64_t size() const { return operands.rows.n; }
};

// What the columns of all tiles share.
struct PackedColumns {
  std::vector<double> panels, length, kappa, log_prob_at_mode;
};

// The scalars of the pairs of one tile.
struct PairTile {
  static constexpr int64_t most = kPairRows * kPairColumns;
  double sums[most], sin2[most], kappa[most], log_prob_at_mode[most], log_p[most];
  float error[most];
};

// length[r] = |row r|.
template <class T>
SIMD_CLONES void lengths(const T *const *rows, int64_t n, int64_t d, double *length) {
  for (int64_t r = 0; r < n; ++r) {
    const T *row = rows[r];
    double sum[1];
    row_sums<double, 1>(d, sum, [=](int64_t i, double(&term)[1]) __attribute__((always_inline)) {
      term[0] = double(row[i]) * double(row[i]);
    });
    length[r] = std::sqrt(sum[0]);
  }
}

template <class T> SIMD_CLONES void widen(const T *from, int64_t n, double *to) {
  for (int64_t i = 0; i < n; ++i)
    to[i] = static_cast<double>(from[i]);
}

// The number of columns that a tile computes: whole vectors.
inline int64_t padded_columns(int64_t columns) {
  constexpr int64_t width = VectorOf<double>::width;
  return (columns + width - 1) / width * width;
}

// to[i, l] = element i of row l, for `lanes` rows of which the last may be repeated.
template <class T>
SIMD_CLONES void pack(const T *const *rows, int64_t n, int64_t lanes, int64_t d, double *to) {
  constexpr int64_t block = 16;
  for (int64_t begin = 0; begin < d; begin += block)
    for (int64_t l = 0; l < lanes; ++l) {
      const T *row = rows[std::min(l, n - 1)];
      for (int64_t i = begin; i < std::min(d, begin + block); ++i)
        to[i * lanes + l] = static_cast<double>(row[i]);
    }
}

// Packs the columns of a tile as panels of kPanel columns; the last may be half as wide.
template <class T> void pack_panels(const T *const *rows, int64_t n, int64_t d, double *to) {
  const int64_t padded = padded_columns(n);
  for (int64_t c = 0; c < padded; c += kPanel<double>) {
    const int64_t lanes = std::min(padded - c, kPanel<double>);
    pack(rows + c, n - c, lanes, d, to + c * d);
  }
}

// sums[r, c] over x_i y_i, or over (x_i - y_i)^2, of n rows x and packed columns y. n is a multiple
// of kRowsAtOnce.
template <bool squares>
SIMD_CLONES void pair_sums(const double *const *rows, int64_t n, const double *panels,
                           int64_t padded, int64_t d, double *sums) {
  constexpr int64_t width = VectorOf<double>::width;
  const auto term = [](const Vector<double> &x, const Vector<double> &y, Vector<double> &out)
                        __attribute__((always_inline)) {
    if constexpr (squares) {
      const Vector<double> minus = x - y;
      out = minus * minus;
    } else {
      out = x * y;
    }
  };
  std::fill_n(sums, n * padded, 0.0);
  for (int64_t c = 0; c < padded; c += kPanel<double>)
    for (int64_t r = 0; r < n; r += kRowsAtOnce) {
      const double *panel = panels + c * d;
      double *to = sums + r * padded + c;
      const auto scalar = [=](int64_t k, int64_t i) __attribute__((always_inline)) {
        return rows[r + k][i];
      };
      if (padded - c > width)
        add_sums<double, 2>(d, scalar, [=](int64_t i) __attribute__((always_inline)) {
          return panel + i * kPanel<double>; }, term, to, padded);
      else
        add_sums<double, 1>(d, scalar, [=](int64_t i) __attribute__((always_inline)) {
          return panel + i * width; }, term, to, padded);
    }
}

// sin2[r, c] from the sums over products or squares and the lengths of rows and columns:
//   x . y = |x| |y| (1 - 2 sin2),   |x - y|^2 - (|x| - |y|)^2 = 4 |x| |y| sin2.
template <bool squares>
SIMD_CLONES void half_angles(const double *sums, int64_t rows, int64_t columns, int64_t padded,
                             const double *x, const double *y, double *sin2) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) {
      const double sum = sums[r * padded + c], apart = x[r] - y[c], product = x[r] * y[c];
      sin2[r * columns + c] =
          squares ? (sum - apart * apart) / (4 * product) : 0.5 - 0.5 * (sum / product);
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
// absolute + relative * sin2.
template <class Family>
SIMD_CLONES FLATTEN void pair_errors(const Dim<float> &dim, int64_t n, float absolute,
                                     float relative, PairTile &s) {
  for (int64_t i = 0; i < n; ++i) {
    const float sin2 = static_cast<float>(s.sin2[i]);
    const float cos2 = static_cast<float>(1 - s.sin2[i]);
    const float size = static_cast<float>(std::fabs(s.log_p[i]));
    const float slope = Family::log_prob_ratio_dt(static_cast<float>(s.kappa[i]), dim,
                                                  HalfAngle<float>{sin2, cos2});
    const float error = 2 * slope * (absolute + relative * sin2) / (size > 1 ? size : 1.0f);
    s.error[i] = cos2 < 0x1p-20f ? float(HUGE_VAL) : error;
  }
}

template <class Family, class T, class Operands>
void read_laws(const Dim<double> &dim, const Operands &operands, int k, int64_t first, int64_t n,
               double *kappa, double *log_prob_at_mode) {
  const bool shared = operands.rows.is_shared(k);
  T read[kTile];
  for (int64_t begin = 0; begin < n; begin += kTile) {
    const int64_t some = std::min(kTile, n - begin);
    read_scalars(operands, k, first + begin, some, read);
    OverRows<Family>::log_prob_at_mode(dim, shared ? 1 : some, read, log_prob_at_mode + begin);
    if (shared)
      std::fill_n(log_prob_at_mode + begin, some, log_prob_at_mode[begin]);
    std::copy(read, read + some, kappa + begin);
  }
}

template <class Family, class T, class Redo>
void log_prob_of_product(const LogProb<T> &args, const Side<T, RowOperands<T, 3, 1>> &rows,
                         const Side<T, RowOperands<T, 3, 1>> &columns, const Redo &redo) {
  using Args = LogProb<T>;
  constexpr bool squares = !is_float32<T>;
  const int64_t d = args.operands.rows.d;
  const auto dim = make_dim<double>(d);
  const Dim<float> dim_float = convert_dim<float>(dim);
  constexpr double eps = 0x1p-52;
  const float absolute = squares ? 0.0f : static_cast<float>(eps * (2 + std::sqrt(double(d))));
  const float relative = squares ? static_cast<float>(eps) : 0.0f;
  const float allowed = squares ? 0x1p-50f : 0x1p-26f;
  const int64_t most = std::max<int64_t>(kPackedElements / d / kPairColumns, 1) * kPairColumns;
  T *const out = static_cast<T *>(rows.operands.results[0]);
  const int64_t row_stride = rows.operands.rows.stride[Args::kLogProb][0];
  const int64_t column_stride = columns.operands.rows.stride[Args::kLogProb][0];
  PackedColumns packed;
  for (int64_t done = 0; done < columns.size(); done += most) {
    const int64_t count = std::min(most, columns.size() - done);
    const int64_t tiles = (count + kPairColumns - 1) / kPairColumns;
    packed.panels.resize(static_cast<size_t>(padded_columns(count) * d));
    for (auto *scalars : {&packed.length, &packed.kappa, &packed.log_prob_at_mode})
      scalars->resize(static_cast<size_t>(count));
    parallel_for(tiles, row_grain(d, kPairColumns * 4, 0), [&](int64_t begin, int64_t end) {
      TileRows<T> tile;
      for (int64_t i = begin * kPairColumns; i < std::min(count, end * kPairColumns);
           i += kPairColumns) {
        const int64_t n = std::min(kPairColumns, count - i);
        const T *const *from = read_rows(columns.operands, columns.vector, done + i, n, tile);
        pack_panels(from, n, d, packed.panels.data() + i * d);
        lengths(from, n, d, packed.length.data() + i);
        if (columns.has_kappa)
          read_laws<Family, T>(dim, columns.operands, Args::kKappa, done + i, n,
                               packed.kappa.data() + i, packed.log_prob_at_mode.data() + i);
      }
    });
    const int64_t row_tiles = (rows.size() + kPairRows - 1) / kPairRows;
    const int64_t grain = std::max<int64_t>(1, 1000000 / (kPairRows * count * (d + 64)));
    parallel_for(row_tiles, grain, [&](int64_t begin, int64_t end) {
      const auto scratch = std::make_unique<PairTile>();
      PairTile &s = *scratch;
      TileRows<T> tile, column_tile;
      std::vector<double> wide;
      const double *x[kPairRows];
      double length[kPairRows], kappa[kPairRows], log_prob_at_mode[kPairRows];
      for (int64_t first = begin * kPairRows; first < std::min(rows.size(), end * kPairRows);
           first += kPairRows) {
        const int64_t n = std::min(kPairRows, rows.size() - first);
        const T *const *from = read_rows(rows.operands, rows.vector, first, n, tile);
        lengths(from, n, d, length);
        if constexpr (is_float32<T>) {
          wide.resize(static_cast<size_t>(n * d));
          for (int64_t r = 0; r < n; ++r) {
            widen(from[r], d, wide.data() + r * d);
            x[r] = wide.data() + r * d;
          }
        } else {
          std::copy(from, from + n, x);
        }
        const int64_t padded_n = (n + kRowsAtOnce - 1) / kRowsAtOnce * kRowsAtOnce;
        std::fill(x + n, x + padded_n, x[n - 1]);
        if (rows.has_kappa)
          read_laws<Family, T>(dim, rows.operands, Args::kKappa, first, n, kappa,
                               log_prob_at_mode);
        for (int64_t i = 0; i < count; i += kPairColumns) {
          const int64_t m = std::min(kPairColumns, count - i), padded = padded_columns(m);
          pair_sums<squares>(x, padded_n, packed.panels.data() + i * d, padded, d, s.sums);
          half_angles<squares>(s.sums, n, m, padded, length, packed.length.data() + i, s.sin2);
          for (int64_t r = 0; r < n; ++r) {
            if (rows.has_kappa) {
              std::fill_n(s.kappa + r * m, m, kappa[r]);
              std::fill_n(s.log_prob_at_mode + r * m, m, log_prob_at_mode[r]);
            } else {
              std::copy_n(packed.kappa.data() + i, m, s.kappa + r * m);
              std::copy_n(packed.log_prob_at_mode.data() + i, m, s.log_prob_at_mode + r * m);
            }
          }
          pair_log_probs<Family>(dim, n * m, s);
          pair_errors<Family>(dim_float, n * m, absolute, relative, s);
          T *to = out + first * row_stride + (done + i) * column_stride;
          if (column_stride == 1) {
            for (int64_t r = 0; r < n; ++r)
              for (int64_t c = 0; c < m; ++c)
                to[r * row_stride + c] = static_cast<T>(s.log_p[r * m + c]);
          } else {
            for (int64_t c = 0; c < m; ++c)
              for (int64_t r = 0; r < n; ++r)
                to[r * row_stride + c * column_stride] = static_cast<T>(s.log_p[r * m + c]);
          }
          for (int64_t p = 0; p < n * m; ++p)
            if (!(s.error[p] <= allowed)) {
              const int64_t r = p / m, c = p % m;
              const T *y = *read_rows(columns.operands, columns.vector, done + i + c, 1, column_tile);
              to[r * row_stride + c * column_stride] = redo(from[r], y, static_cast<T>(s.kappa[p]), s.log_prob_at_mode[p]);
            }
        }
      }
    });
  }
}

// Computes log_prob if the batch consists of all pairs of values and laws; else returns false.
// redo(x, mu, kappa, log_prob_at_mode) returns log p of one pair as a row.
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
    using SideOf = Side<T, RowOperands<T, 3, 1>>;
    const SideOf values{along(args.operands, pairs->outer, product, pairs->x_dim), Args::kValue, by_value};
    const SideOf laws{along(args.operands, pairs->outer, product, pairs->y_dim), Args::kMu, !by_value};
    if (values.size() >= laws.size())
      log_prob_of_product<Family>(args, values, laws, redo);
    else
      log_prob_of_product<Family>(args, laws, values, redo);
  }
  return true;
}

} // namespace spherical
