// KL divergences.
#include "../kl.h"
#include "device.cuh"

namespace {
using namespace spherical;

template <class P, class Q> struct Element {
  KlArguments args;
  __device__ void operator()(int64_t i) const { args.element<P, Q>(i); }
};

void kl_cuda(StableIValue *stack, uint64_t, uint64_t) {
  unpack_kl(stack, [](auto p, auto q, const KlArguments &args) {
    launch_elements(args.device, args.operands.rows.n, Element<decltype(p), decltype(q)>{args});
  });
}

const int registered = [] {
  Implementations("CUDA").op("kl", kl_cuda);
  return 0;
}();
} // namespace
