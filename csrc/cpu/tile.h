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

// Returns whether the n rows of a tile are all the same row in memory.
template <class T> HD_INLINE bool is_one_row(const T *const *rows, int64_t n) {
  bool same = true;
  for (int64_t r = 0; r < n; ++r)
    same &= rows[r] == rows[0];
  return same;
}

// Writes the r in [0, n) with selects(r) to rows, in order, and returns their number.
template <class Selects>
HD_INLINE int64_t select_rows(int64_t n, const Selects &selects, int64_t *rows) {
  int64_t count = 0;
  for (int64_t r = 0; r < n; ++r) {
    rows[count] = r;
    count += selects(r);
  }
  return count;
}

// The columns of a tile of narrow rows: at[i][r] is element i of row r.
template <class T> struct Columns {
  T at[kColumnwiseBelow][kTile];

  // rows is [n] pointers to [d]. These are compiled in tile.cpp, for float and double.
  void read(const T *const *rows, int64_t n, int64_t d);
  void write(T *const *rows, int64_t n, int64_t d) const;
};

// Where the rows of a result go, each [d]: row r replaces `row[r]`, or is added to it. Rows that are
// added up have the same place.
template <class T> struct Places {
  T *const *row;
  bool adds;

  // Puts element(0) ... element(d - 1) there, as row r.
  template <class F> HD_INLINE void put(int64_t r, int64_t d, const F &element) const {
    T *to = row[r];
    if (adds)
      for (int64_t i = 0; i < d; ++i)
        to[i] += element(i);
    else
      for (int64_t i = 0; i < d; ++i)
        to[i] = element(i);
  }
};

// Row r of the result is a[r] x[r] + b[r] y[r], for a tile of n rows [d].
template <class S, class T>
SIMD_CLONES void combine_rows(const S *a, const T *const *x, const S *b, const T *const *y,
                              int64_t n, int64_t d, const Places<T> &out) {
  with_width(d, [&](auto width) __attribute__((always_inline)) {
    for (int64_t r = 0; r < n; ++r) {
      const T ar = static_cast<T>(a[r]), br = static_cast<T>(b[r]), *xr = x[r], *yr = y[r];
      out.put(r, width,
              [=](int64_t i) __attribute__((always_inline)) { return ar * xr[i] + br * yr[i]; });
    }
  });
}

} // namespace spherical
