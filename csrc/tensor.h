// Tensor owns a tensor of torch, through torch's C functions.
#pragma once
#include "torch_c.h"
#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>
#ifdef __linux__
#include <sys/mman.h>
#endif

namespace spherical {

[[noreturn]] inline void fail(const std::string &message) {
  throw std::runtime_error("powerspherical_ext: " + message);
}

// The text of the error that torch raised last in this thread; empty if torch does not tell.
inline std::string reason() {
  return torch_exception_get_what_without_backtrace ? torch_exception_get_what_without_backtrace()
                                                    : "";
}

inline void call(AOTITorchError error, const char *function) {
  if (error == 0)
    return;
  const std::string why = reason();
  fail(std::string(function) + " failed: " + (why.empty() ? "see stderr" : why));
}
#define TORCH_C(function, ...) ::spherical::call(function(__VA_ARGS__), #function)

// Returns the product of the sizes of a tensor. As in torch, it must not overflow where one of them
// is 0 either, so that no product of some of them overflows.
inline int64_t product(const std::vector<int64_t> &sizes) {
  int64_t result = 1;
  for (const int64_t size : sizes)
    if (__builtin_mul_overflow(result, std::max<int64_t>(size, 1), &result))
      fail("the product of the sizes of a tensor exceeds 2^63");
  return std::count(sizes.begin(), sizes.end(), 0) > 0 ? 0 : result;
}

// A Tensor owns one reference, as the dispatcher hands it over.
class Tensor {
public:
  explicit Tensor(AtenTensorHandle handle) : Tensor() { // so that it is destroyed if a call fails
    handle_ = handle;
    TORCH_C(aoti_torch_get_dim, handle_, &dim_);
    TORCH_C(aoti_torch_get_sizes, handle_, &sizes_);
    TORCH_C(aoti_torch_get_strides, handle_, &strides_);
    TORCH_C(aoti_torch_get_dtype, handle_, &dtype_);
    TORCH_C(aoti_torch_get_device_type, handle_, &device_type_);
    TORCH_C(aoti_torch_get_device_index, handle_, &device_index_);
  }
  explicit Tensor(StableIValue value) : Tensor(reinterpret_cast<AtenTensorHandle>(value)) {}
  Tensor(const Tensor &) = delete;
  Tensor &operator=(const Tensor &) = delete;
  Tensor(Tensor &&other) noexcept { swap(other); }
  Tensor &operator=(Tensor &&other) noexcept {
    swap(other);
    return *this;
  }
  ~Tensor() {
    if (handle_)
      aoti_torch_delete_tensor_object(handle_);
  }

  int64_t dim() const { return dim_; }
  int64_t size(int64_t i) const { return sizes_[i]; }
  int64_t stride(int64_t i) const { return strides_[i]; }
  int32_t dtype() const { return dtype_; }
  int32_t device_type() const { return device_type_; }
  int32_t device_index() const { return device_index_; }

  template <class T> const T *in() const {
    const void *data;
    TORCH_C(torch_get_const_data_ptr, handle_, &data);
    return static_cast<const T *>(data);
  }
  template <class T> T *out() {
    void *data;
    TORCH_C(torch_get_mutable_data_ptr, handle_, &data);
    return static_cast<T *>(data);
  }
  std::vector<int64_t> shape() const { return std::vector<int64_t>(sizes_, sizes_ + dim_); }
  StableIValue release() { return reinterpret_cast<StableIValue>(std::exchange(handle_, nullptr)); }

  // Returns a new contiguous tensor.
  static Tensor empty(const std::vector<int64_t> &sizes, int32_t dtype, int32_t device_type,
                      int32_t device_index) {
    const int64_t elements = product(sizes);
    std::vector<int64_t> strides(sizes.size());
    int64_t step = 1;
    for (size_t i = sizes.size(); i-- > 0;) {
      strides[i] = step;
      step *= std::max<int64_t>(sizes[i], 1);
    }
    AtenTensorHandle result;
    if (aoti_torch_empty_strided(static_cast<int64_t>(sizes.size()), sizes.data(), strides.data(),
                                 dtype, device_type, device_index, &result) != 0)
      fail_to_allocate(elements, dtype, device_type, device_index);
    Tensor tensor(result);
    if (elements >= kLarge && device_type == aoti_torch_device_type_cpu())
      tensor.ask_for_huge_pages();
    return tensor;
  }
  // Returns a new contiguous tensor of this device and dtype.
  Tensor empty(const std::vector<int64_t> &sizes) const {
    return empty(sizes, dtype_, device_type_, device_index_);
  }

