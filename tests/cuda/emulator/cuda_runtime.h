// A stand-in for CUDA that runs kernels on the CPU, so that csrc/cuda is tested where there is no
// GPU: its index arithmetic, alignment, shuffles and barriers, that is all but the GPU's own
// arithmetic. The threads of a block are coroutines which switch at barriers; blocks run one after
// another. The compiler includes this file first, so that the torch functions below reach the
// emulator.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>

#define __host__
#define __device__
#define __global__
#define __shared__ // of one block at a time: a static variable
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)

#define dlopen emulated_dlopen
#define dlsym emulated_dlsym
#define aoti_torch_create_device_guard emulated_create_device_guard
#define aoti_torch_delete_device_guard emulated_delete_device_guard
#define aoti_torch_device_type_cuda aoti_torch_device_type_cpu
#define aoti_torch_library_init_def emulated_library_init_def
#define aoti_torch_library_init_impl emulated_library_init_impl

struct dim3 {
  unsigned x, y, z;
  explicit dim3(unsigned x = 1) : x(x), y(1), z(1) {}
};
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

using cudaStream_t = void *;
enum cudaError_t { cudaSuccess, cudaErrorLaunchFailure };
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone };
inline cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus *status) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();

namespace emulated {
cudaError_t run(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                const std::function<void()> &thread);
void barrier(unsigned first_thread, unsigned mask, unsigned count);
// How often the threads of the mask, in the warp that begins there, have met.
unsigned generation(unsigned first_thread, unsigned mask);
void *slot(unsigned thread, unsigned number); // what a thread passes to others in a shuffle
void require(bool condition, const char *message);
} // namespace emulated

inline void __syncthreads() { emulated::barrier(~0u, ~0u, blockDim.x); }

// Blocks run one after another.
inline void __threadfence() {}
inline unsigned atomicInc(unsigned *x, unsigned last) {
  const unsigned before = *x;
  *x = before >= last ? 0 : before + 1;
  return before;
}

inline void __syncwarp(unsigned mask) {
  emulated::require(mask >> (threadIdx.x % 32) & 1, "a thread outside its own mask");
  emulated::barrier(threadIdx.x / 32 * 32, mask, static_cast<unsigned>(__builtin_popcount(mask)));
}

// The value of a thread of this warp.
template <class T> T __shfl_from(unsigned mask, T value, unsigned lane) {
  emulated::require(mask >> lane & 1, "a shuffle from outside the mask");
  // Whole warps and parts of them take slots in turn, each their own two, so that no thread
  // overwrites what another is yet to read. A launch has parts of one size.
  const unsigned first = threadIdx.x / 32 * 32;
  const unsigned number = 2 * (mask == ~0u) + emulated::generation(first, mask) % 2;
  std::memcpy(emulated::slot(threadIdx.x, number), &value, sizeof value);
  __syncwarp(mask);
  std::memcpy(&value, emulated::slot(first + lane, number), sizeof value);
  return value;
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int distance) {
  return __shfl_from(mask, value, (threadIdx.x ^ static_cast<unsigned>(distance)) % 32);
}
template <class T> T __shfl_sync(unsigned mask, T value, int lane, int width) {
  const unsigned segment = threadIdx.x % 32 / static_cast<unsigned>(width);
  return __shfl_from(mask, value,
                     segment * static_cast<unsigned>(width) + static_cast<unsigned>(lane));
}

template <class... Parameters>
cudaError_t cudaLaunchKernel(void (*kernel)(Parameters...), dim3 grid, dim3 block, void **values,
                             size_t shared_bytes, cudaStream_t stream) {
  return emulated::run(grid, block, shared_bytes, stream, [=] {
    void **next = values;
    const std::tuple<Parameters...> parameters{*static_cast<Parameters *>(*next++)...};
    std::apply(kernel, parameters);
  });
}
