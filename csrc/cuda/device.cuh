// How every kernel is launched: on its device, on torch's current stream, with an error check.
// The kernels of csrc/cuda compile for sm_75 to sm_120. They have not yet run on a GPU.
#pragma once
#include "../registration.h"
#include "plan.h"
#include <atomic>
#include <cuda_runtime.h>
#include <dlfcn.h>

namespace spherical {

class DeviceGuard {
public:
  explicit DeviceGuard(int32_t device) {
    TORCH_C(aoti_torch_create_device_guard, device, &handle_);
  }
  DeviceGuard(const DeviceGuard &) = delete;
  DeviceGuard &operator=(const DeviceGuard &) = delete;
  ~DeviceGuard() { aoti_torch_delete_device_guard(handle_); }

private:
  DeviceGuardHandle handle_;
};

// The function is looked up at the first CUDA tensor, in the libraries that the process has loaded.
// Linking with libtorch_cuda.so, which defines it, would keep this library from loading into a
// torch without CUDA.
inline cudaStream_t current_stream(int32_t device) {
  using Function = AOTITorchError (*)(int32_t device, void **stream);
  static const auto function = [] {
    void *torch_cuda = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    void *symbol = torch_cuda ? dlsym(torch_cuda, "aoti_torch_get_current_cuda_stream") : nullptr;
    return reinterpret_cast<Function>(symbol);
  }();
  if (!function)
    fail("this torch has no CUDA support");
  void *stream;
  call(function(device, &stream), "aoti_torch_get_current_cuda_stream");
  return static_cast<cudaStream_t>(stream);
}

// Raises an error of CUDA. Torch, which asks for the last one after each launch, does not find it
// again.
inline void check(cudaError_t error) {
  if (error == cudaSuccess)
    return;
  cudaGetLastError(); // forgets it
  fail(std::string("CUDA: ") + cudaGetErrorString(error));
}

constexpr int64_t kMaxBlocks = 1 << 16; // enough to fill any GPU many times; kernels loop beyond

// kernel<<<blocks, threads>>>(parameters...) on the device's current stream.
template <class... Parameters>
void launch(int32_t device, void (*kernel)(Parameters...), int64_t blocks, int32_t threads,
            const Parameters &...parameters) {
  if (blocks == 0)
    return;
  const cudaStream_t stream = current_stream(device);
  const DeviceGuard guard(device);
  void *addresses[] = {const_cast<Parameters *>(&parameters)...};
  check(cudaLaunchKernel(kernel, dim3(static_cast<unsigned>(std::min(blocks, kMaxBlocks))),
                         dim3(static_cast<unsigned>(threads)), addresses, 0, stream));
}

// Blocks of a launch that have ended: 0 before and after each launch that counts with it.
constexpr uint32_t kCounters = 1 << 15;
using Counter = uint32_t;

// The counter of a launch. Launches that run at once must not share one. Those of a graph keep theirs
// as long as the graph lives, so they take it from a half of their own. In each half a counter comes
// round again after more launches than GPU and host have under way. A launch that is cut short ends
// the context, and the counters with it. A counter that a memset clears before each launch would need
// none of this, but would be one more step of the stream, or node of the graph, for each sum.
inline Counter next_counter(int32_t device) {
  static std::atomic<uint32_t> eager, captured;
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  const DeviceGuard guard(device);
  check(cudaStreamIsCapturing(current_stream(device), &status));
  constexpr uint32_t half = kCounters / 2;
  return status == cudaStreamCaptureStatusNone ? eager++ % half : half + captured++ % half;
}

// Whether this block is the last of its launch to end. One thread of each block asks, when the block
// has stored what the last one is to read.
__device__ __forceinline__ bool ends_last(Counter counter) {
  static __device__ unsigned ended[kCounters];
  __threadfence();
  const bool last = atomicInc(&ended[counter], gridDim.x - 1) == gridDim.x - 1; // back to 0
  __threadfence();
  return last;
}

// A new array from torch's allocator. That hands freed memory to later work of the same stream
// only.
template <class T> Tensor new_array(int32_t device, int64_t size) {
  return Tensor::empty({size},
                       is_float32<T> ? aoti_torch_dtype_float32() : aoti_torch_dtype_float64(),
                       aoti_torch_device_type_cuda(), device);
}

// Calls element(i) for each i in [0, n), by one thread each.
template <class Element>
__global__ void __launch_bounds__(kThreads, 1)
    for_each_element(const __grid_constant__ Element element, const int64_t n) {
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < n;
       i += gridDim.x * int64_t{kThreads})
    element(i);
}

template <class Element> void launch_elements(int32_t device, int64_t n, const Element &element) {
  launch(device, for_each_element<Element>, (n + kThreads - 1) / kThreads, kThreads, element, n);
}

} // namespace spherical
