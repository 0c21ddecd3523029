// KL divergences.
#include "../kl.h"
#include "../registration.h"
#include "parallel.h"

namespace {
using namespace spherical;

constexpr int64_t kGrain = 64; // an element takes some microseconds

void kl_cpu(StableIValue *stack, uint64_t, uint64_t) {
  unpack_kl(stack, [](auto p, auto q, const KlArguments &args) {
    parallel_for(args.operands.rows.n, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        args.element<decltype(p), decltype(q)>(i);
    });
  });
}

const int registered = [] {
  Implementations("CPU").op("kl", kl_cpu);
  return 0;
}();
} // namespace
