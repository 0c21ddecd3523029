// Sums of products for all pairs of a row and a column: the core of a matrix product.
#pragma once
#include "simd.h"

namespace spherical {

constexpr int64_t kRowsAtOnce = 6;    // rows whose sums with two vectors of columns fit registers
constexpr int64_t kProductBlock = 32; // terms that are added up in T, before double

// sums[l] += v[l], in double.
template <class T, int bytes>
HD_INLINE void add_vector(const typename VectorOf<T, bytes>::type &v, double *sums) {
  using Wide = VectorOf<double, bytes>;
  using Part = VectorOf<T, bytes * int(sizeof(T)) / int(sizeof(double))>;
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
template <class T, int bytes, int P, class Scalar, class Column, class Term>
HD_INLINE void add_sums(int64_t n, const Scalar &scalar, const Column &column, const Term &term,
                        double *sums, int64_t stride) {
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
          term(a, b[p], block[r][p]);
      }
    }
    UNROLL
    for (int r = 0; r < kRowsAtOnce; ++r) {
      UNROLL
      for (int p = 0; p < P; ++p)
        add_vector<T, bytes>(block[r][p], sums + r * stride + p * Lanes::width);
    }
  }
}

struct AddProduct {
  template <class V> HD_INLINE void operator()(const V &a, const V &b, V &sum) const {
    sum += a * b;
  }
};

// The square of a difference does not cancel.
struct AddSquare {
  template <class V> HD_INLINE void operator()(const V &a, const V &b, V &sum) const {
    const V minus = a - b;
    sum += minus * minus;
  }
};

// Columns are packed in panels of two vectors; the last panel may be one vector wide. Element i of
// the columns of a panel lies side by side.
template <class T, int bytes, class Term>
HD_INLINE void pair_sums(const T *const *rows, int64_t n, const T *panels, int64_t columns,
                         int64_t d, double *sums) {
  constexpr int64_t width = VectorOf<T, bytes>::width;
  std::fill_n(sums, n * columns, 0.0);
  for (int64_t c = 0; c < columns; c += 2 * width)
    for (int64_t r = 0; r < n; r += kRowsAtOnce) {
      const T *panel = panels + c * d;
      double *to = sums + r * columns + c;
      const auto scalar = [=](int64_t k, int64_t i)
                              __attribute__((always_inline)) { return rows[r + k][i]; };
      if (columns - c > width)
        add_sums<T, bytes, 2>(
            d, scalar,
            [=](int64_t i) __attribute__((always_inline)) { return panel + i * 2 * width; }, Term(),
            to, columns);
      else
        add_sums<T, bytes, 1>(
            d, scalar, [=](int64_t i) __attribute__((always_inline)) { return panel + i * width; },
            Term(), to, columns);
    }
}

template <class T, class Term>
SIMD_CLONES void pair_sums_32(const T *const *rows, int64_t n, const T *panels, int64_t columns,
                              int64_t d, double *sums) {
  pair_sums<T, 32, Term>(rows, n, panels, columns, d, sums);
}
#ifdef SIMD_VERSIONS
template <class T, class Term>
__attribute__((target("arch=x86-64-v4"))) void pair_sums_64(const T *const *rows, int64_t n,
                                                            const T *panels, int64_t columns,
                                                            int64_t d, double *sums) {
  pair_sums<T, 64, Term>(rows, n, panels, columns, d, sums);
}
#endif

// sums[r, c] of n rows and packed columns, by vectors as wide as this CPU has. n is a multiple of
// kRowsAtOnce, and `columns` one of `width`.
template <class T, class Term> struct PairSums {
  int64_t width = VectorOf<T, 32>::width;
  void (*compute)(const T *const *rows, int64_t n, const T *panels, int64_t columns, int64_t d,
                  double *sums) = pair_sums_32<T, Term>;

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
