// Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw (2011), and the way
// counters are laid out, so that a sample depends on (seed, offset) and its position alone: never
// on the thread count, the instruction set or the launch geometry.
#pragma once
#include "portable.h"

namespace spherical {

struct Words {
  uint32_t w[4];
};

HD_INLINE uint32_t mulhi(uint32_t a, uint32_t b) {
#ifdef __CUDA_ARCH__
  return __umulhi(a, b);
#else
  return static_cast<uint32_t>((static_cast<uint64_t>(a) * b) >> 32);
#endif
}

HD_INLINE Words philox(uint64_t key, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint32_t hi0 = mulhi(0xD2511F53u, c0), lo0 = 0xD2511F53u * c0;
    const uint32_t hi1 = mulhi(0xCD9E8D57u, c2), lo1 = 0xCD9E8D57u * c2;
    c0 = hi1 ^ c1 ^ k0;
    c1 = lo1;
    c2 = hi0 ^ c3 ^ k1;
    c3 = lo0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
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
