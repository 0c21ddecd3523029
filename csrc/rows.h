// Rows of broadcast operands: where row i of each operand starts, for host and device. Torch-free.
#pragma once
#include "math/portable.h"

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

  // Those of all operands, with one division for each dimension.
  HD_INLINE void offsets(int64_t i, int64_t (&out)[K]) const {
    for (int k = 0; k < K; ++k)
      out[k] = ndim == 1 ? i * stride[k][0] : 0;
    for (int j = ndim - 1; j >= 0 && ndim > 1; --j) {
      const int64_t rest = i / size[j], index = i - rest * size[j];
      for (int k = 0; k < K; ++k)
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

// The operands themselves, with elements of type T.
template <class T, int K> struct RowInputs {
  Rows<K> rows;
  const T *data[K];

  HD_INLINE const T *row(int k, int64_t i) const { return data[k] + rows.offset(k, i); }

  // Whether every row of operand k consists of whole words of `bytes` bytes, aligned as such.
  bool is_aligned(int k, int64_t bytes) const {
    const int64_t size = sizeof(T);
    bool aligned = reinterpret_cast<uintptr_t>(data[k]) % static_cast<uintptr_t>(bytes) == 0 &&
                   rows.d * size % bytes == 0;
    for (int j = 0; j < rows.ndim; ++j)
      aligned = aligned && rows.stride[k][j] * size % bytes == 0;
    return aligned;
  }
};

} // namespace spherical
