// The scalar functions of (kappa, d).
#include "../scalar_function.h"
#include "../registration.h"
#include "parallel.h"

namespace {
using namespace spherical;

constexpr int64_t kGrain = 1024; // an element takes 20 to 50 ns

void scalar_function_cpu(StableIValue *stack, uint64_t, uint64_t) {
  unpack_scalar_function(stack, [](auto family, const auto &args) {
    parallel_for(args.operands.rows.n, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        args.template element<decltype(family)>(i);
    });
  });
}

const int registered = [] {
  Implementations("CPU").op("scalar_function", scalar_function_cpu);
  return 0;
}();
} // namespace
