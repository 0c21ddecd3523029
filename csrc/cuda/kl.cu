// KL divergences: a thread for each element.
#include "../kl.h"
#include "device.cuh"

namespace {
using namespace spherical;

template <class Kl, class T>
__global__ void __launch_bounds__(kThreads, 1)
    for_each_element(const __grid_constant__ KlArguments<T> args) {
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < args.in.rows.n;
       i += gridDim.x * int64_t{kThreads})
    args.template element<Kl>(i);
}

void kl_cuda(StableIValue *stack, uint64_t, uint64_t) {
  kl(stack, [](auto divergence, const auto &args) {
    using T = std::remove_pointer_t<decltype(args.out)>;
    launch(args.device, for_each_element<decltype(divergence), T>,
           (args.in.rows.n + kThreads - 1) / kThreads, 0, args);
  });
}

const int registered = [] {
  Implementations("CUDA").op("kl", kl_cuda);
  return 0;
}();
} // namespace
