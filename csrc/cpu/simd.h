// Streaming loops over one row, compiled for several instruction sets. The order of a sum depends
// on d alone, so that, without contraction, it has the same bits on every machine.
#pragma once
#include "../math/portable.h"
#include <algorithm>
#include <utility>

// One clone per x86-64 level, chosen when the library is loaded (ifunc: GNU systems only).
#if defined(__x86_64__) && defined(__linux__) && defined(__GLIBC__) && defined(__GNUC__) &&        \
    !defined(__clang__)
#define SIMD_VERSIONS
#define SIMD_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SIMD_CLONES
#endif
// Inlines all that a function calls, so that it is part of each clone.
#define FLATTEN __attribute__((flatten))

namespace spherical {

// A tile: rows that are worked on together, so that calls and loops over their scalars take little
// beside them. Rows of a tile stay in the first cache until they are read again.
constexpr int64_t kTile = 64;
inline int64_t tile_rows(int64_t d) { return std::clamp<int64_t>(2048 / d, 1, kTile); }

// A vector of as many T as 32 bytes hold, for what the compiler does not vectorise by itself.
template <class T> struct VectorOf {
  typedef T type __attribute__((vector_size(32)));
  static constexpr int64_t width = 32 / sizeof(T);
};
template <class T> using Vector = typename VectorOf<T>::type;
template <class T> HD_INLINE void load(const T *from, Vector<T> &v) { memcpy(&v, from, sizeof v); }
template <class T> HD_INLINE void store(const Vector<T> &v, T *to) { memcpy(to, &v, sizeof v); }

// Makes n > 0 values of a tile whole vectors: repeats the last.
template <class T> HD_INLINE void fill_vector(T *values, int64_t n) {
  std::fill(values + n,
            values + (n + VectorOf<T>::width - 1) / VectorOf<T>::width * VectorOf<T>::width,
            values[n - 1]);
}

constexpr int64_t kBlock = 4096;
constexpr int kLanes = 64;
constexpr int kNarrow = 8;
constexpr int64_t kShort = 256; // rows below take kNarrow accumulators

// Adds the terms of elements i to i + width - 1 to accumulators first to first + width - 1.
template <int width, class T, int N, int lanes, class Term>
HD_INLINE void add_terms(int64_t i, int64_t first, T (&sums)[N][lanes], const Term &term) {
  for (int j = 0; j < width; ++j) {
    T out[N];
    term(i + j, out);
    for (int k = 0; k < N; ++k)
      sums[k][first + j] += out[k];
  }
}

// N sums over i in [begin, end): element begin + i goes to accumulator i mod lanes, then a halving
// tree.
template <int lanes, class T, int N, class Term>
HD_INLINE void block_sums(int64_t begin, int64_t end, T (&sums)[N], const Term &term) {
  T partial[N][lanes] = {};
  int64_t i = begin, first = 0;
  for (; i + lanes <= end; i += lanes)
    add_terms<lanes>(i, 0, partial, term);
  for (; i + kNarrow <= end; i += kNarrow, first += kNarrow)
    add_terms<kNarrow>(i, first, partial, term);
  for (; i < end; ++i, ++first)
    add_terms<1>(i, first, partial, term);
  for (int k = 0; k < N; ++k) {
    for (int width = lanes / 2; width > 0; width /= 2)
      for (int lane = 0; lane < width; ++lane)
        partial[k][lane] += partial[k][lane + width];
    sums[k] += partial[k][0];
  }
}

// A short row's sums one after the other: so few accumulators vectorise only for one sum at a time.
template <class T, int N, class Term, int... K>
HD_INLINE void short_row_sums(int64_t d, T (&sums)[N], const Term &term,
                              std::integer_sequence<int, K...>) {
  const auto one = [=](auto k, T &sum) __attribute__((always_inline)) {
    T result[1] = {};
    block_sums<kNarrow>(0, d, result, [=](int64_t i, T(&out)[1]) __attribute__((always_inline)) {
      T all[N];
      term(i, all);
      out[0] = all[k];
    });
    sum = result[0];
  };
  (one(std::integral_constant<int, K>(), sums[K]), ...);
}

// N sums over i in [0, d) of the terms that term(i, out) writes. Many accumulators hide the latency
// of additions in long rows, few are soon added up in short ones. In blocks, so that the error does
// not grow with d.
template <class T, int N, class Term>
HD_INLINE void row_sums(int64_t d, T (&sums)[N], const Term &term) {
  if (d >= kNarrow && d < kShort)
    return short_row_sums(d, sums, term, std::make_integer_sequence<int, N>());
  for (int k = 0; k < N; ++k)
    sums[k] = 0;
  if (d < kNarrow) {
    for (int64_t i = 0; i < d; ++i) {
      T out[N];
      term(i, out);
      for (int k = 0; k < N; ++k)
        sums[k] += out[k];
    }
    return;
  }
  for (int64_t begin = 0; begin < d; begin += kBlock)
    block_sums<kLanes>(begin, std::min(begin + kBlock, d), sums, term);
}

// Rows per task that give a thread about 30 microseconds of work, where an element takes `element`
// and the scalars of a row `row` units of 0.3 ns.
inline int64_t row_grain(int64_t d, int64_t element, int64_t row) {
  return std::max<int64_t>(1, 100000 / (d * element + row));
}

} // namespace spherical
