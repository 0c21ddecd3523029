// Work shared out over the threads of torch's own pool.
#pragma once
#include "../tensor.h"

namespace spherical {

// Calls f(begin, end) for ranges of about `grain` that together are [0, n).
template <class F> void parallel_for(int64_t n, int64_t grain, const F &f) {
  TORCH_C(
      torch_parallel_for, 0, n, grain,
      [](int64_t begin, int64_t end, void *ctx) { (*static_cast<const F *>(ctx))(begin, end); },
      const_cast<F *>(&f));
}

// The number of rows that give a thread about 30 microseconds of work, where an element of a row
// costs `element` and the scalars of a row cost `row`, in units of 0.3 ns.
inline int64_t row_grain(int64_t d, int64_t element, int64_t row) {
  return std::max<int64_t>(1, 100000 / (d * element + row));
}

} // namespace spherical
