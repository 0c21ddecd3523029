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

inline void call(AOTITorchError error, const char *function) {
  if (error != 0)
    fail(std::string(function) + " failed");
}
#define TORCH_C(function, ...) ::spherical::call(function(__VA_ARGS__), #function)

// A Tensor owns one reference, as the dispatcher hands it over.
class Tensor {
public:
  explicit Tensor(AtenTensorHandle handle) : handle_(handle) {
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

  // Returns a new contiguous tensor of this device and dtype.
  Tensor empty(const std::vector<int64_t> &sizes) const { return empty(sizes, dtype_); }
  Tensor empty(const std::vector<int64_t> &sizes, int32_t dtype) const {
    std::vector<int64_t> strides(sizes.size());
    int64_t step = 1;
    for (size_t i = sizes.size(); i-- > 0;) {
      strides[i] = step;
      step *= std::max<int64_t>(sizes[i], 1);
    }
    AtenTensorHandle result;
    TORCH_C(aoti_torch_empty_strided, static_cast<int64_t>(sizes.size()), sizes.data(),
            strides.data(), dtype, device_type_, device_index_, &result);
    Tensor tensor(result);
    if (step >= kLarge && device_type_ == aoti_torch_device_type_cpu())
      tensor.ask_for_huge_pages();
    return tensor;
  }

  // Returns whether each row [d] is one value repeated, with stride 0.
  bool has_uniform_rows() const { return dim_ > 0 && strides_[dim_ - 1] == 0; }

  // Returns this tensor if its rows [d] are uniform or dense, else a contiguous copy.
  Tensor with_dense_or_uniform_rows() && {
    return has_uniform_rows() ? std::move(*this) : std::move(*this).with_dense_rows();
  }

  // Returns this tensor if the elements of each row [d] lie side by side, else a contiguous copy.
  Tensor with_dense_rows() && {
    if (dim_ == 0 || sizes_[dim_ - 1] <= 1 || strides_[dim_ - 1] == 1)
      return std::move(*this);
    Tensor copy = empty(shape());
    TORCH_C(aoti_torch_copy_, copy.handle_, handle_, 0);
    return copy;
  }

private:
  static constexpr int64_t kLarge = 1LL << 20; // elements

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
