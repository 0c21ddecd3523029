// What every CUDA launch needs from the host: the device, torch's current stream, an error check.
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

// libtorch_cuda.so defines this function. The library also loads into a torch without CUDA, so the
// function is looked up, among what the process has already loaded, when the first CUDA tensor
// comes.
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

inline void check_cuda(cudaError_t error) {
  if (error != cudaSuccess)
    fail(std::string("CUDA: ") + cudaGetErrorString(error));
}

} // namespace spherical
