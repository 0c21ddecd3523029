// Sums of products for all pairs of a row and a column: the core of a matrix product.
#pragma once
#include "simd.h"
#include <memory>

namespace spherical {

constexpr int64_t kRowsAtOnce = 6; // rows whose sums with two vectors of columns fit registers

// Terms that are added up in T, before double: fewer where the error is estimated from `spread`.
template <bool spreads> constexpr int64_t kProductBlock = spreads ? 32 : 128;

// sums[l] += v[l], in double: as many vectors as v has in it.
template <class T, int bytes>
HD_INLINE void add_vector(const typename VectorOf<T, bytes>::type &v, double *sums) {
  using Wide = typename VectorOf<double, bytes>::type;
  constexpr int parts = sizeof(double) / sizeof(T);
  typename VectorOf<T, bytes / parts>::type part[parts];
  memcpy(part, &v, sizeof v);
  for (int h = 0; h < parts; ++h) {
    Wide wide, sum;
    fill_elements(wide, [&](int i) __attribute__((always_inline)) { return double{part[h][i]}; });
    load(sums + h * kWidth<Wide>, sum);
    store(sum + wide, sums + h * kWidth<Wide>);
  }
}

// block[r, p] += the sum over i in [begin, end) of rows[r][i step] panel[i, p], for R rows and the P
// vectors of a panel.
template <bool fused, int R, int P, class T, class V>
HD_INLINE void add_products(const T *const *rows, int64_t step, int64_t begin, int64_t end,
                            const T *panel, int64_t apart, V (&block)[R][P]) {
  for (int64_t i = begin; i < end; ++i) {
    V b[P];
    unrolled<P>([&](int p) __attribute__((always_inline)) {
      load(panel + i * apart + p * kWidth<V>, b[p]);
    });
    unrolled<R>([&](int r) __attribute__((always_inline)) {
      const V a = rows[r][i * step] - V{};
      unrolled<P>([&](int p) __attribute__((always_inline)) {
        if constexpr (fused)
          add_fused(a, b[p], block[r][p]);
        else
          block[r][p] += a * b[p];
      });
    });
  }
}

// sums[r, l] = the sum over i in [0, n) of rows[r][i step] panel[i, l], for R rows and the P vectors
// of a panel. A sum depends on its own row and column alone, and the order of its additions on n.
// spread[r, l] becomes the sum of the squares of the sums of the blocks, from which the rounding
// error is estimated.
template <class T, int bytes, int P, bool fused, bool spreads, class Sum>
HD_INLINE void panel_sums(const T *const *rows, int64_t step, int64_t n, const T *panel,
                          int64_t apart, Sum *sums, T *spread, int64_t stride) {
  using Lanes = VectorOf<T, bytes>;
  using V = typename Lanes::type;
  constexpr int64_t lanes = P * Lanes::width;
  constexpr int R = kRowsAtOnce;
  if constexpr (!spreads && std::is_same_v<Sum, T>)
    if (n <= kProductBlock<spreads>) { // the sum of one block
      V block[R][P];
      unrolled<R * P>([&](int k) __attribute__((always_inline)) { block[k / P][k % P] = V{}; });
      add_products<fused>(rows, step, 0, n, panel, apart, block);
      unrolled<R * P>([&](int k) __attribute__((always_inline)) {
        store(block[k / P][k % P], sums + k / P * stride + k % P * Lanes::width);
      });
      return;
    }
  // Totals are kept in memory, so that the registers are left to the sums of a block.
  constexpr bool direct = std::is_same_v<Sum, double>;
  double local[direct ? 1 : R * lanes], *total = local;
  int64_t apart_total = lanes;
  if constexpr (direct) {
    total = sums;
    apart_total = stride;
  }
  for (int r = 0; r < R; ++r)
    std::fill_n(total + r * apart_total, lanes, 0.0);
  V square[R][P] = {};
  for (int64_t begin = 0; begin < n; begin += kProductBlock<spreads>) {
    V block[R][P] = {};
    add_products<fused>(rows, step, begin, std::min(n, begin + kProductBlock<spreads>), panel,
                        apart, block);
    unrolled<R>([&](int r) __attribute__((always_inline)) {
      unrolled<P>([&](int p) __attribute__((always_inline)) {
        add_vector<T, bytes>(block[r][p], total + r * apart_total + p * Lanes::width);
        if constexpr (spreads)
          square[r][p] += block[r][p] * block[r][p];
      });
    });
  }
  for (int r = 0; r < R; ++r) {
    if constexpr (!direct)
      std::copy(local + r * lanes, local + (r + 1) * lanes, sums + r * stride);
    if constexpr (spreads)
      memcpy(spread + r * stride, square[r], sizeof square[r]);
  }
}

// Columns are packed in panels of two vectors; the last panel may be one vector wide. Element i of
// the columns of a panel lies side by side. If `apart` is not 0, the columns are not packed: they
// are those of a matrix whose rows lie `apart` elements apart.
template <class T, int bytes, bool fused, bool spreads, class Sum>
HD_INLINE void pair_sums(const T *const *rows, int64_t step, int64_t n, const T *panels,
                         int64_t columns, int64_t d, int64_t apart, Sum *sums, T *spread) {
  constexpr int64_t width = VectorOf<T, bytes>::width;
  for (int64_t c = 0; c < columns; c += 2 * width) {
    const T *first = panels + (apart ? c : c * d);
    const auto panel = [&](int64_t r, auto P) __attribute__((always_inline)) {
      panel_sums<T, bytes, P, fused, spreads>(
          rows + r, step, d, first, apart ? apart : P * width, sums + r * columns + c,
          spreads ? spread + r * columns + c : nullptr, columns);
    };
    for (int64_t r = 0; r < n; r += kRowsAtOnce)
      if (columns - c > width)
        panel(r, std::integral_constant<int, 2>());
      else
        panel(r, std::integral_constant<int, 1>());
  }
}

#ifdef SIMD_VERSIONS
template <class T, bool spreads, class Sum>
SIMD_AVX512 void pair_sums_avx512(const T *const *rows, int64_t step, int64_t n, const T *panels,
                                  int64_t columns, int64_t d, int64_t apart, Sum *sums, T *spread) {
  pair_sums<T, 64, true, spreads>(rows, step, n, panels, columns, d, apart, sums, spread);
}
#endif

// sums[r, c], r < n, of the elements rows[r][i step], i < d, with packed columns, by vectors as wide
// as this CPU has. n is a multiple of kRowsAtOnce, and `columns` one of `width`.
template <class T, bool spreads, class Sum = double> struct PairSums {
  static constexpr int64_t widest = VectorOf<T, 64>::width;
  int64_t width = VectorOf<T, kVectorBytes>::width;
  void (*compute)(const T *const *rows, int64_t step, int64_t n, const T *panels, int64_t columns,
                  int64_t d, int64_t apart, Sum *sums,
                  T *spread) = pair_sums<T, kVectorBytes, kFused, spreads, Sum>;

  PairSums() {
#ifdef SIMD_VERSIONS
    if (__builtin_cpu_supports("x86-64-v4")) {
      width = widest;
      compute = pair_sums_avx512<T, spreads, Sum>;
    }
#endif
  }
  int64_t padded(int64_t n) const { return (n + width - 1) / width * width; }
};

// Vectors as the terms of a sum: their elements are its columns. They are packed, or read in place
// if that needs no padding.
template <class T, class Sum> struct Terms {
  PairSums<T, false, Sum> sums;
  std::unique_ptr<T[]> panels;
  int64_t count = 0, columns = 0; // columns: d, padded
  const T *in_place = nullptr;
  int64_t apart = 0; // elements from a term to the next, if they are read in place

  void reserve(int64_t n, int64_t d) {
    if (n > count || !panels)
      panels.reset(new T[static_cast<size_t>(n * sums.padded(d))]);
    in_place = nullptr;
    apart = 0;
    count = n;
    columns = sums.padded(d);
  }
  void set(int64_t i, const T *x, int64_t d) {
    for (int64_t c = 0; c < columns; c += 2 * sums.width) {
      const int64_t lanes = std::min(2 * sums.width, columns - c), some = std::min(lanes, d - c);
      T *to = panels.get() + c * count + i * lanes;
      std::copy(x + c, x + c + some, to);
      std::fill(to + some, to + lanes, T(0));
    }
  }
  // Returns whether the vectors from `first` on, `stride` elements apart, are the terms now.
  bool read_in_place(const T *first, int64_t stride, int64_t d) {
    if (d % sums.width != 0)
      return false;
    in_place = first;
    apart = stride;
    columns = d;
    return true;
  }
  // The panel that begins with column c.
  const T *panel(int64_t c) const { return in_place ? in_place + c : panels.get() + c * count; }
};

} // namespace spherical
