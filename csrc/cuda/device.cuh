// How every kernel is launched: on its device, on torch's current stream, with an error check.
// Status of csrc/cuda: compiled for sm_80, sm_90 and sm_100; not yet run on a GPU.
#pragma once
#include "../tensor.h"
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

// Looked up at the first CUDA tensor, among what the process has loaded: linking with
// libtorch_cuda.so, which defines it, would keep this library from a torch without CUDA.
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

constexpr int kThreads = 256;           // of every block
constexpr int64_t kMaxBlocks = 1 << 16; // fill any GPU many times over; kernels loop beyond that

// kernel<<<blocks, kThreads, shared_bytes>>>(parameters...) on the device's current stream.
template <class... Parameters>
void launch(int32_t device, void (*kernel)(Parameters...), int64_t blocks, int64_t shared_bytes,
            const Parameters &...parameters) {
  if (blocks == 0)
    return;
  const DeviceGuard guard(device);
  void *addresses[] = {const_cast<Parameters *>(&parameters)...};
  const cudaError_t error = cudaLaunchKernel(
      kernel, dim3(static_cast<unsigned>(std::min(blocks, kMaxBlocks))), dim3(kThreads), addresses,
      static_cast<size_t>(shared_bytes), current_stream(device));
  if (error != cudaSuccess)
    fail(std::string("CUDA: ") + cudaGetErrorString(error));
}

} // namespace spherical
