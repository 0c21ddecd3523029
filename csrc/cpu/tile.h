// A tile is a few neighbouring rows that are worked on together. Calls and loops over their scalars
// then cost little, and the rows stay in the first cache until they are read again.
#pragma once
#include "simd.h"

namespace spherical {

constexpr int64_t kTile = 64; // the most rows of a tile

inline int64_t tile_rows(int64_t d) { return std::clamp<int64_t>(2048 / d, 1, kTile); }

// Narrow rows are worked on by columns, so that loops over the rows of a tile vectorise.
constexpr int64_t kColumnwiseBelow = 16; // elements of a row

// Calls f(d), for the narrowest rows with a constant, so that loops over them are unrolled.
template <class F> HD_INLINE void with_width(int64_t d, const F &f) {
  if (d == 2)
    f(std::integral_constant<int64_t, 2>());
  else if (d == 3)
    f(std::integral_constant<int64_t, 3>());
  else if (d == 4)
    f(std::integral_constant<int64_t, 4>());
  else
    f(d);
}

// The columns of a tile of narrow rows: at[i][r] is element i of row r.
template <class T> struct Columns {
  T at[kColumnwiseBelow][kTile];

  // D is int64_t, or one of the constants of with_width. rows is [n] pointers to [d].
  template <class D> HD_INLINE void read(const T *const *rows, int64_t n, D d) {
    bool shared = true;
    for (int64_t r = 0; r < n; ++r)
      shared &= rows[r] == rows[0];
    if (shared) {
      for (int64_t i = 0; i < d; ++i)
        std::fill_n(at[i], n, rows[0][i]);
      return;
    }
    if (d < kBlock) {
      for (int64_t r = 0; r < n; ++r)
        for (int64_t i = 0; i < d; ++i)
          at[i][r] = rows[r][i];
      return;
    }
    for (int64_t r = 0; r < n; r += kBlock) {
      const T *block[kBlock];
      for (int k = 0; k < kBlock; ++k)
        block[k] = rows[std::min(r + k, n - 1)];
      for (int64_t i = 0; i < d; i += kBlock)
        read_block(block, std::min(i, d - kBlock), r);
    }
  }

private:
  static constexpr int kBlock = 4;

  // Reads elements i to i + 3 of four rows, and makes them rows r to r + 3 of the columns.
  HD_INLINE void read_block(const T *const (&rows)[kBlock], int64_t i, int64_t r) {
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
    store(V(__builtin_shufflevector(ac, bd, 0, 4, 1, 5)), at[i] + r);
    store(V(__builtin_shufflevector(ac, bd, 2, 6, 3, 7)), at[i + 1] + r);
    store(V(__builtin_shufflevector(ac2, bd2, 0, 4, 1, 5)), at[i + 2] + r);
    store(V(__builtin_shufflevector(ac2, bd2, 2, 6, 3, 7)), at[i + 3] + r);
  }
};

// out[r] = a[r] x[r] + b[r] y[r] for each row of a tile. x, y and out are [n] pointers to [d].
template <class S, class T>
SIMD_CLONES void combine_rows(const S *a, const T *const *x, const S *b, const T *const *y,
                              int64_t n, int64_t d, T *const *out) {
  with_width(d, [=](auto width) __attribute__((always_inline)) {
    for (int64_t r = 0; r < n; ++r) {
      const T ar = static_cast<T>(a[r]), br = static_cast<T>(b[r]), *xr = x[r], *yr = y[r];
      T *to = out[r];
      for (int64_t i = 0; i < width; ++i)
        to[i] = ar * xr[i] + br * yr[i];
    }
  });
}

} // namespace spherical
