// KL divergences.
#include "../kl.h"
#include "device.cuh"

namespace {
using namespace spherical;

template <class Kl, class T> struct Element {
  KlArguments<T> args;
  __device__ void operator()(int64_t i) const { args.template element<Kl, T>(i); }
};

void kl_cuda(StableIValue *stack, uint64_t, uint64_t) {
  kl(stack, [](auto divergence, const auto &args) {
    using T = std::remove_pointer_t<decltype(args.out)>;
    launch_elements(args.device, args.in.rows.n, Element<decltype(divergence), T>{args});
  });
}

const int registered = [] {
  Implementations("CUDA").op("kl", kl_cuda);
  return 0;
}();
} // namespace
