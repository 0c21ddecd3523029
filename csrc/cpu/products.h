// Sums of products for all pairs of a row and a column: the core of a matrix product.
#pragma once
#include "simd.h"

namespace spherical {

constexpr int64_t kRowsAtOnce = 6;    // rows whose sums with two vectors of columns fit registers
constexpr int64_t kProductBlock = 32; // terms that are added up in T, before double

// The terms of a sum over pairs. A class of this kind has a constant `spreads`: whether pair_sums
// adds up the squares of the sums of the blocks, too, from which the rounding error is estimated.
struct AddProduct {
  static constexpr bool spreads = false;
  template <class V> HD_INLINE void operator()(const V &a, const V &b, V &sum) const {
    sum += a * b;
  }
};
struct AddProductAndSpread : AddProduct {
  static constexpr bool spreads = true;
};
struct AddSquare { // of the difference
  static constexpr bool spreads = false;
  template <class V> HD_INLINE void operator()(const V &a, const V &b, V &sum) const {
    const V minus = a - b;
    sum += minus * minus;
  }
};

// sums[l] += v[l], in double.
template <class T, int bytes>
HD_INLINE void add_vector(const typename VectorOf<T, bytes>::type &v, double *sums) {
  using Wide = VectorOf<double, bytes>;
  using Part = VectorOf<T, bytes *int(sizeof(T)) / int(sizeof(double))>;
  constexpr int64_t parts = sizeof(double) / sizeof(T);
  typename Part::type part[parts];
  memcpy(part, &v, sizeof v);
  for (int64_t h = 0; h < parts; ++h) {
    typename Wide::type sum;
    memcpy(&sum, sums + h * Wide::width, sizeof sum);
    sum += __builtin_convertvector(part[h], typename Wide::type);
    memcpy(sums + h * Wide::width, &sum, sizeof sum);
  }
}

// sums[r, l] += the sum over i in [0, n) of the term of scalar(r, i) and column(i)[l], for
// kRowsAtOnce rows and the columns of P vectors. A sum depends on its own row and column alone, and
// the order of its additions on n.
template <class T, int bytes, int P, class Term, class Scalar, class Column>
HD_INLINE void add_sums(int64_t n, const Scalar &scalar, const Column &column, double *sums,
                        T *spread, int64_t stride) {
  using Lanes = VectorOf<T, bytes>;
  using V = typename Lanes::type;
  for (int64_t begin = 0; begin < n; begin += kProductBlock) {
    V block[kRowsAtOnce][P] = {};
    const int64_t end = std::min(n, begin + kProductBlock);
    for (int64_t i = begin; i < end; ++i) {
      V b[P];
      UNROLL
      for (int p = 0; p < P; ++p)
        memcpy(&b[p], column(i) + p * Lanes::width, sizeof b[p]);
      UNROLL
      for (int r = 0; r < kRowsAtOnce; ++r) {
        const V a = scalar(r, i) - V{};
        UNROLL
        for (int p = 0; p < P; ++p)
          Term()(a, b[p], block[r][p]);
      }
    }
    UNROLL
    for (int r = 0; r < kRowsAtOnce; ++r) {
      UNROLL
      for (int p = 0; p < P; ++p) {
        const int64_t at = r * stride + p * Lanes::width;
        add_vector<T, bytes>(block[r][p], sums + at);
        if constexpr (Term::spreads) {
          V sum;
          memcpy(&sum, spread + at, sizeof sum);
          sum += block[r][p] * block[r][p];
          memcpy(spread + at, &sum, sizeof sum);
        }
      }
    }
  }
}

// Columns are packed in panels of two vectors; the last panel may be one vector wide. Element i of
// the columns of a panel lies side by side.
template <class T, int bytes, class Term>
HD_INLINE void pair_sums(const T *const *rows, int64_t n, const T *panels, int64_t columns,
                         int64_t d, double *sums, T *spread) {
  constexpr int64_t width = VectorOf<T, bytes>::width;
  std::fill_n(sums, n * columns, 0.0);
  if (Term::spreads)
    std::fill_n(spread, n * columns, T(0));
  for (int64_t c = 0; c < columns; c += 2 * width)
    for (int64_t r = 0; r < n; r += kRowsAtOnce) {
      const T *panel = panels + c * d;
      double *to = sums + r * columns + c;
      T *spread_to = Term::spreads ? spread + r * columns + c : nullptr;
      const auto scalar = [=](int64_t k, int64_t i)
                              __attribute__((always_inline)) { return rows[r + k][i]; };
      if (columns - c > width)
        add_sums<T, bytes, 2, Term>(
            d, scalar,
            [=](int64_t i) __attribute__((always_inline)) { return panel + i * 2 * width; }, to,
            spread_to, columns);
      else
        add_sums<T, bytes, 1, Term>(
            d, scalar, [=](int64_t i) __attribute__((always_inline)) { return panel + i * width; },
            to, spread_to, columns);
    }
}

template <class T, class Term>
SIMD_CLONES void pair_sums_32(const T *const *rows, int64_t n, const T *panels, int64_t columns,
                              int64_t d, double *sums, T *spread) {
  pair_sums<T, 32, Term>(rows, n, panels, columns, d, sums, spread);
}
#ifdef SIMD_VERSIONS
template <class T, class Term>
__attribute__((target("arch=x86-64-v4"))) void pair_sums_64(const T *const *rows, int64_t n,
                                                            const T *panels, int64_t columns,
                                                            int64_t d, double *sums, T *spread) {
  pair_sums<T, 64, Term>(rows, n, panels, columns, d, sums, spread);
}
#endif

// sums[r, c] of n rows and packed columns, by vectors as wide as this CPU has. n is a multiple of
// kRowsAtOnce, and `columns` one of `width`.
template <class T, class Term> struct PairSums {
  int64_t width = VectorOf<T, 32>::width;
  void (*compute)(const T *const *rows, int64_t n, const T *panels, int64_t columns, int64_t d,
                  double *sums, T *spread) = pair_sums_32<T, Term>;

  PairSums() {
#ifdef SIMD_VERSIONS
    if (__builtin_cpu_supports("x86-64-v4")) {
      width = VectorOf<T, 64>::width;
      compute = pair_sums_64<T, Term>;
    }
#endif
  }
};

} // namespace spherical
