// Thin owning wrapper over torch's C functions: tensors, broadcasting, parallel_for, registration.
#pragma once
#include "math/half.h"
#include "rows.h"
#include "torch_c.h"
#include <algorithm>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>
#ifdef __linux__
#include <sys/mman.h>
#endif

namespace spherical {

constexpr uint64_t kAbiVersion = (2ULL << 56) | (10ULL << 48); // behaves as built for torch 2.10

[[noreturn]] inline void fail(const std::string &message) {
  throw std::runtime_error("powerspherical_ext: " + message);
}

inline void call(AOTITorchError error, const char *function) {
  if (error != 0)
    fail(std::string(function) + " failed");
}
#define TORCH_C(function, ...) ::spherical::call(function(__VA_ARGS__), #function)

// Owns one reference, as the dispatcher hands it over.
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

  // A new contiguous tensor of this device and dtype.
  Tensor empty(const std::vector<int64_t> &sizes) const {
    std::vector<int64_t> strides(sizes.size());
    int64_t step = 1;
    for (size_t i = sizes.size(); i-- > 0;) {
      strides[i] = step;
      step *= std::max<int64_t>(sizes[i], 1);
    }
    AtenTensorHandle result;
    TORCH_C(aoti_torch_empty_strided, static_cast<int64_t>(sizes.size()), sizes.data(),
            strides.data(), dtype_, device_type_, device_index_, &result);
    Tensor tensor(result);
    if (step >= kLarge && device_type_ == aoti_torch_device_type_cpu())
      tensor.ask_for_huge_pages();
    return tensor;
  }

  // This tensor if each row holds one value alone (stride 0), or its elements side by side; else a
  // contiguous copy.
  Tensor with_dense_or_uniform_rows() && {
    return has_uniform_rows() ? std::move(*this) : std::move(*this).with_dense_rows();
  }
  bool has_uniform_rows() const { return dim_ > 0 && strides_[dim_ - 1] == 0; }

  // This tensor if the elements of a row lie side by side, else a contiguous copy.
  Tensor with_dense_rows() && {
    if (dim_ == 0 || sizes_[dim_ - 1] <= 1 || strides_[dim_ - 1] == 1)
      return std::move(*this);
    Tensor copy = empty(shape());
    TORCH_C(aoti_torch_copy_, copy.handle_, handle_, 0);
    return copy;
  }

private:
  static constexpr int64_t kLarge = 1LL << 20; // elements