  // Returns a contiguous copy, expanded to `sizes`.
  Tensor copy(const std::vector<int64_t> &sizes) const {
    Tensor result = empty(sizes);
    TORCH_C(aoti_torch_copy_, result.handle_, handle_, 0);
    return result;
  }

  bool is_contiguous() const {
    int64_t step = 1;
    for (int64_t i = dim_ - 1; i >= 0; --i) {
      if (sizes_[i] > 1 && strides_[i] != step)
        return false;
      step *= sizes_[i];
    }
    return true;
  }

  // Returns whether each row [d] is one value repeated, with stride 0.
  bool has_uniform_rows() const { return dim_ > 0 && strides_[dim_ - 1] == 0; }

  // Replaces this tensor by a contiguous copy unless the elements of each row [d] lie side by side.
  void make_rows_dense() {
    if (dim_ > 0 && sizes_[dim_ - 1] > 1 && strides_[dim_ - 1] != 1)
      *this = copy(shape());
  }

private:
  static constexpr int64_t kLarge = 1LL << 20; // elements

  Tensor() = default;

  // The C functions of torch drop the type of the exception. _kernels.py knows this message,
  // and raises torch's own error. Where nothing translates it, as in compiled programs, it still
  // has the words by which programs recognise that memory is short.
  [[noreturn]] static void fail_to_allocate(int64_t elements, int32_t dtype, int32_t device_type,
                                            int32_t device_index) {
    const auto size = static_cast<int64_t>(aoti_torch_dtype_element_size(dtype));
    const std::string bytes = std::to_string(product({elements, size}));
    const bool cpu = device_type == aoti_torch_device_type_cpu();
    std::string why = reason();
    if (why.empty())
      why =
          cpu ? "DefaultCPUAllocator: can't allocate memory: you tried to allocate " + bytes +
                    " bytes."
              : "CUDA out of memory, or an error of an earlier kernel; stderr has torch's message.";
    fail("cannot allocate " + bytes + " bytes on " +
         (cpu ? "cpu" : "cuda:" + std::to_string(device_index)) + ": " + why);
  }

  // The first touch of each new page of 4 KiB costs a page fault. For a large tensor these faults
  // take longer than the kernel that writes it. NumPy asks for huge pages in the same way, from
  // 4 MiB on; torch does not.
  void ask_for_huge_pages() {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    constexpr uintptr_t page = 4096;
    int64_t bytes;
    TORCH_C(aoti_torch_get_storage_size, handle_, &bytes);
    const auto begin = reinterpret_cast<uintptr_t>(out<char>());
    const uintptr_t first = (begin + page - 1) / page * page;
    const uintptr_t last = (begin + static_cast<uintptr_t>(bytes)) / page * page;
    madvise(reinterpret_cast<void *>(first), last - first, MADV_HUGEPAGE); // a hint: may fail
#endif
  }

  void swap(Tensor &other) noexcept {
    std::swap(handle_, other.handle_);
    std::swap(dim_, other.dim_);
    std::swap(sizes_, other.sizes_);
    std::swap(strides_, other.strides_);
    std::swap(dtype_, other.dtype_);
    std::swap(device_type_, other.device_type_);
    std::swap(device_index_, other.device_index_);
  }

  AtenTensorHandle handle_ = nullptr;
  int64_t dim_ = 0;
  int64_t *sizes_ = nullptr;
  int64_t *strides_ = nullptr;
  int32_t dtype_ = 0;
  int32_t device_type_ = 0;
  int32_t device_index_ = 0;
};

} // namespace spherical
