// The random words of many Philox blocks at a time.
#pragma once
#include "../math/philox.h"
#include "simd.h"

namespace spherical {

// WordBlocks names up to kMaxWordBlocks blocks of one stream, of any rows. It is made of arrays, so
// that loops over the blocks vectorise.
constexpr int64_t kMaxWordBlocks = 64;
struct WordBlocks {
  uint64_t row[kMaxWordBlocks];   // row index + offset
  uint64_t block[kMaxWordBlocks]; // its number in the row
};

#ifdef __AVX2__
// One word of the counter (math/philox.h) of several blocks: two vectors of `bytes` each, whose
// latencies overlap.
template <int bytes> struct Counters {
  typedef uint64_t Vector __attribute__((vector_size(bytes)));
  static constexpr int size = 2 * bytes / 8;
  Vector a, b;

  static HD_INLINE Counters all(uint32_t word) {
    const Vector v = Vector{} + uint64_t{word};
    return {v, v};
  }
  static HD_INLINE Counters load(const uint64_t *from) {
    Counters counters;
    memcpy(&counters.a, from, bytes);
    memcpy(&counters.b, from + bytes / 8, bytes);
    return counters;
  }
  HD_INLINE Counters high_halves() const { return {a >> 32, b >> 32}; }
  HD_INLINE Counters operator^(const Counters &other) const { return {a ^ other.a, b ^ other.b}; }
  HD_INLINE Counters operator^(uint32_t word) const { return *this ^ all(word); }
};

// The products of words. They are assembly, because GCC 12 has no vector multiplication of the low
// halves of 64-bit elements: it makes shifts and additions of a product by a constant, which take
// twice as long.
template <int bytes> HD_INLINE Counters<bytes> low(uint32_t a, const Counters<bytes> &b) {
  const auto factor = Counters<bytes>::all(a).a;
  Counters<bytes> product;
  asm("vpmuludq %2, %1, %0" : "=v"(product.a) : "v"(b.a), "v"(factor));
  asm("vpmuludq %2, %1, %0" : "=v"(product.b) : "v"(b.b), "v"(factor));
  return product;
}
template <int bytes> HD_INLINE Counters<bytes> high(uint32_t a, const Counters<bytes> &b) {
  return low(a, b).high_halves();
}

// Writes the words [blocks, 4] of as many blocks as a vector has elements. The low half of an
// element of w0 is the first word of a block, that of w1 the second word, and so on.
template <class Vector>
HD_INLINE void store_words(const Vector &w0, const Vector &w1, const Vector &w2, const Vector &w3,
                           uint32_t *to) {
  constexpr uint64_t half = 0xFFFFFFFFu;
  const Vector first = (w0 & half) | w1 << 32, second = (w2 & half) | w3 << 32;
  Vector mixed[2];
  if constexpr (sizeof(Vector) == 32) {
    mixed[0] = __builtin_shufflevector(first, second, 0, 4, 1, 5);
    mixed[1] = __builtin_shufflevector(first, second, 2, 6, 3, 7);
  } else {
    mixed[0] = __builtin_shufflevector(first, second, 0, 8, 1, 9, 2, 10, 3, 11);
    mixed[1] = __builtin_shufflevector(first, second, 4, 12, 5, 13, 6, 14, 7, 15);
  }
  memcpy(to, mixed, sizeof mixed);
}

template <int bytes>
HD_INLINE void block_words_of(uint64_t seed, uint32_t stream, const WordBlocks &blocks, int64_t n,
                              uint32_t *words) {
  using L = Counters<bytes>;
  for (int64_t i = 0; i < n; i += L::size) {
    const L row = L::load(blocks.row + i);
    L c[4] = {L::load(blocks.block + i), row, row.high_halves(), L::all(stream)};
    philox(seed, c);
    store_words(c[0].a, c[1].a, c[2].a, c[3].a, words + 4 * i);
    store_words(c[0].b, c[1].b, c[2].b, c[3].b, words + 4 * i + 2 * L::size);
  }
}
#endif

// words[i, 0 ... 3] of blocks 0 to n - 1 (and of some more, up to a multiple of a vector).
SIMD_LEAST inline void block_words(uint64_t seed, uint32_t stream, const WordBlocks &blocks,
                                   int64_t n, uint32_t *words) {
#ifdef __AVX2__
  block_words_of<kVectorBytes>(seed, stream, blocks, n, words);
#else
  for (int64_t i = 0; i < n; ++i) {
    const RowStream row{seed, blocks.row[i]};
    memcpy(words + 4 * i, row.words(stream, static_cast<uint32_t>(blocks.block[i])).w,
           sizeof(Words));
  }
#endif
}
#ifdef SIMD_VERSIONS
SIMD_AVX512 inline void block_words(uint64_t seed, uint32_t stream, const WordBlocks &blocks,
                                    int64_t n, uint32_t *words) {
  block_words_of<64>(seed, stream, blocks, n, words);
}
#endif

} // namespace spherical
