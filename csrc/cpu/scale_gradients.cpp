// The gradients of the loss, multiplied in place.
#include "../scale_gradients.h"
#include "../registration.h"
#include "parallel.h"
#include "simd.h"

namespace {
using namespace spherical;

template <class S, class T> SIMD_CLONES void multiply_all(S *x, int64_t n, T by) {
  for (int64_t i = 0; i < n; ++i)
    multiply(x[i], by);
}

void scale_gradients_cpu(StableIValue *stack, uint64_t, uint64_t) {
  unpack_scale_gradients(stack, [](const auto &args) {
    const auto by = *args.factor;
    using T = std::decay_t<decltype(by)>;
    if (by == T(1))
      return;
    for (const auto &array : args.arrays)
      with_elements<T>(array, [&](auto *x) {
        parallel_for(array.n, row_grain(1, 1, 0),
                     [=](int64_t begin, int64_t end) { multiply_all(x + begin, end - begin, by); });
      });
  });
}

const int registered = [] {
  Implementations("CPU").op("scale_gradients_", scale_gradients_cpu);
  return 0;
}();
} // namespace
