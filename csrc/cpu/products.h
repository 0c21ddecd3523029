// Sums over products for all pairs of a row and a column: the core of a matrix product.
#pragma once
#include "simd.h"

namespace spherical {

constexpr int64_t kRowsAtOnce = 6;    // rows whose sums with two vectors of columns fit registers
constexpr int64_t kProductBlock = 64; // terms that are added up in T, before double

template <class T> constexpr int64_t kPanel = 2 * VectorOf<T>::width; // columns of a panel

// sums[l] += the vector, in double.
template <class T> HD_INLINE void add_to(double *sums, const Vector<T> &v) {
  constexpr int64_t width = VectorOf<double>::width;
  if constexpr (is_float32<T>) {
    typename VectorOf<float, 16>::type halves[2];
    memcpy(halves, &v, sizeof v);
    for (int h = 0; h < 2; ++h) {
      Vector<double> sum;
      load(sums + h * width, sum);
      sum += __builtin_convertvector(halves[h], Vector<double>);
      store(sum, sums + h * width);
    }
  } else {
    Vector<double> sum;
    load(sums, sum);
    sum += v;
    store(sum, sums);
  }
}

// sums[r, l] += the sum over i in [0, n) of the term of scalar(r, i) and column(i)[l], for kRowsAtOnce rows
// and the columns of P vectors. A sum depends on its own row and column alone.
template <class T, int P, class Scalar, class Column, class Term>
HD_INLINE void add_sums(int64_t n, const Scalar &scalar, const Column &column, const Term &term,
                        double *sums, int64_t stride) {
  for (int64_t begin = 0; begin < n; begin += kProductBlock) {
    Vector<T> block[kRowsAtOnce][P] = {};
    const int64_t end = std::min(n, begin + kProductBlock);
    for (int64_t i = begin; i < end; ++i) {
      Vector<T> b[P];
      UNROLL
      for (int p = 0; p < P; ++p)
        load(column(i) + p * VectorOf<T>::width, b[p]);
      UNROLL
      for (int r = 0; r < kRowsAtOnce; ++r) {
        const Vector<T> a = scalar(r, i) - Vector<T>{};
        UNROLL
        for (int p = 0; p < P; ++p) {
          Vector<T> out;
          term(a, b[p], out);
          block[r][p] += out;
        }
      }
    }
    UNROLL
    for (int r = 0; r < kRowsAtOnce; ++r) {
      UNROLL
      for (int p = 0; p < P; ++p)
        add_to<T>(sums + r * stride + p * VectorOf<T>::width, block[r][p]);
    }
  }
}

} // namespace spherical
