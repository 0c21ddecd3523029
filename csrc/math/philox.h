// Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw (2011), and the way
// counters are laid out, so that a sample depends on (seed, offset) and its position alone: never
// on the thread count, the instruction set or the launch geometry.
#pragma once
#include "portable.h"

namespace spherical {

struct Words {
  uint32_t w[4];
};

// A CounterWord holds a word of the counter in its low 32 bits. On the host it has 64 bits, so that
// one multiplication yields both halves of a product, and vectors need not be repacked.
#ifdef __CUDA_ARCH__
using CounterWord = uint32_t;
HD_INLINE uint32_t high(uint32_t a, CounterWord b) { return __umulhi(a, b); }
HD_INLINE uint32_t low(uint32_t a, CounterWord b) { return a * b; }
#else
using CounterWord = uint64_t;
HD_INLINE uint64_t low(uint32_t a, CounterWord b) { return a * (b & 0xFFFFFFFFu); }
HD_INLINE uint64_t high(uint32_t a, CounterWord b) { return low(a, b) >> 32; }
#endif

// Replaces a counter by its random words. L is CounterWord, or a vector of them
// (cpu/random_words.h).
template <class L> HD_INLINE void philox(uint64_t key, L (&c)[4]) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  UNROLL
  for (int round = 0; round < 10; ++round) {
    const L hi0 = high(0xD2511F53u, c[0]), lo0 = low(0xD2511F53u, c[0]);
    const L hi1 = high(0xCD9E8D57u, c[2]), lo1 = low(0xCD9E8D57u, c[2]);
    c[0] = hi1 ^ c[1] ^ k0;
    c[1] = lo1;
    c[2] = hi0 ^ c[3] ^ k1;
    c[3] = lo0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
}

// The random words of one row (one sample). Counter = (block, row + offset in two words, stream):
// stream 0 holds the normals of the row, element by element; stream 1 + trial holds what the
// trial-th proposal of a rejection sampler needs beyond them.
struct RowStream {
  uint64_t seed;
  uint64_t row; // row index + offset

  HD_INLINE Words words(uint32_t stream, uint32_t block) const {
    CounterWord c[4] = {block, static_cast<uint32_t>(row), static_cast<uint32_t>(row >> 32),
                        stream};
    philox(seed, c);
    return {{static_cast<uint32_t>(c[0]), static_cast<uint32_t>(c[1]), static_cast<uint32_t>(c[2]),
             static_cast<uint32_t>(c[3])}};
  }
};

} // namespace spherical
