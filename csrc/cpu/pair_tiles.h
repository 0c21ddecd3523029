// All pairs of the vectors of two operands, as tiles of rows by packed columns: their half angles
// from sums of products (docs/numerics.md#all-pairs).
#pragma once
#include "../pairs.h"
#include "parallel.h"
#include "products.h"
#include "tiles.h"
#include <memory>
#include <mutex>

namespace spherical {

constexpr int64_t kFewestOfPairs = 4;        // vectors on either side
constexpr int64_t kPairRows = 48;            // of a tile
constexpr int64_t kPairColumns = 32;         // of a tile
constexpr int64_t kPackedElements = 1 << 20; // of the columns that are packed at a time

// One side of the pairs: the batch along one of its dimensions.
template <class Operands> struct Side {
  Operands operands;
  int vector;     // the operand that holds the vectors
  bool has_kappa; // whether each vector has its own concentration, or all have one

  int64_t size() const { return operands.rows.n; }
  int64_t stride(int k) const { return operands.rows.stride[k][0]; }
};

// The scalars of some vectors of one side. flatness = sqrt(sum x_i^4)/|x|^2 lies between
// 1/sqrt(d) and 1.
template <int64_t most> struct VectorScalars {
  double inverse_length[most], kappa[most];
  double at_mode[most]; // log p(mu), or its derivative
  float flatness[most];
  bool in_float; // whether products in float are tried first
};
using RowScalars = VectorScalars<kPairRows>;
using ColumnScalars = VectorScalars<kPairColumns>;

// The scalars of the pairs of a tile, [rows, columns]. Those of a row may be followed by those of
// padding, which the next row overwrites.
struct PairTile {
  static constexpr int64_t size = kPairRows * kPairColumns, room = size + kPairColumns;
  double sums[size],
      spread[size]; // rows are padded to whole vectors; spread has the type summed in
  double sin2[room], inverse[room]; // 1/(|x| |y|)
  double kappa[room], at_mode[room], log_p[room];
  float error[room];  // of sin2, then of log_p relative to max(|log_p|, 1)
  int64_t group = -1; // of columns, whose laws were spread last
};

// Sets the length, and the flatness, of vector i, and copies it to `to` as double, if that is not
// null. `ahead` elements behind it lies a vector that is fetched for later.
template <bool flat, int64_t most, class T>
SIMD_CLONES void measure_vector(const T *x, int64_t d, int64_t ahead, double *to, int64_t i,
                                VectorScalars<most> &scalars) {
  constexpr int vectors = 4;
  constexpr int64_t width = VectorOf<double>::width;
  Vector<double> squares[vectors] = {}, fourths[vectors] = {};
  double square = 0, fourth = 0;
  int64_t j = 0;
  for (; j + vectors * width <= d; j += vectors * width) {
    __builtin_prefetch(x + j + ahead);
    unrolled<vectors>([&](int v) __attribute__((always_inline)) {
      Vector<double> wide;
      load_as(x + j + v * width, wide);
      if (to)
        store(wide, to + j + v * width);
      const Vector<double> term = wide * wide;
      squares[v] += term;
      if (flat)
        fourths[v] += term * term;
    });
  }
  for (; j < d; ++j) {
    const double wide = static_cast<double>(x[j]);
    if (to)
      to[j] = wide;
    square += wide * wide;
    fourth += wide * wide * wide * wide;
  }
  square += sum_of_elements((squares[0] + squares[1]) + (squares[2] + squares[3]));
  scalars.inverse_length[i] = 1 / std::sqrt(square);
  if (!flat)
    return;
  fourth += sum_of_elements((fourths[0] + fourths[1]) + (fourths[2] + fourths[3]));
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
template <class S, bool spreads> struct Packed {
  PairSums<S, spreads> sums;
  std::unique_ptr<S[]> panels; // memory that is not used is not touched

  void reserve(int64_t groups, int64_t d) {
    panels.reset(new S[static_cast<size_t>(groups * kPairColumns * d)]);
  }

  template <class T> void pack(const T *const *columns, int64_t n, int64_t d, int64_t group) {
    S *to = panels.get() + group * kPairColumns * d;
    for (int64_t c = 0; c < n; c += 2 * sums.width)
      pack_panel(columns + c, n - c, n - c > sums.width ? 2 * sums.width : sums.width, d,
                 to + c * d);
  }
  void add(const S *const *rows, int64_t n, int64_t columns, int64_t d, int64_t group,
           PairTile &s) const {
    sums.compute(rows, 1, (n + kRowsAtOnce - 1) / kRowsAtOnce * kRowsAtOnce,
                 panels.get() + group * kPairColumns * d, sums.padded(columns), d, 0, s.sums,
                 reinterpret_cast<S *>(s.spread));
  }
};

// Sets s.inverse, and turns sums of products into half angles: x . y = |x| |y| (1 - 2 sin2).
SIMD_CLONES inline void half_angles(int64_t rows, int64_t columns, int64_t padded,
                                    const RowScalars &x, const ColumnScalars &y, PairTile &s) {
  constexpr int64_t width = VectorOf<double>::width;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; c += width) {
      Vector<double> sum, inverse;
      load(s.sums + r * padded + c, sum);
      load(y.inverse_length + c, inverse);
      inverse *= x.inverse_length[r];
      store(inverse, s.inverse + r * columns + c);
      store(0.5 - 0.5 * (sum * inverse), s.sin2 + r * columns + c);
    }
}

// Spreads the scalars of the laws, which are the rows or the columns, over the pairs.
SIMD_CLONES inline void spread_laws(int64_t rows, int64_t columns, bool by_row, const RowScalars &x,
                                    const ColumnScalars &y, PairTile &s) {
  constexpr int64_t width = VectorOf<double>::width;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; c += width) {
      Vector<double> kappa, at_mode;
      if (by_row) {
        kappa = x.kappa[r] - Vector<double>{};
        at_mode = x.at_mode[r] - Vector<double>{};
      } else {
        load(y.kappa + c, kappa);
        load(y.at_mode + c, at_mode);
      }
      store(kappa, s.kappa + r * columns + c);
      store(at_mode, s.at_mode + r * columns + c);
    }
}

