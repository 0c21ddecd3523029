// Functions of (kappa, d) alone, computed in double: float results are rounded once.
#include "../in_kappa.h"

namespace {
using namespace spherical;

constexpr int64_t kGrain = 1024; // of some 20 to 50 ns each

void in_kappa_cpu(StableIValue *stack, uint64_t, uint64_t) {
  in_kappa(stack, [](auto family, const auto &args) {
    parallel_for(args.in.rows.n, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        args.template element<decltype(family), double>(i);
    });
  });
}

const int registered = [] {
  Implementations("CPU").op("in_kappa", in_kappa_cpu);
  return 0;
}();
} // namespace
