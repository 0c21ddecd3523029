// Streaming loops over one row, compiled for several instruction sets. Sums use kLanes accumulators
// (element i goes to accumulator i mod kLanes, then a halving tree), in blocks of kBlock elements,
// so that a sum has the same order, and without contraction the same bits, on every machine, and an
// error that does not grow with d.
#pragma once
#include "../math/portable.h"
#include <algorithm>

// One clone per x86-64 level, chosen when the library is loaded (ifunc: GNU systems only).
#if defined(__x86_64__) && defined(__linux__) && defined(__GLIBC__) && defined(__GNUC__) &&        \
    !defined(__clang__)
#define SIMD_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SIMD_CLONES
#endif

namespace spherical {

constexpr int kLanes = 64;
constexpr int64_t kBlock = 4096;

// N sums over i in [0, d) of the terms that term(i, out) writes.
template <class T, int N, class Term>
HD_INLINE void row_sums(int64_t d, T (&sums)[N], const Term &term) {
  for (int k = 0; k < N; ++k)
    sums[k] = 0;
  for (int64_t start = 0; start < d; start += kBlock) {
    const int64_t end = std::min(start + kBlock, d);
    T lanes[N][kLanes] = {};
    int64_t i = start;
    for (; i + kLanes <= end; i += kLanes)
      for (int lane = 0; lane < kLanes; ++lane) {
        T out[N];
        term(i + lane, out);
        for (int k = 0; k < N; ++k)
          lanes[k][lane] += out[k];
      }
    for (int lane = 0; i < end; ++i, ++lane) {
      T out[N];
      term(i, out);
      for (int k = 0; k < N; ++k)
        lanes[k][lane] += out[k];
    }
    for (int k = 0; k < N; ++k) {
      for (int width = kLanes / 2; width > 0; width /= 2)
        for (int lane = 0; lane < width; ++lane)
          lanes[k][lane] += lanes[k][lane + width];
      sums[k] += lanes[k][0];
    }
  }
}

// Rows per task that give a thread about 32768 elements of work.
inline int64_t row_grain(int64_t d) { return std::max<int64_t>(1, 32768 / d); }

} // namespace spherical
