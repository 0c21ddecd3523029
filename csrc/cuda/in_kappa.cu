// Functions of (kappa, d) alone: a thread for each element.
#include "../in_kappa.h"
#include "device.cuh"

namespace {
using namespace spherical;

template <class Family, class T>
__global__ void __launch_bounds__(kThreads, 1)
    for_each_element(const __grid_constant__ InKappaArguments<T> args) {
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < args.in.rows.n;
       i += gridDim.x * int64_t{kThreads})
    args.template element<Family>(i);
}

void in_kappa_cuda(StableIValue *stack, uint64_t, uint64_t) {
  in_kappa(stack, [](auto family, const auto &args) {
    using T = std::remove_pointer_t<decltype(args.out)>;
    launch(args.device, for_each_element<decltype(family), T>,
           (args.in.rows.n + kThreads - 1) / kThreads, 0, args);
  });
}

const int registered = [] {
  Implementations("CUDA").op("in_kappa", in_kappa_cuda);
  return 0;
}();
} // namespace
