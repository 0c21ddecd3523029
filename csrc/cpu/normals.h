// The normals of the rows of a tile. benchmarks/normals.cpp times them alone, as the least that a
// sample costs.
#pragma once
#include "../math/normal.h"
#include "random_words.h"

namespace spherical {

// The length of a row of normals in the buffer: whole blocks of random words.
template <class T> int64_t padded(int64_t d) {
  return (d + kNormalsPerBlock<T> - 1) / kNormalsPerBlock<T> * kNormalsPerBlock<T>;
}

// g[i, ...] = the normals of block i, from its words [n, 4].
template <class T> SIMD_CLONES void normals_of_words(const uint32_t *words, int64_t n, T *g) {
  for (int64_t i = 0; i < n; ++i)
    normals(words + 4 * i, g + i * kNormalsPerBlock<T>);
}

// g[r, j] ~ N(0, 1), element j from word j mod 4 (float32) of block j / 4 of the stream of row r.
// g is [rows, padded d]. before(elements) is called before that many are computed.
template <class T, class Before>
void fill_normals(const RowStream &first, int64_t rows, int64_t d, T *g, const Before &before) {
  WordBlocks blocks{};
  uint32_t words[4 * kMaxWordBlocks];
  int64_t held = 0;
  const auto flush = [&] {
    before(held * kNormalsPerBlock<T>);
    block_words(first.seed, 0, blocks, held, words);
    normals_of_words(words, held, g);
    g += held * kNormalsPerBlock<T>;
    held = 0;
  };
  const int64_t per_row = padded<T>(d) / kNormalsPerBlock<T>;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < per_row;) {
      const int64_t end = std::min(held + per_row - i, kMaxWordBlocks);
      for (; held < end; ++held, ++i) {
        blocks.row[held] = first.row + static_cast<uint64_t>(r);
        blocks.block[held] = static_cast<uint64_t>(i);
      }
      if (held == kMaxWordBlocks)
        flush();
    }
  flush();
}

} // namespace spherical
