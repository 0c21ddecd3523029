// x *= factor.
#include "../multiply.h"
#include "simd.h"

namespace {
using namespace spherical;

constexpr int64_t kGrain = 1 << 15;

#define LOOP_OVER(T)                                                                               \
  SIMD_CLONES void elements(const Multiply<T> &args, int64_t begin, int64_t end) {                 \
    const auto by = *args.factor;                                                                  \
    for (int64_t i = begin; i < end; ++i)                                                          \
      args.element(i, by);                                                                         \
  }
LOOP_OVER(float)
LOOP_OVER(double)
LOOP_OVER(BFloat16)
LOOP_OVER(Float16)

const int registered = [] {
  Implementations("CPU").op("multiply_", [](StableIValue *stack, uint64_t, uint64_t) {
    multiply(stack, [](const auto &args) {
      if (*args.factor != 1)
        parallel_for(args.n, kGrain,
                     [&](int64_t begin, int64_t end) { elements(args, begin, end); });
    });
  });
  return 0;
}();
} // namespace
