// Functions of (kappa, d) alone: a thread for each element.
#include "../in_kappa.h"
#include "device.cuh"

namespace {
using namespace spherical;

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 1 << 16;

template <class Family, class T>
__global__ void __launch_bounds__(kThreads)
    for_each_element(const __grid_constant__ InKappaArguments<T> args) {
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < args.in.rows.n;
       i += gridDim.x * int64_t{kThreads})
    args.template element<Family>(i);
}

void in_kappa_cuda(StableIValue *stack, uint64_t, uint64_t) {
  in_kappa(stack, [](auto family, const auto &args) {
    using T = std::remove_pointer_t<decltype(args.out)>;
    const int64_t n = args.in.rows.n, blocks = (n + kThreads - 1) / kThreads;
    if (n == 0)
      return;
    const DeviceGuard guard(args.device);
    for_each_element<decltype(family), T>
        <<<static_cast<unsigned>(std::min(blocks, kMaxBlocks)), kThreads, 0,
           current_stream(args.device)>>>(args);
    check_cuda(cudaGetLastError());
  });
}

const int registered = [] {
  Implementations("CUDA").op("in_kappa", in_kappa_cuda);
  return 0;
}();
} // namespace
