// The columns of a tile.
#include "tile.h"

namespace spherical {
namespace {

constexpr int kBlock = 4;

// to[k][i] = from[i][k], for four vectors of four elements.
template <class T>
HD_INLINE void transpose(const T *const (&from)[kBlock], T *const (&to)[kBlock]) {
  using V = Vector<T, kBlock * sizeof(T)>;
  V a, b, c, d;
  load(from[0], a);
  load(from[1], b);
  load(from[2], c);
  load(from[3], d);
  const V ac = __builtin_shufflevector(a, c, 0, 4, 1, 5),
          bd = __builtin_shufflevector(b, d, 0, 4, 1, 5);
  const V ac2 = __builtin_shufflevector(a, c, 2, 6, 3, 7),
          bd2 = __builtin_shufflevector(b, d, 2, 6, 3, 7);
  store(V(__builtin_shufflevector(ac, bd, 0, 4, 1, 5)), to[0]);
  store(V(__builtin_shufflevector(ac, bd, 2, 6, 3, 7)), to[1]);
  store(V(__builtin_shufflevector(ac2, bd2, 0, 4, 1, 5)), to[2]);
  store(V(__builtin_shufflevector(ac2, bd2, 2, 6, 3, 7)), to[3]);
}

template <class T>
SIMD_CLONES void read_columns(const T *const *rows, int64_t n, int64_t d, Columns<T> &columns) {
  if (is_one_row(rows, n)) {
    for (int64_t i = 0; i < d; ++i)
      std::fill_n(columns.at[i], n, rows[0][i]);
    return;
  }
  if (d < kBlock)
    return with_width(d, [&](auto width) __attribute__((always_inline)) {
      for (int64_t r = 0; r < n; ++r)
        for (int64_t i = 0; i < width; ++i)
          columns.at[i][r] = rows[r][i];
    });
  for (int64_t r = 0; r < n; r += kBlock) {
    const T *block[kBlock];
    for (int k = 0; k < kBlock; ++k)
      block[k] = rows[std::min(r + k, n - 1)];
    for (int64_t begin = 0; begin < d; begin += kBlock) {
      const int64_t i = std::min(begin, d - kBlock); // the last block may overlap the one before
      transpose<T>(
          {block[0] + i, block[1] + i, block[2] + i, block[3] + i},
          {columns.at[i] + r, columns.at[i + 1] + r, columns.at[i + 2] + r, columns.at[i + 3] + r});
    }
  }
}

template <class T>
SIMD_CLONES void write_columns(const Columns<T> &columns, T *const *rows, int64_t n, int64_t d) {
  const int64_t whole = d < kBlock ? 0 : n / kBlock * kBlock; // rows in blocks
  for (int64_t r = 0; r < whole; r += kBlock)
    for (int64_t begin = 0; begin < d; begin += kBlock) {
      const int64_t i = std::min(begin, d - kBlock);
      transpose<T>(
          {columns.at[i] + r, columns.at[i + 1] + r, columns.at[i + 2] + r, columns.at[i + 3] + r},
          {rows[r] + i, rows[r + 1] + i, rows[r + 2] + i, rows[r + 3] + i});
    }
  with_width(d, [&](auto width) __attribute__((always_inline)) {
    for (int64_t r = whole; r < n; ++r)
      for (int64_t i = 0; i < width; ++i)
        rows[r][i] = columns.at[i][r];
  });
}

} // namespace

template <class T> void Columns<T>::read(const T *const *rows, int64_t n, int64_t d) {
  read_columns(rows, n, d, *this);
}

template <class T> void Columns<T>::write(T *const *rows, int64_t n, int64_t d) const {
  write_columns(*this, rows, n, d);
}

template struct Columns<float>;
template struct Columns<double>;

} // namespace spherical
