// Rows of broadcast operands: where row i of each operand starts, for host and device. Torch-free.
#pragma once
#include "math/portable.h"
#include <initializer_list>

namespace spherical {

constexpr int kMaxBatchDims = 8;

// K operands whose batch dimensions were broadcast to one shape: sizes and, for each operand, the
// strides of that shape (0 where the operand is expanded), in elements. n rows, each d wide.
template <int K> struct Rows {
  int64_t n;
  int64_t d;
  int ndim;
  int64_t size[kMaxBatchDims];
  int64_t stride[K][kMaxBatchDims];

  // Offset of operand k in row i.
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

  // Whether operand k is the same for all rows.
  bool is_shared(int k) const {
    bool shared = true;
    for (int j = 0; j < ndim; ++j)
      shared = shared && stride[k][j] == 0;
    return shared;
  }

  // Those of the first N operands, with one division for each dimension.
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

// Moves the dimensions in which operand k is expanded behind the others. Returns the number of
// rows that fall on each of its own, which are neighbours then; `own` is how many it has.
template <int K> int64_t put_expanded_last(Rows<K> &rows, int k, int64_t &own) {
  Rows<K> sorted = rows;
  sorted.ndim = 0;
  int64_t sharing = 1;
  own = 1;
  for (const bool expanded : {false, true})
    for (int j = 0; j < rows.ndim; ++j) {
      if ((rows.stride[k][j] == 0) != expanded)
        continue;
      (expanded ? sharing : own) *= rows.size[j];
      int64_t stride[K];
      for (int i = 0; i < K; ++i)
        stride[i] = rows.stride[i][j];
      append_dim(sorted, rows.size[j], stride); // no more dimensions than before
    }
  if (sorted.ndim > 0)
    rows = sorted;
  return sharing;
}

// How the elements of an operand are stored: as the type that the kernel computes in, or in another
// that it converts.
enum class Storage : int32_t { native, float32, bfloat16, float16 };

// The operands themselves, for a kernel that computes in T.
template <class T, int K> struct RowInputs {
  Rows<K> rows;
  const void *data[K];
  Storage storage[K] = {}; // native

  HD_INLINE bool is_native(int k) const { return storage[k] == Storage::native; }

  // Row i of operand k, which is stored as T.
  HD_INLINE const T *row(int k, int64_t i) const {
    return static_cast<const T *>(data[k]) + rows.offset(k, i);
  }
  // The element of operand k, stored as T, at that offset.
  HD_INLINE T scalar(int k, int64_t offset) const {
    return static_cast<const T *>(data[k])[offset];
  }
  // Row i of operand k, one of those that the kernel writes.
  HD_INLINE T *result(int k, int64_t i) const { return const_cast<T *>(row(k, i)); }

  int64_t element_size(int k) const {
    return is_native(k) ? sizeof(T) : storage[k] == Storage::float32 ? 4 : 2;
  }

  // Whether every row of operand k consists of whole packs of `width` elements, aligned as such.
  bool is_aligned(int k, int64_t width) const {
    const int64_t size = element_size(k), bytes = width * size;
    bool aligned = reinterpret_cast<uintptr_t>(data[k]) % static_cast<uintptr_t>(bytes) == 0 &&
                   rows.d * size % bytes == 0;
    for (int j = 0; j < rows.ndim; ++j)
      aligned = aligned && rows.stride[k][j] * size % bytes == 0;
    return aligned;
  }
};

} // namespace spherical
