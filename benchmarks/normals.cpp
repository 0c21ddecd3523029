// The arithmetic of the normals of a sample alone: rsample's own functions, tiles and threads, but
// nothing is read from memory or written to it. benchmarks/floor.py compiles this file.
#include "cpu/normals.h"
#include "cpu/parallel.h"
#include "cpu/tile.h"

using namespace spherical;

extern "C" __attribute__((visibility("default"))) void fill_with_normals(int64_t n, int64_t d) {
  const int64_t width = padded<float>(d), most = tile_rows(width);
  parallel_for(n, row_grain(d, 4, 256), [&](int64_t begin, int64_t end) {
    std::vector<float> tile(static_cast<size_t>(most * width));
    for (int64_t first = begin; first < end; first += most)
      fill_normals<float>({0, static_cast<uint64_t>(first)}, std::min(most, end - first), d,
                          tile.data(), [](int64_t) {});
  });
}
