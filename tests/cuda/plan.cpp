// csrc/cuda/plan.h for test_plan.py.
#include "cuda/plan.h"

using namespace spherical;

// What n rows of d elements become: {team, threads of a block, parts of a row, elements of a part,
// those of a chunk, packs of a thread in a chunk, resident, split, layout, rows of a team}.
extern "C" void plan(bool is_float, int64_t n, int64_t d, int layout, int64_t *out) {
  const auto wanted = static_cast<Layout>(layout);
  const RowPlan plan = is_float ? plan_rows<float>(n, d, wanted) : plan_rows<double>(n, d, wanted);
  const int64_t values[] = {plan.team,     plan.threads(),  plan.parts,
                            plan.length,   plan.chunk(),    kPacks,
                            plan.resident, plan.is_split(), static_cast<int64_t>(plan.layout),
                            plan.rows};
  for (size_t i = 0; i < sizeof values / sizeof *values; ++i)
    out[i] = values[i];
}

// The row, the part, and the elements [begin, end) of item i of n * parts.
extern "C" void item(bool is_float, int64_t n, int64_t d, int64_t i, int64_t *out) {
  const auto layout = Layout::wide;
  const RowPlan plan = is_float ? plan_rows<float>(n, d, layout) : plan_rows<double>(n, d, layout);
  const Item item = plan.part(i);
  out[0] = item.row;
  out[1] = item.first;
  out[2] = plan.begin(item.first);
  out[3] = plan.begin(item.last);
}

// The elements that a thread reads in the q-th pack of the chunk at `begin`; returns how many there
// are.
extern "C" int pack(bool is_float, int64_t d, int layout, int64_t begin, int rank, int q,
                    int64_t *out) {
  const auto wanted = static_cast<Layout>(layout);
  const RowPlan plan = is_float ? plan_rows<float>(1, d, wanted) : plan_rows<double>(1, d, wanted);
  const Place place = plan.place(begin, rank, q);
  int count = 0;
  for (int k = 0; k < plan.width; ++k)
    if (place.has(k))
      out[count++] = place.first + k * (place.layout == Layout::strided ? 32 : 1);
  return count;
}

extern "C" int64_t blocks(int64_t n, int64_t d, int64_t items) {
  return plan_rows<float>(n, d, Layout::wide).blocks(items);
}
