// Sums over the elements of rows. The order of additions depends on d alone. So, without
// contraction, a sum has the same bits on every machine.
#pragma once
#include "tile.h"
#include <tuple>

namespace spherical {

// Element i of a row goes to accumulator i mod kAccumulators, and a halving tree adds these. They
// are few enough to stay in registers, and enough to hide the latency of an addition.
template <int sums> constexpr int kAccumulators = sums <= 3 ? 16 : 8;
constexpr int kWide = 16; // accumulators at most; narrower rows are summed by columns
static_assert(kColumnwiseBelow == kWide);

// Elements that are added up on their own, 64 or 128 to an accumulator. So the error does not grow with d.
constexpr int64_t kSumBlock = 1024;

// A number high + low of about twice the digits of T (Dekker 1971). T is a number or a vector.
template <class T> struct Pair {
  T high{}, low{};

  template <class V = T> HD_INLINE Pair<ElementOf<V>> operator[](int i) const {
    return {high[i], low[i]};
  }
};

// a + b and a b without a rounding error (Knuth 1969, theorem 4.2.2B; Dekker 1971).
template <class T> HD_INLINE Pair<T> exact_sum(const T &a, const T &b) {
  const T sum = a + b, second = sum - a;
  return {sum, (a - (sum - second)) + (b - second)};
}
template <class T> HD_INLINE Pair<T> exact_product(const T &a, const T &b) {
  const T product = a * b;
  T rest = -product;
  add_fused(a, b, rest);
  return {product, rest};
}

template <class T> HD_INLINE Pair<T> &operator+=(Pair<T> &sum, const Pair<T> &term) {
  const Pair<T> exact = exact_sum(sum.high, term.high);
  sum.low += exact.low + term.low;
  sum.high = exact.high;
  return sum;
}
// The result is rounded again, since b.low is not small beside the sum where a and b.high cancel.
template <class T> HD_INLINE Pair<T> operator+(const T &a, const Pair<T> &b) {
  const Pair<T> exact = exact_sum(a, b.high);
  const T low = exact.low + b.low, high = exact.high + low;
  return {high, low - (high - exact.high)};
}
template <class T> HD_INLINE Pair<T> operator-(const Pair<T> &a) { return {-a.high, -a.low}; }
template <class T> HD_INLINE Pair<T> operator*(const Pair<T> &a, const Pair<T> &b) {
  Pair<T> product = exact_product(a.high, b.high);
  add_fused(a.high, b.low, product.low);
  add_fused(a.low, b.high, product.low);
  return product;
}
template <class V> HD_INLINE Pair<ElementOf<V>> sum_of_elements(const Pair<V> &v) {
  Pair<ElementOf<V>> sums[kWidth<V>];
  for (int i = 0; i < kWidth<V>; ++i)
    sums[i] = v[i];
  for (int half = kWidth<V> / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i)
      sums[i] += sums[half + i];
  return sums[0];
}

// The bits of kWide numbers to drop, then those of as many to keep.
template <class Bits> struct Kept {
  Bits bits[2 * kWide];
  constexpr Kept() : bits() {
    for (int i = kWide; i < 2 * kWide; ++i)
      bits[i] = Bits(-1);
  }
};
template <class Bits> constexpr Kept<Bits> kKept{};

// Adds N sums over the n elements before `end` of some rows to `sums`. add(in, sums) adds what a
// vector V of elements of each row contributes to N sums, each a Sum, which is a V or a Pair<V>.
// That is 0 where the elements are 0. It gets 0 in place of elements of an earlier block.
template <class V, class Sum, int N, class... T, class Add>
HD_INLINE void add_block(const std::tuple<const T *...> &end, int64_t n, ElementOf<Sum> (&sums)[N],
                         const Add &add) {
  constexpr int R = sizeof...(T);
  using Bits = std::conditional_t<is_float32<ElementOf<V>>, int32_t, int64_t>;
  using Mask = Vector<Bits, sizeof(V)>;
  constexpr int width = kWidth<V>, accumulators = kAccumulators<N * sizeof(Sum) / sizeof(V)>;
  constexpr int vectors = accumulators / width;
  Sum partial[vectors][N];
  unrolled<vectors>([&](int j) __attribute__((always_inline)) {
    unrolled<N>([&](int k) __attribute__((always_inline)) { partial[j][k] = Sum{}; });
  });
  for (; n >= accumulators; n -= accumulators)
    unrolled<vectors>([&](int j) __attribute__((always_inline)) {
      V in[R];
      unrolled<R>([&](auto k) __attribute__((always_inline)) {
        load_as(std::get<k>(end) - n + j * width, in[k]);
      });
      add(in, partial[j]);
    });
  if (n > 0)
    unrolled<vectors>([&](int j) __attribute__((always_inline)) {
      V in[R];
      Mask kept;
      memcpy(&kept, kKept<Bits>.bits + kWide - accumulators + n + j * width, sizeof kept);
      unrolled<R>([&](auto k) __attribute__((always_inline)) {
        load_as(std::get<k>(end) - accumulators + j * width, in[k]);
        in[k] = (V)((Mask)in[k] & kept);
      });
      add(in, partial[j]);
    });
  const auto fold = [&](int to, int from) __attribute__((always_inline)) {
    unrolled<N>([&](int k) __attribute__((always_inline)) { partial[to][k] += partial[from][k]; });
  };
  static_assert(vectors <= 4);
  if constexpr (vectors == 4) {
    fold(0, 2);
    fold(1, 3);
  }
  if constexpr (vectors >= 2)
    fold(0, 1);
  unrolled<N>([&](int k)
                  __attribute__((always_inline)) { sums[k] += sum_of_elements(partial[0][k]); });
}

template <class T, int R, int... I>
HD_INLINE auto as_tuple(const T *const (&rows)[R], std::integer_sequence<int, I...>) {
  return std::tuple(rows[I]...);
}

// sums = N sums over rows of d >= kWide elements, in vectors V, see add_block.
template <class V, class Sum = V, int N, class... T, class Add>
HD_INLINE void vector_sums(std::tuple<const T *...> end, int64_t d, ElementOf<Sum> (&sums)[N],
                           const Add &add) {
  std::fill_n(sums, N, ElementOf<Sum>{});
  for (int64_t begin = 0; begin < d; begin += kSumBlock) {
    const int64_t n = std::min(kSumBlock, d - begin);
    unrolled<sizeof...(T)>([&](auto k) __attribute__((always_inline)) { std::get<k>(end) += n; });
    add_block<V, Sum>(end, n, sums, add);
  }
}
template <class V, class Sum = V, int N, int R, class T, class Add>
HD_INLINE void vector_sums(const T *const (&rows)[R], int64_t d, ElementOf<Sum> (&sums)[N],
                           const Add &add) {
  vector_sums<V, Sum>(as_tuple(rows, std::make_integer_sequence<int, R>()), d, sums, add);
}

// sums = N sums over R rows of d elements. terms(in, out) writes the N terms of an element of each
// row, or of a vector of them; they are 0 where the elements are.
template <class S, int N, int R, class T, class Terms>
HD_INLINE void row_sums(const T *const (&rows)[R], int64_t d, S (&sums)[N], const Terms &terms) {
  if (d >= kWide)
    return vector_sums<Vector<S>>(
        rows, d, sums, [=](const auto &in, auto &total) __attribute__((always_inline)) {
          Vector<S> out[N];
          terms(in, out);
          unrolled<N>([&](int k) __attribute__((always_inline)) { total[k] += out[k]; });
        });
  std::fill_n(sums, N, S(0));
  S lost[N] = {}; // of each sum, by rounding (Kahan 1965)
  for (int64_t i = 0; i < d; ++i) {
    S in[R], out[N];
    for (int k = 0; k < R; ++k)
      in[k] = rows[k][i];
    terms(in, out);
    for (int k = 0; k < N; ++k) {
      const S term = out[k] - lost[k], sum = sums[k] + term;
      lost[k] = (sum - sums[k]) - term;
      sums[k] = sum;
    }
  }
}

// The same in twice the digits, for rows that lose most of their own. add(in, sums) adds the terms.
template <int bytes, int N, int R, class T, class Add>
HD_INLINE void row_sums_in_pairs(const T *const (&rows)[R], int64_t d, Pair<T> (&sums)[N],
                                 const Add &add) {
  if (d >= kWide)
    return vector_sums<Vector<T, bytes>, Pair<Vector<T, bytes>>>(rows, d, sums, add);
  std::fill_n(sums, N, Pair<T>{});
  for (int64_t i = 0; i < d; ++i) {
    T in[R];
    for (int k = 0; k < R; ++k)
      in[k] = rows[k][i];
    add(in, sums);
  }
}

// The same for each row of a tile: sums[k][r] = sum k of row r. rows[k] is [n] pointers to [d].
template <class S, int N, int R, class T, class Terms>
HD_INLINE void tile_sums(const T *const *const (&rows)[R], int64_t n, int64_t d,
                         S (&sums)[N][kTile], const Terms &terms) {
  if (d < kColumnwiseBelow)
    return with_width(d, [&](auto width) __attribute__((always_inline)) {
      Columns<T> columns[R];
      for (int k = 0; k < R; ++k)
        columns[k].read(rows[k], n, width);
      for (int k = 0; k < N; ++k)
        std::fill_n(sums[k], n, S(0));
      for (int64_t i = 0; i < width; ++i)
        for (int64_t r = 0; r < n; ++r) {
          S in[R], out[N];
          UNROLL
          for (int k = 0; k < R; ++k)
            in[k] = columns[k].at[i][r];
          terms(in, out);
          UNROLL
          for (int k = 0; k < N; ++k)
            sums[k][r] += out[k];
        }
    });
  for (int64_t r = 0; r < n; ++r) {
    const T *row[R];
    S of_row[N];
    for (int k = 0; k < R; ++k)
      row[k] = rows[k][r];
    row_sums(row, d, of_row, terms);
    for (int k = 0; k < N; ++k)
      sums[k][r] = of_row[k];
  }
}

} // namespace spherical