// Reads scalars of the pairs of a tile, [rows, columns], from their places.
template <class T>
SIMD_CLONES void read_pairs(const T *from, int64_t row_stride, int64_t column_stride, int64_t rows,
                            int64_t columns, T *to) {
  if (column_stride == 1 && row_stride == columns) {
    for (int64_t i = 0; i < rows * columns; i += 64 / sizeof(T))
      __builtin_prefetch(from + rows * columns + i); // of the next tile
    std::copy(from, from + rows * columns, to);
    return;
  }
  for (int64_t r = 0; r < rows; ++r)
    if (column_stride == 1)
      std::copy(from + r * row_stride, from + r * row_stride + columns, to + r * columns);
    else
      for (int64_t c = 0; c < columns; ++c)
        to[r * columns + c] = from[r * row_stride + c * column_stride];
}

// Writes the scalars of the pairs of a tile, [rows, columns], to their places.
template <class S, class T>
SIMD_CLONES void write_pairs(const S *from, int64_t rows, int64_t columns, T *to,
                             int64_t row_stride, int64_t column_stride) {
  if (column_stride == 1 && row_stride == columns) {
    for (int64_t i = 0; i < rows * columns; ++i)
      to[i] = static_cast<T>(from[i]);
  } else if (column_stride == 1) {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < columns; ++c)
        to[r * row_stride + c] = static_cast<T>(from[r * columns + c]);
  } else {
    for (int64_t c = 0; c < columns; ++c)
      for (int64_t r = 0; r < rows; ++r)
        to[r * row_stride + c * column_stride] = static_cast<T>(from[r * columns + c]);
  }
}

// Calls run(rows, columns) with the two sides of each outer product of operands `value` and `mu`, the
// larger one first. Returns false if the batch does not consist of such products.
template <class Operands, class Run>
bool for_each_product(const Operands &operands, int value, int mu, int kappa, const Run &run) {
  const auto pairs = find_pairs(operands.rows, value, mu, kFewestOfPairs);
  if (!pairs)
    return false;
  const bool by_value = operands.rows.stride[kappa][pairs->x_dim] != 0;
  if (by_value && operands.rows.stride[kappa][pairs->y_dim] != 0)
    return false; // a kappa for each pair
  for (int64_t i = 0; i < pairs->outer.n; ++i) {
    const Side<Operands> values{along(operands, pairs->outer, i, pairs->x_dim), value, by_value};
    const Side<Operands> laws{along(operands, pairs->outer, i, pairs->y_dim), mu, !by_value};
    if (values.size() >= laws.size())
      run(values, laws);
    else
      run(laws, values);
  }
  return true;
}

