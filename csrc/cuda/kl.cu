// KL divergences.
#include "../kl.h"
#include "device.cuh"

namespace {
using namespace spherical;

template <class Kl> struct Element {
  KlArguments args;
  __device__ void operator()(int64_t i) const { args.element<Kl>(i); }
};

void kl_cuda(StableIValue *stack, uint64_t, uint64_t) {
  unpack_kl(stack, [](auto divergence, const KlArguments &args) {
    launch_elements(args.device, args.operands.rows.n, Element<decltype(divergence)>{args});
  });
}

const int registered = [] {
  Implementations("CUDA").op("kl", kl_cuda);
  return 0;
}();
} // namespace
