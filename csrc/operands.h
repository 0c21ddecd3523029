// The operands of a kernel over rows: their batch dimensions broadcast, where row i of each begins,
// and as which type each is stored.
#pragma once
#include "math/half.h"
#include "math/types.h"
#include "tensor.h"
#include <initializer_list>

namespace spherical {

constexpr int kMaxBatchDims = 8;

// The batch dimensions of K operands, broadcast to one shape: n rows, each d wide. An operand has a
// stride in each dimension of that shape, in elements; it is 0 where the operand is expanded.
template <int K> struct Rows {
  int64_t n;
  int64_t d;
  int ndim;
  int64_t size[kMaxBatchDims];
  int64_t stride[K][kMaxBatchDims];

  // The offset of row i of operand k.
  HD_INLINE int64_t offset(int k, int64_t i) const {
    if (ndim == 1)
      return i * stride[k][0];
    int64_t sum = 0;
    for (int j = ndim - 1; j >= 0; --j) {
      const int64_t rest = i / size[j];
      sum += (i - rest * size[j]) * stride[k][j];
      i = rest;
    }
    return sum;
  }

  // The offsets of row i of the first N operands, with one division for each dimension.
  template <int N> HD_INLINE void offsets(int64_t i, int64_t (&out)[N]) const {
    for (int k = 0; k < N; ++k)
      out[k] = ndim == 1 ? i * stride[k][0] : 0;
    for (int j = ndim - 1; j >= 0 && ndim > 1; --j) {
      const int64_t rest = i / size[j], index = i - rest * size[j];
      for (int k = 0; k < N; ++k)
        out[k] += index * stride[k][j];
      i = rest;
    }
  }

  // Returns whether operand k is the same for all rows.
  bool is_shared(int k) const {
    bool shared = true;
    for (int j = 0; j < ndim; ++j)
      shared = shared && stride[k][j] == 0;
    return shared;
  }
};

// Appends a dimension, or merges it into the previous one where every operand allows it. Dimensions
// come outermost first. Returns false when there are more than kMaxBatchDims that cannot be merged.
template <int K> bool append_dim(Rows<K> &rows, int64_t size, const int64_t (&stride)[K]) {
  if (size == 1)
    return true;
  if (rows.ndim > 0) {
    const int last = rows.ndim - 1;
    bool mergeable = true;
    for (int k = 0; k < K; ++k)
      mergeable = mergeable && rows.stride[k][last] == stride[k] * size;
    if (mergeable) {
      rows.size[last] *= size;
      for (int k = 0; k < K; ++k)
        rows.stride[k][last] = stride[k];
      return true;
    }
  }
  if (rows.ndim == kMaxBatchDims)
    return false;
  rows.size[rows.ndim] = size;
  for (int k = 0; k < K; ++k)
    rows.stride[k][rows.ndim] = stride[k];
  ++rows.ndim;
  return true;
}

// How the gradient of an expanded operand is summed: each of the `count` rows of `operand` is the
// sum of `terms` neighbouring rows of the batch. terms is 1 where nothing is summed.
struct Sums {
  int operand;
  int64_t count;
  int64_t terms;
};

// Moves the dimensions in which operand k is expanded behind the others, so that the rows that are
// summed for one row of operand k are neighbours.
template <int K> Sums sums_of_expanded(Rows<K> &rows, int k) {
  Rows<K> sorted = rows;
  sorted.ndim = 0;
  Sums sums{k, 1, 1};
  for (const bool expanded : {false, true})
    for (int j = 0; j < rows.ndim; ++j) {
      if ((rows.stride[k][j] == 0) != expanded)
        continue;
      (expanded ? sums.terms : sums.count) *= rows.size[j];
      int64_t stride[K];
      for (int i = 0; i < K; ++i)
        stride[i] = rows.stride[i][j];
      append_dim(sorted, rows.size[j], stride); // no more dimensions than before
    }
  if (sorted.ndim > 0)
    rows = sorted;
  return sums;
}

// How the elements of an operand are stored: as the type T that the kernel computes in, or as
// another that the kernel converts.
enum class Storage : int32_t { native, float32, bfloat16, float16 };

// Calls f with the address `data` as a pointer to the type that `storage` stores, which is not T.
// Const is `const` for an address that is only read.
template <class T, class Void, class F>
HD_INLINE void dispatch_storage(Storage storage, Void *data, const F &f) {
  constexpr bool reads = std::is_const_v<Void>;
  if (storage == Storage::bfloat16)
    return f(static_cast<std::conditional_t<reads, const BFloat16, BFloat16> *>(data));
  if (storage == Storage::float16)
    return f(static_cast<std::conditional_t<reads, const Float16, Float16> *>(data));
  if constexpr (!is_float32<T>)
    f(static_cast<std::conditional_t<reads, const float, float> *>(data));
}

// The operands of a kernel that computes in T: `Inputs` that it reads, then `Results` that it
// writes. An op numbers them in this order. A result that is not needed is null.
template <class T, int Inputs, int Results> struct RowOperands {
  static constexpr int kOperands = Inputs + Results;
  Rows<kOperands> rows;
  const void *inputs[Inputs];
  void *results[Results];
  Storage storage[kOperands] = {}; // native

  HD_INLINE const void *data(int k) const { return k < Inputs ? inputs[k] : results[k - Inputs]; }
  HD_INLINE bool needs(int k) const { return results[k - Inputs] != nullptr; }
  HD_INLINE bool is_native(int k) const { return storage[k] == Storage::native; }

  // Row i of an input that is stored as T: [d], or one scalar.
  HD_INLINE const T *row(int k, int64_t i) const {
    return static_cast<const T *>(inputs[k]) + rows.offset(k, i);
  }
  // Row i of a result that is stored as T.
  HD_INLINE T *result(int k, int64_t i) const {
    return static_cast<T *>(results[k - Inputs]) + rows.offset(k, i);
  }

  // A result as an array over all rows, in their order, where no rows are summed.
  HD_INLINE T *array(int k) const { return static_cast<T *>(results[k - Inputs]); }

  // The scalar of an input at an offset, stored as T or as float.
  HD_INLINE T scalar(int k, int64_t offset) const {
    if constexpr (!is_float32<T>)
      if (!is_native(k))
        return static_cast<const float *>(inputs[k])[offset];
    return static_cast<const T *>(inputs[k])[offset];
  }
  // The concentration of a family at an offset of an input; NaN outside of its domain.
  template <class Family> HD_INLINE T concentration(int k, int64_t offset) const {
    return in_domain<Family>(scalar(k, offset));
  }
  // Stores the scalar of row i of a result, as T or as float.
  HD_INLINE void set_scalar(int k, int64_t i, T value) const {
    if (is_native(k))
      array(k)[i] = value;
    else
      static_cast<float *>(results[k - Inputs])[i] = static_cast<float>(value);
  }

  int64_t element_size(int k) const {
    return is_native(k) ? sizeof(T) : storage[k] == Storage::float32 ? 4 : 2;
  }

  // Returns whether every row of operand k consists of whole packs of `width` elements, aligned as
  // such.
  bool is_aligned(int k, int64_t width) const {
    const int64_t size = element_size(k), bytes = width * size;
    bool aligned = reinterpret_cast<uintptr_t>(data(k)) % static_cast<uintptr_t>(bytes) == 0 &&
                   rows.d * size % bytes == 0;
    for (int j = 0; j < rows.ndim; ++j)
      aligned = aligned && rows.stride[k][j] * size % bytes == 0;
    return aligned;
  }
};

// An input of an op: a tensor [..., d], or [...] where each row holds one scalar.
struct Input {
  const char *name;
  Tensor &tensor; // rows_of may replace it by a copy
  bool is_vector;
};

// A result of an op, of the same two kinds; its tensor is null where it is not needed.
struct Result {
  Tensor *tensor;
  bool is_vector;
};

inline int64_t batch_dim(const Tensor &tensor, bool is_vector) {
  return tensor.dim() - (is_vector ? 1 : 0);
}

// The common batch shape of the inputs of an op.
struct Batch {
  std::vector<int64_t> shape;
  int64_t n; // rows
  int64_t d;