// The product of two sides, of which some groups of columns are packed at a time. The products in
// double serve all types, those in float only float. `estimates`: whether errors are estimated.
template <class T, class Operands, bool estimates> class PairTiles {
public:
  // A tile of rows.
  struct Rows {
    int64_t begin, n;
    TileRows<T> tile;
    RowScalars scalars;
    const T *row[kPairRows]; // up to a multiple of kRowsAtOnce, the last row is repeated
    // The same as double, once they are needed.
    bool is_wide;
    const double *wide[kPairRows];
    std::vector<double> buffer;
  };

  const int64_t d;
  const Side<Operands> &rows, &columns;
  const int64_t groups; // of columns
  std::vector<ColumnScalars> scalars;
  const bool in_float; // whether there are products in float
  Packed<double, estimates && !is_float32<T>> packed;
  Packed<float, estimates> packed_float;

  PairTiles(const Side<Operands> &rows, const Side<Operands> &columns, bool in_float)
      : d(rows.operands.rows.d), rows(rows), columns(columns),
        groups((columns.size() + kPairColumns - 1) / kPairColumns),
        in_float(in_float && is_float32<T>) {}

  int64_t count(int64_t group) const { // of its columns
    return std::min(kPairColumns, columns.size() - group * kPairColumns);
  }

  // Packs the columns of groups first ... first + some - 1. set_laws(side, begin, n, scalars) reads
  // n concentrations, and what follows from them. Where there are products in float, columns are
  // packed in double when they are first needed.
  template <class SetLaws> void pack(int64_t first, int64_t some, const SetLaws &set_laws) {
    first_group = first;
    scalars.resize(static_cast<size_t>(some));
    packed.reserve(some, d);
    if (in_float)
      packed_float.reserve(some, d);
    is_wide.reset(new std::once_flag[static_cast<size_t>(some)]);
    parallel_for(some, row_grain(d, 4 * kPairColumns, 0), [&](int64_t begin, int64_t end) {
      TileRows<T> tile;
      for (int64_t g = begin; g < end; ++g) {
        const int64_t n = count(first + g);
        const T *const *y = read_group(g, tile);
        if (in_float)
          packed_float.pack(y, n, d, g);
        ColumnScalars &to = scalars[static_cast<size_t>(g)];
        to = {};
        for (int64_t c = 0; c < n; ++c)
          measure(y[c], 0, static_cast<double *>(nullptr), c, to);
        if (columns.has_kappa)
          set_laws(columns, (first + g) * kPairColumns, n, to);
      }
    });
  }

  // The columns of packed group g as rows.
  const T *const *read_group(int64_t g, TileRows<T> &tile) const {
    const int64_t group = first_group + g;
    return read_rows(columns.operands, columns.vector, group * kPairColumns, count(group), tile);
  }

  template <class SetLaws> void read(int64_t begin, Rows &to, const SetLaws &set_laws) const {
    const int64_t n = std::min(kPairRows, rows.size() - begin);
    const T *const *x = read_rows(rows.operands, rows.vector, begin, n, to.tile);
    to.begin = begin;
    to.n = n;
    to.is_wide = !in_float;
    if constexpr (is_float32<T>)
      to.buffer.resize(static_cast<size_t>(kPairRows * d));
    std::copy(x, x + n, to.row);
    for (int64_t r = 0; r < n; ++r)
      if constexpr (is_float32<T>)
        to.wide[r] = to.buffer.data() + r * d;
      else
        to.wide[r] = x[r];
    for (int64_t r = n; r % kRowsAtOnce != 0; ++r) {
      to.row[r] = to.row[n - 1];
      to.wide[r] = to.wide[n - 1];
    }
    const bool native = rows.operands.is_native(rows.vector);
    const int64_t ahead = native ? kPairRows * rows.stride(rows.vector) : 0;
    for (int64_t r = 0; r < n; ++r)
      measure(x[r], ahead, is_float32<T> && to.is_wide ? to.buffer.data() + r * d : nullptr, r,
              to.scalars);
    if (rows.has_kappa)
      set_laws(rows, begin, n, to.scalars);
  }

  template <int64_t most>
  void measure(const T *x, int64_t ahead, double *to, int64_t i,
               VectorScalars<most> &to_scalars) const {
    if (estimates && (in_float || !is_float32<T>))
      measure_vector<true>(x, d, ahead, to, i, to_scalars);
    else
      measure_vector<false>(x, d, ahead, to, i, to_scalars);
  }

  // Sets s.sin2 of the pairs of x with packed group g, from products in float or in double.
  void set_half_angles(Rows &x, int64_t g, bool float_products, PairTile &s) {
    const int64_t n = count(first_group + g);
    const ColumnScalars &y = scalars[static_cast<size_t>(g)];
    if constexpr (is_float32<T>)
      if (float_products) {
        packed_float.add(x.row, x.n, n, d, g, s);
        return half_angles(x.n, n, packed_float.sums.padded(n), x.scalars, y, s);
      }
    std::call_once(is_wide[static_cast<size_t>(g)], [&] {
      TileRows<T> tile;
      packed.pack(read_group(g, tile), n, d, g);
    });
    if constexpr (is_float32<T>)
      for (int64_t r = x.is_wide ? x.n : 0; r < x.n; ++r)
        read_stored(Storage::float32, x.row[r], d, x.buffer.data() + r * d);
    x.is_wide = true;
    packed.add(x.wide, x.n, n, d, g, s);
    half_angles(x.n, n, packed.sums.padded(n), x.scalars, y, s);
  }

private:
  int64_t first_group = 0;
  std::unique_ptr<std::once_flag[]> is_wide;
};

} // namespace spherical