  // The first touch of a new page of 4 KiB costs a page fault: together more than the kernel that
  // writes it. NumPy asks for huge pages in the same way (from 4 MiB on); torch does not by itself.
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

// One operand of a row-wise kernel: a tensor [..., d], or [...] when each row holds one scalar.
struct Operand {
  const char *name;
  const Tensor &tensor;
  bool is_vector;
  int64_t batch_dim() const { return tensor.dim() - (is_vector ? 1 : 0); }
};

// Broadcasts the batch dimensions of K operands and returns their common shape through `shape`. d
// is wanted only where no operand is a vector.
template <int K>
__attribute__((cold)) Rows<K> broadcast_rows(const char *op, const Operand (&operands)[K],
                                             std::vector<int64_t> &shape, int64_t d = 0) {
  Rows<K> rows{};
  rows.n = 1;
  rows.d = d;
  int64_t batch_dim = 0;
  for (const Operand &operand : operands) {
    if (operand.batch_dim() < 0)
      fail(std::string(op) + ": " + operand.name + " must have at least one dimension");
    batch_dim = std::max(batch_dim, operand.batch_dim());
    if (!operand.is_vector)
      continue;
    const int64_t size = operand.tensor.size(operand.tensor.dim() - 1);
    if (rows.d != 0 && size != rows.d)
      fail(std::string(op) + ": " + operand.name + " has dimension " + std::to_string(size) +
           ", expected " + std::to_string(rows.d));
    rows.d = size;
  }
  if (rows.d < 2)
    fail(std::string(op) + ": the sphere needs d >= 2, got " + std::to_string(rows.d));
  shape.assign(static_cast<size_t>(batch_dim), 1);
  for (int64_t j = 0; j < batch_dim; ++j) {
    int64_t stride[K] = {};
    int64_t &size = shape[static_cast<size_t>(j)];
    for (const Operand &operand : operands) {
      const int64_t i = j - (batch_dim - operand.batch_dim());
      if (i < 0 || operand.tensor.size(i) == 1)
        continue;
      if (size != 1 && size != operand.tensor.size(i))
        fail(std::string(op) + ": " + operand.name + " does not broadcast: size " +
             std::to_string(operand.tensor.size(i)) + " against " + std::to_string(size));
      size = operand.tensor.size(i);
    }
    for (int k = 0; k < K; ++k) {
      const int64_t i = j - (batch_dim - operands[k].batch_dim());
      if (i >= 0 && operands[k].tensor.size(i) != 1)
        stride[k] = operands[k].tensor.stride(i);
    }
    rows.n *= size;
    if (!append_dim(rows, size, stride))
      fail(std::string(op) + ": more than " + std::to_string(kMaxBatchDims) +
           " batch dimensions that cannot be merged; make the inputs contiguous");
  }
  if (rows.ndim == 0) {
    rows.ndim = 1;
    rows.size[0] = 1;
  }
  return rows;
}

// Whether `tensor`, one row for each of its own, is expanded to rows of this batch shape.
inline bool is_expanded(const Tensor &tensor, const std::vector<int64_t> &shape) {
  const int64_t missing = static_cast<int64_t>(shape.size()) - (tensor.dim() - 1);
  for (int64_t j = 0; j < static_cast<int64_t>(shape.size()); ++j)
    if ((j < missing ? 1 : tensor.size(j - missing)) != shape[static_cast<size_t>(j)])
      return true;
  return false;
}

inline std::vector<int64_t> with_event(std::vector<int64_t> shape, int64_t d) {
  shape.push_back(d);
  return shape;
}

inline void check_same_device(const char *op, const Tensor &first, const Tensor &other) {
  if (other.device_type() != first.device_type() || other.device_index() != first.device_index())
    fail(std::string(op) + ": all tensors must be on one device");
}

inline void check_same_kind(const char *op, const Tensor &first,
                            std::initializer_list<const Tensor *> others) {
  for (const Tensor *other : others) {
    if (other->dtype() != first.dtype())
      fail(std::string(op) + ": all tensors must have one dtype");
    check_same_device(op, first, *other);
  }
}

// How an operand is stored, for a kernel that computes in T: as T or in less precision.
template <class T> Storage storage_of(const char *op, const Operand &operand) {
  const int32_t dtype = operand.tensor.dtype(), float32 = aoti_torch_dtype_float32();
  if (dtype == (is_float32<T> ? float32 : aoti_torch_dtype_float64()))
    return Storage::native;
  if (dtype == float32)
    return Storage::float32;
  if (dtype == aoti_torch_dtype_bfloat16())
    return Storage::bfloat16;
  if (dtype == aoti_torch_dtype_float16())
    return Storage::float16;
  fail(std::string(op) + ": " + operand.name + " must be a floating-point tensor of no higher " +
       "precision than kappa");
}

// The operands of a kernel that computes in T, the dtype of those that are no vectors.
template <class T, int K>
RowInputs<T, K> row_inputs(const char *op, const Operand (&operands)[K], const Rows<K> &rows) {
  RowInputs<T, K> in{rows, {}, {}};
  for (int k = 0; k < K; ++k) {
    in.data[k] = operands[k].tensor.template in<void>();
    in.storage[k] = storage_of<T>(op, operands[k]);
    if (!operands[k].is_vector && !in.is_native(k))
      fail(std::string(op) + ": " + operands[k].name + " must have the dtype of kappa");
  }
  return in;
}

// Calls f(T{}) with the element type T of a float32 or float64 tensor.
template <class F> void dispatch_float(const char *op, const Tensor &tensor, const F &f) {
  if (tensor.dtype() == aoti_torch_dtype_float32())
    f(float{});
  else if (tensor.dtype() == aoti_torch_dtype_float64())
    f(double{});
  else
    fail(std::string(op) + ": expected float32 or float64");
}

template <class T> int32_t dtype_of() {
  if constexpr (std::is_same_v<T, double>)
    return aoti_torch_dtype_float64();
  else if constexpr (std::is_same_v<T, float>)
    return aoti_torch_dtype_float32();
  else if constexpr (std::is_same_v<T, BFloat16>)
    return aoti_torch_dtype_bfloat16();
  else
    return aoti_torch_dtype_float16();
}

// Calls f(T{}) with the element type T of a floating-point tensor.
template <class F> void dispatch_any_float(const char *op, const Tensor &tensor, const F &f) {
  if (tensor.dtype() == dtype_of<float>())
    f(float{});
  else if (tensor.dtype() == dtype_of<double>())
    f(double{});
  else if (tensor.dtype() == dtype_of<BFloat16>())
    f(BFloat16{});
  else if (tensor.dtype() == dtype_of<Float16>())
    f(Float16{});
  else
    fail(std::string(op) + ": expected float16, bfloat16, float32 or float64");
}

// The argument `needs_grad` of an op: which gradients, and whether that of an expanded vector
// is summed to the vector's own shape (which CPU kernels do) or left with one row for each of the
// batch.
struct NeedsGrad {
  bool value, mu, kappa, summed;

  explicit NeedsGrad(StableIValue bits)
      : value(bits & 1), mu(bits & 2), kappa(bits & 4), summed(bits & 8) {}

  bool sums(bool gradient, const Tensor &of, const std::vector<int64_t> &shape) const {
    return gradient && summed && is_expanded(of, shape);
  }
};

template <class F> void parallel_for(int64_t n, int64_t grain, const F &f) {
  TORCH_C(
      torch_parallel_for, 0, n, grain,
      [](int64_t begin, int64_t end, void *ctx) { (*static_cast<const F *>(ctx))(begin, end); },
      const_cast<F *>(&f));
}

// Registers kernels of one dispatch key.
class Implementations {
public:
  explicit Implementations(const char *key) {
    TORCH_C(aoti_torch_library_init_impl, "powerspherical_ext", key, __FILE__, __LINE__, &library_);
  }
  Implementations &op(const char *name, void (*kernel)(StableIValue *, uint64_t, uint64_t)) {
    TORCH_C(torch_library_impl, library_, name, kernel, kAbiVersion);
    return *this;
  }

private:
  TorchLibraryHandle library_;
};

} // namespace spherical
