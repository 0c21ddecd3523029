// How rows are shared out, over the threads of a team and over the blocks of a launch. This file is
// index arithmetic alone, for host and device; its test tries it at sizes that no memory holds.
// Nothing here depends on the GPU, so that d alone decides in which order a row is summed.
#pragma once
#include "../math/portable.h"
#include <algorithm>

namespace spherical {

constexpr int kPacks = 2;              // packs that a thread reads before it uses the first
constexpr int kChunksPerPart = 4;      // a chunk has kPacks packs of each thread
constexpr int kThreads = 128;          // threads of a block whose teams are at most a warp
constexpr int64_t kEnoughBlocks = 512; // blocks that fill any GPU
constexpr int kMostRows = 8;           // that a team takes before it writes their scalars

// The most threads that a row may occupy; they are a block. More would have too few registers each.
template <class T> constexpr int kMaxTeam = 256;
constexpr int kMaxWarps = kMaxTeam<float> / 32;

// A pack is what a thread moves by one 16-byte access: this many elements of T.
template <class T> constexpr int kPackWidth = 16 / static_cast<int>(sizeof(T));

// How the elements of a pack lie in the row.
enum class Layout {
  wide,       // side by side, aligned to 16 bytes
  neighbours, // side by side
  strided     // 32 apart: those of a warp's threads side by side
};

// The elements first, first + step, ... of a row, of which those below first + left exist: of a
// wide pack all or none.
struct Place {
  Layout layout;
  int32_t left;
  int64_t first;

  HD_INLINE bool has(int k) const { return k * (layout == Layout::strided ? 32 : 1) < left; }
};

// Parts [first, last) of a row.
struct Item {
  int64_t row;
  int32_t first;
  int32_t last;
};

struct RowPlan {
  int64_t n;
  int64_t d;
  int32_t parts;  // of a row, summed one by one
  int32_t length; // of all parts but the last
  Layout layout;
  int32_t width; // of a pack
  int32_t team;  // threads that share a row or a part of it, a power of two
  int32_t log2_team;
  int64_t teams; // of a block
  int32_t rows;  // that a team takes, one after another, before it writes their scalars
  bool resident; // the registers of a team hold a row

  // The rows are few, and long: their parts go to teams of their own, not one after another.
  bool is_split() const { return parts > 1 && n < kEnoughBlocks; }
  HD_INLINE int32_t threads() const { return team > 32 ? team : kThreads; } // of a block
  int64_t blocks(int64_t items) const { return (items + items_of_block() - 1) / items_of_block(); }
  HD_INLINE int64_t items_of_block() const { return teams * rows; }

  HD_INLINE Item row(int64_t i) const { return {i, 0, parts}; }
  HD_INLINE Item part(int64_t i) const { // of n * parts
    const int64_t row = i / parts;
    const int32_t p = static_cast<int32_t>(i - row * parts);
    return {row, p, p + 1};
  }

  // Elements [begin(p), begin(p + 1)) are those of part p.
  HD_INLINE int64_t begin(int32_t p) const {
    const int64_t begin = int64_t{p} * length;
    return begin < d ? begin : d;
  }

  // The number of elements of a part that a team reads at once.
  HD_INLINE int32_t chunk() const { return team * width * kPacks; }

  // The q-th of kPacks packs that a thread reads of the chunk that begins there. All parts but the
  // last are whole chunks, so only the end of the row cuts a chunk short.
  HD_INLINE Place place(int64_t chunk, int rank, int q) const {
    const int pack = q * team + rank, lane = pack % 32;
    const int first = layout == Layout::strided ? (pack - lane) * width + lane : pack * width;
    const int64_t left = d - chunk - first;
    return {layout, static_cast<int32_t>(left < width * 32 ? left : width * 32), chunk + first};
  }
};

// A team is the fewest threads with a pack each, up to a warp; from there on the fewest that hold a
// row in their registers, up to kMaxTeam. A team takes several rows where enough blocks remain.
template <class T> RowPlan plan_rows(int64_t n, int64_t d, Layout layout) {
  RowPlan plan{n, d, 1, 0, layout, kPackWidth<T>, 1, 0, 1, 1, true};
  while (plan.team < 32 ? plan.team * plan.width < d : plan.chunk() < d && plan.team < kMaxTeam<T>)
    plan.team = 1 << ++plan.log2_team;
  plan.teams = plan.threads() / plan.team;
  plan.resident = d <= plan.chunk();
  if (layout == Layout::strided && plan.team < 32)
    plan.layout = Layout::neighbours;
  plan.length = kChunksPerPart * plan.chunk();
  plan.parts = static_cast<int32_t>((d + plan.length - 1) / plan.length);
  const int32_t most = std::min(kMostRows, plan.team); // each row's scalars have a thread
  while (plan.rows < most && n / plan.items_of_block() >= 16 * kEnoughBlocks)
    plan.rows *= 2;
  return plan;
}

} // namespace spherical
