// The part of torch's stable C ABI that these kernels call, exported by libtorch_cpu.so of every
// torch >= 2.10 (torch/csrc/stable/c/shim.h and torch/csrc/inductor/aoti_torch/c/shim.h there).
// Declared here so that a build needs no torch; tests/project/test_abi.py compiles this file beside
// the installed torch's own headers, so that a wrong declaration is a compile error. The build makes
// its link-time stand-in for libtorch_cpu.so from the names that begin a line below.
#pragma once
#include <cstddef>
#include <cstdint>

struct AtenTensorOpaque;
struct TorchLibraryOpaque;
struct DeviceGuardOpaque;
using AtenTensorHandle = AtenTensorOpaque *;
using TorchLibraryHandle = TorchLibraryOpaque *;
using DeviceGuardHandle = DeviceGuardOpaque *;
using StableIValue = uint64_t;
using AOTITorchError = int32_t;

extern "C" {
typedef void (*ParallelFunc)(int64_t begin, int64_t end, void *ctx);

// clang-format off
AOTITorchError aoti_torch_library_init_def(const char *ns, const char *file, uint32_t line, TorchLibraryHandle *ret);
AOTITorchError aoti_torch_library_init_impl(const char *ns, const char *key, const char *file, uint32_t line, TorchLibraryHandle *ret);
AOTITorchError aoti_torch_library_def(TorchLibraryHandle self, const char *schema);
AOTITorchError torch_library_impl(TorchLibraryHandle self, const char *name, void (*fn)(StableIValue *, uint64_t, uint64_t), uint64_t extension_build_version);

AOTITorchError aoti_torch_get_dim(AtenTensorHandle tensor, int64_t *ret);
AOTITorchError aoti_torch_get_sizes(AtenTensorHandle tensor, int64_t **ret);
AOTITorchError aoti_torch_get_strides(AtenTensorHandle tensor, int64_t **ret);
AOTITorchError aoti_torch_get_dtype(AtenTensorHandle tensor, int32_t *ret);
AOTITorchError aoti_torch_get_device_type(AtenTensorHandle tensor, int32_t *ret);
AOTITorchError aoti_torch_get_device_index(AtenTensorHandle tensor, int32_t *ret);
AOTITorchError aoti_torch_get_storage_size(AtenTensorHandle tensor, int64_t *ret);
AOTITorchError torch_get_const_data_ptr(AtenTensorHandle tensor, const void **ret);
AOTITorchError torch_get_mutable_data_ptr(AtenTensorHandle tensor, void **ret);
AOTITorchError aoti_torch_empty_strided(int64_t ndim, const int64_t *sizes, const int64_t *strides, int32_t dtype, int32_t device_type, int32_t device_index, AtenTensorHandle *ret);
AOTITorchError aoti_torch_copy_(AtenTensorHandle self, AtenTensorHandle src, int32_t non_blocking);
AOTITorchError aoti_torch_delete_tensor_object(AtenTensorHandle tensor);

AOTITorchError torch_parallel_for(int64_t begin, int64_t end, int64_t grain_size, ParallelFunc func, void *ctx);
AOTITorchError aoti_torch_create_device_guard(int32_t device_index, DeviceGuardHandle *ret);
AOTITorchError aoti_torch_delete_device_guard(DeviceGuardHandle guard);

const char *torch_exception_get_what_without_backtrace() __attribute__((weak)); // null before torch 2.13

size_t aoti_torch_dtype_element_size(int32_t dtype);
int32_t aoti_torch_device_type_cpu();
int32_t aoti_torch_device_type_cuda();
int32_t aoti_torch_dtype_bfloat16();
int32_t aoti_torch_dtype_bool();
int32_t aoti_torch_dtype_float16();
int32_t aoti_torch_dtype_float32();
int32_t aoti_torch_dtype_float64();
int32_t aoti_torch_dtype_int64();
// clang-format on
}
