// The columns of a tile.
#include "tile.h"

namespace spherical {
namespace {

constexpr int kBlock = 4;

// Reads elements i to i + 3 of four rows, and makes them rows r to r + 3 of the columns.
template <class T>
HD_INLINE void read_block(const T *const (&rows)[kBlock], int64_t i, int64_t r,
                          Columns<T> &columns) {
  using V = Vector<T, kBlock * sizeof(T)>;
  V a, b, c, d;
  load(rows[0] + i, a);
  load(rows[1] + i, b);
  load(rows[2] + i, c);
  load(rows[3] + i, d);
  const V ac = __builtin_shufflevector(a, c, 0, 4, 1, 5),
          bd = __builtin_shufflevector(b, d, 0, 4, 1, 5);
  const V ac2 = __builtin_shufflevector(a, c, 2, 6, 3, 7),
          bd2 = __builtin_shufflevector(b, d, 2, 6, 3, 7);
  store(V(__builtin_shufflevector(ac, bd, 0, 4, 1, 5)), columns.at[i] + r);
  store(V(__builtin_shufflevector(ac, bd, 2, 6, 3, 7)), columns.at[i + 1] + r);
  store(V(__builtin_shufflevector(ac2, bd2, 0, 4, 1, 5)), columns.at[i + 2] + r);
  store(V(__builtin_shufflevector(ac2, bd2, 2, 6, 3, 7)), columns.at[i + 3] + r);
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
    for (int64_t i = 0; i < d; i += kBlock)
      read_block(block, std::min(i, d - kBlock), r, columns);
  }
}

} // namespace

template <class T> void Columns<T>::read(const T *const *rows, int64_t n, int64_t d) {
  read_columns(rows, n, d, *this);
}

template void Columns<float>::read(const float *const *, int64_t, int64_t);
template void Columns<double>::read(const double *const *, int64_t, int64_t);

} // namespace spherical
