// Loops over tiles that sum the gradient of an expanded operand as they go.
#pragma once
#include "../operands.h"
#include "parallel.h"
#include "tiles.h"

namespace spherical {

// Rows that a tile reads, and rows that it writes.
template <class T> struct Scratch {
  TileRows<T> in[3], out;
};

// total[i] += the sum over r of rows[r, i], added in sequence; rows is [n, d].
template <class T, class S>
SIMD_CLONES void add_rows(const T *rows, int64_t n, int64_t d, S *total) {
  for (int64_t r = 0; r < n; ++r)
    for (int64_t i = 0; i < d; ++i)
      total[i] += rows[r * d + i];
}

// A sum of more terms than this is divided into parts. The terms of a part are added in sequence in
// T, and the parts in double.
constexpr int64_t kTermsPerPart = 256;

// Calls tile(first, n, at, out, block) for each tile of `most` rows i = first ... first + n - 1,
// and scalars(first, n, block) after the tiles of a block of up to kTile rows, of which a tile
// begins at row `at`. A task has one Block, which holds what they pass on.
//
// tile puts row i of the result sums.operand, [d], at place i - first of out; out.row is null if
// that result is not needed. Each row that is stored is the sum of sums.terms neighbouring rows i.
// The order of the additions depends on the shapes alone.
template <class Block, class T, int I, int O, class Tile, class Scalars>
void for_each_tile(const RowOperands<T, I, O> &operands, const Sums &sums, int64_t most,
                   int64_t grain, const Tile &tile, const Scalars &scalars) {
  const int64_t d = operands.rows.d, terms = sums.terms;
  const int k = sums.operand;
  const bool needed = operands.needs(k);
  // places(first, n) says where rows go, and finish(first, n) is called when they are there.
  const auto for_each_row = [&](int64_t begin, int64_t end, Block &block, const auto &places,
                                const auto &finish) {
    for (int64_t first = begin; first < end; first += kTile) {
      const int64_t size = std::min(kTile, end - first);
      for (int64_t at = 0; at < size; at += most) {
        const int64_t n = std::min(most, size - at);
        tile(first + at, n, at, places(first + at, n), block);
        finish(first + at, n);
      }
      scalars(first, size, block);
    }
  };
  if (terms == 1 || !needed) {
    parallel_for(operands.rows.n, grain, [&](int64_t begin, int64_t end) {
      Block block;
      TileRows<T> rows;
      for_each_row(
          begin, end, block,
          [&](int64_t first, int64_t n) {
            return Places<T>{result_rows(operands, k, first, n, rows), false};
          },
          [&](int64_t first, int64_t n) { finish_rows(operands, k, first, n, rows); });
    });
    return;
  }
  if (terms == 0) { // nothing to add up: 0 has the same bits in every type
    memset(operands.results[k - I], 0,
           static_cast<size_t>(sums.count * d * operands.element_size(k)));
    return;
  }
  const int64_t parts = (terms + kTermsPerPart - 1) / kTermsPerPart;
  std::vector<T> partial(static_cast<size_t>(parts > 1 ? sums.count * parts * d : 0));
  const auto add_parts = [&](int64_t begin, int64_t end) {
    Block block;
    std::vector<T> total(static_cast<size_t>(d));
    T *same[kTile];
    std::fill_n(same, kTile, total.data());
    for (int64_t part = begin; part < end; ++part) {
      const int64_t sum = part / parts, first = part % parts * kTermsPerPart;
      const int64_t last = std::min(terms, first + kTermsPerPart);
      std::fill(total.begin(), total.end(), T(0));
      for_each_row(
          sum * terms + first, sum * terms + last, block,
          [&](int64_t, int64_t) { return Places<T>{same, true}; }, [](int64_t, int64_t) {});
      if (parts > 1)
        std::copy(total.begin(), total.end(), partial.begin() + part * d);
      else
        write_row(operands, k, sum * terms, total.data());
    }
  };
  const int64_t rows_per_part = std::min(terms, kTermsPerPart);
  parallel_for(sums.count * parts, std::max<int64_t>(1, grain / rows_per_part), add_parts);
  if (parts == 1)
    return;
  parallel_for(sums.count, std::max<int64_t>(1, grain / parts), [&](int64_t begin, int64_t end) {
    std::vector<double> total(static_cast<size_t>(d));
    std::vector<T> rounded(static_cast<size_t>(d));
    for (int64_t sum = begin; sum < end; ++sum) {
      std::fill(total.begin(), total.end(), 0.0);
      add_rows(partial.data() + sum * parts * d, parts, d, total.data());
      std::transform(total.begin(), total.end(), rounded.begin(),
                     [](double sum) { return static_cast<T>(sum); });
      write_row(operands, k, sum * terms, rounded.data());
    }
  });
}

} // namespace spherical
