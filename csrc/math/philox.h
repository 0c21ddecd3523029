// Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw (2011), and the way
// counters are laid out, so that a sample depends on (seed, offset) and its position alone: never
// on the thread count, the instruction set or the launch geometry.
#pragma once
#include "portable.h"

namespace spherical {

struct Words {
  uint32_t w[4];
};

// A word of the counter: its low 32 bits. On the host in 64, so that one multiplication yields both
// halves of a product, and vector loops need not repack them.
#ifdef __CUDA_ARCH__
using Lane = uint32_t;
HD_INLINE uint32_t high(uint32_t a, Lane b) { return __umulhi(a, b); }
HD_INLINE uint32_t low(uint32_t a, Lane b) { return a * b; }
#else
using Lane = uint64_t;
HD_INLINE uint64_t low(uint32_t a, Lane b) { return a * (b & 0xFFFFFFFFu); }
HD_INLINE uint64_t high(uint32_t a, Lane b) { return low(a, b) >> 32; }
#endif

HD_INLINE Words philox(uint64_t key, Lane c0, Lane c1, Lane c2, Lane c3) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const Lane hi0 = high(0xD2511F53u, c0), lo0 = low(0xD2511F53u, c0);
    const Lane hi1 = high(0xCD9E8D57u, c2), lo1 = low(0xCD9E8D57u, c2);
    c0 = hi1 ^ c1 ^ k0;
    c1 = lo1;
    c2 = hi0 ^ c3 ^ k1;
    c3 = lo0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{static_cast<uint32_t>(c0), static_cast<uint32_t>(c1), static_cast<uint32_t>(c2),
           static_cast<uint32_t>(c3)}};
}

// The random words of one row (one sample). Counter = (block, row + offset in two words, stream):
// stream 0 holds the normals of the row, element by element; stream 1 + trial holds what the
// trial-th proposal of a rejection sampler needs beyond them.
struct RowStream {
  uint64_t seed;
  uint64_t row; // row index + offset

  HD_INLINE Words words(uint32_t stream, uint32_t block) const {
    return philox(seed, block, static_cast<uint32_t>(row), static_cast<uint32_t>(row >> 32),
                  stream);
  }
};

} // namespace spherical
