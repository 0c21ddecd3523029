// The gradients of the loss, multiplied in place by one launch.
#include "../scale_gradients.h"
#include "device.cuh"

namespace {
using namespace spherical;

// A thread begins so many loads before it waits for the first.
constexpr int kAtOnce = 8;

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    for_each_gradient(const __grid_constant__ ScaleGradients<T> args) {
  const T by = *args.factor;
  if (by == T(1))
    return;
  const int64_t first = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  const int64_t step = gridDim.x * int64_t{kThreads};
  for (int k = 0; k < kGradients; ++k)
    with_elements<T>(args.arrays[k], [&](auto *x) {
      const int64_t n = args.arrays[k].n;
      for (int64_t i = first; i < n; i += kAtOnce * step) {
        std::decay_t<decltype(*x)> element[kAtOnce];
#pragma unroll
        for (int j = 0; j < kAtOnce; ++j)
          if (i + j * step < n)
            element[j] = x[i + j * step];
#pragma unroll
        for (int j = 0; j < kAtOnce; ++j)
          if (i + j * step < n) {
            multiply(element[j], by);
            x[i + j * step] = element[j];
          }
      }
    });
}

// The blocks are few, so that they cost little where the factor is 1.
template <class T> void launch_multiply(const ScaleGradients<T> &args) {
  constexpr int64_t elements = kThreads * kAtOnce; // of a block, at least
  const int64_t blocks = (args.longest() + elements - 1) / elements;
  launch(args.device, for_each_gradient<T>, std::min(blocks, 2 * kEnoughBlocks), kThreads, args);
}

void scale_gradients_cuda(StableIValue *stack, uint64_t, uint64_t) {
  unpack_scale_gradients(stack, [](const auto &args) { launch_multiply(args); });
}

const int registered = [] {
  Implementations("CUDA").op("scale_gradients_", scale_gradients_cuda);
  return 0;
}();
} // namespace
