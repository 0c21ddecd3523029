// Rows that a kernel reads and writes as T, however they are stored, and the sums of rows that are
// the gradient of an expanded operand. No tensor is converted or expanded as a whole.
#pragma once
#include "../tensor.h"
#include "simd.h"

namespace spherical {

template <class S, class T> HD_INLINE void convert_from(const void *from, int64_t d, T *to) {
  const S *in = static_cast<const S *>(from);
  for (int64_t i = 0; i < d; ++i) {
    if constexpr (std::is_same<S, float>::value)
      to[i] = in[i];
    else
      to[i] = to_float(in[i]);
  }
}
template <class S, class T> HD_INLINE void convert_to(const T *from, int64_t d, void *to) {
  S *out = static_cast<S *>(to);
  for (int64_t i = 0; i < d; ++i) {
    if constexpr (std::is_same<S, float>::value)
      out[i] = static_cast<float>(from[i]);
    else
      convert(static_cast<float>(from[i]), out[i]);
  }
}
#define FOR_EACH_STORED_TYPE(S, T)                                                                 \
  SIMD_CLONES inline void convert_row(S, const void *from, int64_t d, T *to) {                     \
    convert_from<S>(from, d, to);                                                                  \
  }                                                                                                \
  SIMD_CLONES inline void convert_row(S, const T *from, int64_t d, void *to) {                     \
    convert_to<S>(from, d, to);                                                                    \
  }
FOR_EACH_STORED_TYPE(BFloat16, float)
FOR_EACH_STORED_TYPE(Float16, float)
FOR_EACH_STORED_TYPE(float, double)
FOR_EACH_STORED_TYPE(BFloat16, double)
FOR_EACH_STORED_TYPE(Float16, double)
#undef FOR_EACH_STORED_TYPE

// Calls f(S{}, address of row i) for an operand stored as S, which is not T.
template <class T, int K, class F>
void dispatch_storage(const RowInputs<T, K> &in, int k, int64_t i, const F &f) {
  const auto *data = static_cast<const char *>(in.data[k]);
  const int64_t offset = in.rows.offset(k, i);
  if (in.storage[k] == Storage::bfloat16)
    return f(BFloat16{}, data + offset * int64_t(sizeof(BFloat16)));
  if (in.storage[k] == Storage::float16)
    return f(Float16{}, data + offset * int64_t(sizeof(Float16)));
  if constexpr (!is_float32<T>)
    f(float{}, data + offset * int64_t(sizeof(float)));
}

// Row i of operand k: where it lies, or converted into `buffer`.
template <class T, int K>
HD_INLINE const T *read_row(const RowInputs<T, K> &in, int k, int64_t i, std::vector<T> &buffer) {
  if (in.is_native(k))
    return in.row(k, i);
  buffer.resize(static_cast<size_t>(in.rows.d));
  dispatch_storage(in, k, i, [&](auto stored, const void *row) {
    convert_row(stored, row, in.rows.d, buffer.data());
  });
  return buffer.data();
}

// Where to put row i of result k: its place, or `buffer` until finish_row.
template <class T, int K>
HD_INLINE T *result_row(const RowInputs<T, K> &in, int k, int64_t i, std::vector<T> &buffer) {
  if (in.is_native(k))
    return in.result(k, i);
  buffer.resize(static_cast<size_t>(in.rows.d));
  return buffer.data();
}

template <class T, int K>
HD_INLINE void write_row(const RowInputs<T, K> &in, int k, int64_t i, const T *row) {
  if (in.is_native(k)) {
    std::copy(row, row + in.rows.d, in.result(k, i));
    return;
  }
  dispatch_storage(in, k, i, [&](auto stored, const void *place) {
    convert_row(stored, row, in.rows.d, const_cast<void *>(place));
  });
}

// After result_row, whose row now holds the result.
template <class T, int K>
HD_INLINE void finish_row(const RowInputs<T, K> &in, int k, int64_t i, const T *row) {
  if (!in.is_native(k))
    write_row(in, k, i, row);
}

template <class T, class S> HD_INLINE void add_row_of(const T *row, int64_t d, S *total) {
  for (int64_t i = 0; i < d; ++i)
    total[i] += row[i];
}
SIMD_CLONES inline void add_row(const float *row, int64_t d, float *total) {
  add_row_of(row, d, total);
}
SIMD_CLONES inline void add_row(const float *row, int64_t d, double *total) {
  add_row_of(row, d, total);
}
SIMD_CLONES inline void add_row(const double *row, int64_t d, double *total) {
  add_row_of(row, d, total);
}

// A task's own memory, a row each, which is allocated when first used.
template <class T> struct Scratch {
  std::vector<T> row[4];
};

constexpr int64_t kTermsPerSum = 256; // added in sequence, before partial sums are added in double

// Calls f(i, out, scratch) for each row i; it writes row i of result k, [d], to `out`. Each of the
// `sums` rows of that result is the sum of `terms` neighbouring rows i, in an order that depends on
// the shapes alone. scratch.row[3] is taken.
template <class T, int K, class F>
void for_each_row(const RowInputs<T, K> &in, int k, int64_t sums, int64_t terms, int64_t grain,
                  const F &f) {
  const int64_t d = in.rows.d;
  if (terms == 1 || !in.data[k]) {
    parallel_for(in.rows.n, grain, [&](int64_t begin, int64_t end) {
      Scratch<T> scratch;
      for (int64_t i = begin; i < end; ++i) {
        T *out = in.data[k] ? result_row(in, k, i, scratch.row[3]) : nullptr;
        f(i, out, scratch);
        if (out)
          finish_row(in, k, i, out);
      }
    });
    return;
  }
  if (terms == 0) { // nothing to add up: 0 has the same bits in every type
    const size_t size = in.is_native(k) ? sizeof(T) : in.storage[k] == Storage::float32 ? 4 : 2;
    memset(const_cast<void *>(in.data[k]), 0, static_cast<size_t>(sums * d) * size);
    return;
  }
  const int64_t parts = (terms + kTermsPerSum - 1) / kTermsPerSum;
  std::vector<T> partial(static_cast<size_t>(parts > 1 ? sums * parts * d : 0));
  const auto add_rows = [&](int64_t begin, int64_t end) {
    Scratch<T> scratch;
    std::vector<T> total(static_cast<size_t>(d));
    scratch.row[3].resize(static_cast<size_t>(d));
    T *out = scratch.row[3].data();
    for (int64_t part = begin; part < end; ++part) {
      const int64_t sum = part / parts, first = part % parts * kTermsPerSum;
      const int64_t last = std::min(terms, first + kTermsPerSum);
      std::fill(total.begin(), total.end(), T(0));
      for (int64_t i = first; i < last; ++i) {
        f(sum * terms + i, out, scratch);
        add_row(out, d, total.data());
      }
      if (parts > 1)
        std::copy(total.begin(), total.end(), partial.begin() + part * d);
      else
        write_row(in, k, sum * terms, total.data());
    }
  };
  const int64_t rows_per_part = std::min(terms, kTermsPerSum);
  parallel_for(sums * parts, std::max<int64_t>(1, grain / rows_per_part), add_rows);
  if (parts == 1)
    return;
  parallel_for(sums, std::max<int64_t>(1, grain / parts), [&](int64_t begin, int64_t end) {
    std::vector<double> total(static_cast<size_t>(d));
    std::vector<T> rounded(static_cast<size_t>(d));
    for (int64_t sum = begin; sum < end; ++sum) {
      std::fill(total.begin(), total.end(), 0.0);
      for (int64_t part = sum * parts; part < (sum + 1) * parts; ++part)
        add_row(partial.data() + part * d, d, total.data());
      std::transform(total.begin(), total.end(), rounded.begin(),
                     [](double sum) { return static_cast<T>(sum); });
      write_row(in, k, sum * terms, rounded.data());
    }
  });
}

} // namespace spherical