  std::vector<int64_t> vectors() const { // [..., d]
    std::vector<int64_t> result = shape;
    result.push_back(d);
    return result;
  }

  // Returns whether `tensor` [..., d] has fewer rows than the batch.
  bool expands(const Tensor &tensor) const {
    const int64_t dims = static_cast<int64_t>(shape.size()), missing = dims - (tensor.dim() - 1);
    for (int64_t j = 0; j < dims; ++j)
      if ((j < missing ? 1 : tensor.size(j - missing)) != shape[static_cast<size_t>(j)])
        return true;
    return false;
  }
};

constexpr int64_t kUnknown = -1;

// Broadcasts the batch dimensions of the inputs. d must be given where no input is a vector.
template <int N>
__attribute__((cold)) Batch broadcast(const char *op, const Input (&inputs)[N],
                                      int64_t d = kUnknown) {
  Batch batch{{}, 0, d};
  const std::string prefix = std::string(op) + ": ";
  size_t dims = 0;
  for (const Input &input : inputs) {
    const int64_t own = batch_dim(input.tensor, input.is_vector);
    if (own < 0)
      fail(prefix + input.name + " must have at least one dimension");
    dims = std::max(dims, static_cast<size_t>(own));
    if (!input.is_vector)
      continue;
    const int64_t size = input.tensor.size(own);
    if (batch.d != kUnknown && size != batch.d)
      fail(prefix + input.name + " has dimension " + std::to_string(size) + ", expected " +
           std::to_string(batch.d));
    batch.d = size;
  }
  if (batch.d < 2)
    fail(prefix + "the sphere needs d >= 2, got " + std::to_string(batch.d));
  batch.shape.assign(dims, 1);
  for (const Input &input : inputs) {
    const int64_t own = batch_dim(input.tensor, input.is_vector);
    for (int64_t i = 0; i < own; ++i) {
      int64_t &size = batch.shape[dims - static_cast<size_t>(own - i)];
      const int64_t other = input.tensor.size(i);
      if (size != 1 && other != 1 && size != other)
        fail(prefix + input.name + " does not broadcast: size " + std::to_string(other) +
             " against " + std::to_string(size));
      size = other == 1 ? size : other;
    }
  }
  batch.n = product(batch.shape);
  return batch;
}

// Sets the dimensions of `rows` to those of the batch, merged. A result that is not needed counts as
// expanded. Returns false when there are more than kMaxBatchDims that cannot be merged.
template <int N, int M>
__attribute__((cold)) bool set_dims(Rows<N + M> &rows, const Batch &batch, const Input (&inputs)[N],
                                    const Result (&results)[M]) {
  const int64_t dims = static_cast<int64_t>(batch.shape.size());
  const auto stride_of = [dims](const Tensor &tensor, bool is_vector, int64_t j) {
    const int64_t i = j - (dims - batch_dim(tensor, is_vector));
    return i >= 0 && tensor.size(i) != 1 ? tensor.stride(i) : 0;
  };
  rows.ndim = 0;
  for (int64_t j = 0; j < dims; ++j) {
    int64_t stride[N + M] = {};
    for (int k = 0; k < N; ++k)
      stride[k] = stride_of(inputs[k].tensor, inputs[k].is_vector, j);
    for (int k = 0; k < M; ++k)
      if (results[k].tensor)
        stride[N + k] = stride_of(*results[k].tensor, results[k].is_vector, j);
    if (!append_dim(rows, batch.shape[static_cast<size_t>(j)], stride))
      return false;
  }
  if (rows.ndim == 0) {
    rows.ndim = 1;
    rows.size[0] = 1;
  }
  return true;
}

// The rows of all operands; none if no result is needed. Inputs whose dimensions cannot be merged to
// kMaxBatchDims are replaced by contiguous copies of the batch's shape, which merge to one dimension
// with every result but a summed one.
template <int N, int M>
__attribute__((cold)) Rows<N + M> rows_of(const char *op, const Batch &batch,
                                          const Input (&inputs)[N], const Result (&results)[M]) {
  Rows<N + M> rows{};
  rows.d = batch.d;
  for (const Result &result : results)
    if (result.tensor)
      rows.n = batch.n;
  if (set_dims(rows, batch, inputs, results))
    return rows;
  for (const Input &input : inputs)
    input.tensor = input.tensor.copy(input.is_vector ? batch.vectors() : batch.shape);
  if (!set_dims(rows, batch, inputs, results))
    fail(std::string(op) + ": the gradient of a vector that is expanded in some of more than " +
         std::to_string(kMaxBatchDims) +
         " batch dimensions cannot be summed here; leave out bit 8 of needs_grad, and sum it");
  return rows;
}

// A new tensor for the gradient of `vector` [..., d]: of its own shape where the gradient is
// summed, else with a row for each of the batch; without elements where it is not needed.
inline Tensor new_gradient(const Tensor &vector, const Batch &batch, bool needed, bool summed) {
  return vector.empty(!needed  ? std::vector<int64_t>{0}
                      : summed ? vector.shape()
                               : batch.vectors());
}

// How a tensor is stored, for a kernel that computes in T.
template <class T> Storage storage_of(const char *op, const char *name, const Tensor &tensor) {
  const int32_t dtype = tensor.dtype(), float32 = aoti_torch_dtype_float32();
  if (dtype == (is_float32<T> ? float32 : aoti_torch_dtype_float64()))
    return Storage::native;
  if (dtype == float32)
    return Storage::float32;
  if (dtype == aoti_torch_dtype_bfloat16())
    return Storage::bfloat16;
  if (dtype == aoti_torch_dtype_float16())
    return Storage::float16;
  fail(std::string(op) + ": " + name + " must be a floating-point tensor of no higher precision " +
       "than kappa");
}

// The operands of a kernel that computes in T.
template <class T, int N, int M>
RowOperands<T, N, M> row_operands(const char *op, const Rows<N + M> &rows, const Input (&inputs)[N],
                                  const Result (&results)[M]) {
  RowOperands<T, N, M> operands{rows, {}, {}};
  for (int k = 0; k < N; ++k) {
    operands.inputs[k] = inputs[k].tensor.template in<void>();
    operands.storage[k] = storage_of<T>(op, inputs[k].name, inputs[k].tensor);
  }
  for (int k = 0; k < M; ++k)
    if (Tensor *tensor = results[k].tensor) {
      operands.results[k] = tensor->out<void>();
      operands.storage[N + k] = storage_of<T>(op, "a result", *tensor);
    }
  return operands;
}

inline void check_same_device(const char *op, const Tensor &first,
                              std::initializer_list<const Tensor *> others) {
  for (const Tensor *other : others)
    if (other->device_type() != first.device_type() ||
        other->device_index() != first.device_index())
      fail(std::string(op) + ": all tensors must be on one device");
}

inline void check_same_dtype(const char *op, const Input &first, const Input &other) {
  if (other.tensor.dtype() != first.tensor.dtype())
    fail(std::string(op) + ": " + other.name + " must have the dtype of " + first.name);
}

} // namespace spherical
