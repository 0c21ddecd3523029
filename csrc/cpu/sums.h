// Sums over the elements of one row. The order of additions depends on d alone. So, without
// contraction, a sum has the same bits on every machine.
#pragma once
#include "simd.h"
#include <utility>

namespace spherical {

constexpr int64_t kSumBlock = 4096;   // elements that are added up on their own
constexpr int kLongAccumulators = 64; // of a long row
constexpr int kShortAccumulators = 8; // of a short row
constexpr int64_t kShortRow = 256;    // rows below this are short

// Adds the terms of elements i to i + width - 1 to accumulators first to first + width - 1.
template <int width, class T, int N, int accumulators, class Term>
HD_INLINE void add_terms(int64_t i, int64_t first, T (&sums)[N][accumulators], const Term &term) {
  for (int j = 0; j < width; ++j) {
    T out[N];
    term(i + j, out);
    for (int k = 0; k < N; ++k)
      sums[k][first + j] += out[k];
  }
}

// Adds N sums over i in [begin, end) to `sums`. Element begin + i goes to accumulator i mod
// `accumulators`; a halving tree then adds the accumulators.
template <int accumulators, class T, int N, class Term>
HD_INLINE void block_sums(int64_t begin, int64_t end, T (&sums)[N], const Term &term) {
  T partial[N][accumulators] = {};
  int64_t i = begin, first = 0;
  for (; i + accumulators <= end; i += accumulators)
    add_terms<accumulators>(i, 0, partial, term);
  for (; i + kShortAccumulators <= end; i += kShortAccumulators, first += kShortAccumulators)
    add_terms<kShortAccumulators>(i, first, partial, term);
  for (; i < end; ++i, ++first)
    add_terms<1>(i, first, partial, term);
  for (int k = 0; k < N; ++k) {
    for (int width = accumulators / 2; width > 0; width /= 2)
      for (int j = 0; j < width; ++j)
        partial[k][j] += partial[k][j + width];
    sums[k] += partial[k][0];
  }
}

// The sums of a short row, one after the other, because so few accumulators vectorise only for one
// sum at a time.
template <class T, int N, class Term, int... K>
HD_INLINE void short_row_sums(int64_t d, T (&sums)[N], const Term &term,
                              std::integer_sequence<int, K...>) {
  const auto one = [=](auto k, T &sum) __attribute__((always_inline)) {
    T result[1] = {};
    block_sums<kShortAccumulators>(0, d, result,
                                   [=](int64_t i, T(&out)[1]) __attribute__((always_inline)) {
                                     T all[N];
                                     term(i, all);
                                     out[0] = all[k];
                                   });
    sum = result[0];
  };
  (one(std::integral_constant<int, K>(), sums[K]), ...);
}

// N sums over i in [0, d) of the terms that term(i, out) writes. In a long row, many accumulators
// hide the latency of additions; in a short one, few are soon added up. A row is added up in
// blocks, so that the error does not grow with d.
template <class T, int N, class Term>
HD_INLINE void row_sums(int64_t d, T (&sums)[N], const Term &term) {
  if (d >= kShortAccumulators && d < kShortRow)
    return short_row_sums(d, sums, term, std::make_integer_sequence<int, N>());
  for (int k = 0; k < N; ++k)
    sums[k] = 0;
  if (d < kShortAccumulators) {
    for (int64_t i = 0; i < d; ++i) {
      T out[N];
      term(i, out);
      for (int k = 0; k < N; ++k)
        sums[k] += out[k];
    }
    return;
  }
  for (int64_t begin = 0; begin < d; begin += kSumBlock)
    block_sums<kLongAccumulators>(begin, std::min(begin + kSumBlock, d), sums, term);
}

} // namespace spherical
