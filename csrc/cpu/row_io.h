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

// The rows of a tile, and memory for those that do not lie in place, allocated when first used.
template <class T> struct TileRows {
  T *row[kTile];
  std::vector<T> buffer;

  // All in the buffer.
  void put_in_buffer(int64_t n, int64_t d) {
    buffer.resize(static_cast<size_t>(n * d));
    for (int64_t r = 0; r < n; ++r)
      row[r] = buffer.data() + r * d;
  }
};

// Calls f(r, offset) for rows r = 0 ... n - 1, which are first ... first + n - 1 of operand k.
template <int K, class F>
HD_INLINE void for_each_offset(const Rows<K> &rows, int k, int64_t first, int64_t n, const F &f) {
  if (rows.ndim == 1) {
    const int64_t stride = rows.stride[k][0], begin = first * stride;
    for (int64_t r = 0; r < n; ++r)
      f(r, begin + r * stride);
    return;
  }
  for (int64_t r = 0; r < n; ++r)
    f(r, rows.offset(k, first + r));
}

// The scalars of operand k in rows first to first + n - 1, and back to result k.
template <class T, int K, class S>
void read_scalars(const RowInputs<T, K> &in, int k, int64_t first, int64_t n, S *to) {
  for_each_offset(in.rows, k, first, n, [&](int64_t r, int64_t offset) {
    to[r] = static_cast<const T *>(in.data[k])[offset];
  });
}
template <class T, int K>
void write_scalars(const RowInputs<T, K> &in, int k, int64_t first, int64_t n, const T *from) {
  for_each_offset(in.rows, k, first, n, [&](int64_t r, int64_t offset) {
    static_cast<T *>(const_cast<void *>(in.data[k]))[offset] = from[r];
  });
}

// Where to put rows first to first + n - 1 of result k: their places, or a buffer until
// finish_rows. Returns [n] rows, [d].
template <class T, int K>
T *const *result_rows(const RowInputs<T, K> &in, int k, int64_t first, int64_t n,
                      TileRows<T> &tile) {
  if (in.is_native(k))
    for_each_offset(in.rows, k, first, n, [&](int64_t r, int64_t offset) {
      tile.row[r] = static_cast<T *>(const_cast<void *>(in.data[k])) + offset;
    });
  else
    tile.put_in_buffer(n, in.rows.d);
  return tile.row;
}

// Those rows of operand k: where they lie, or converted.
template <class T, int K>
const T *const *read_rows(const RowInputs<T, K> &in, int k, int64_t first, int64_t n,
                          TileRows<T> &tile) {
  result_rows(in, k, first, n, tile);
  if (!in.is_native(k))
    for (int64_t r = 0; r < n; ++r)
      dispatch_storage(in, k, first + r, [&](auto stored, const void *row) {
        convert_row(stored, row, in.rows.d, tile.row[r]);
      });
  return tile.row;
}

template <class T, int K>
void write_row(const RowInputs<T, K> &in, int k, int64_t i, const T *row) {
  if (in.is_native(k)) {
    std::copy(row, row + in.rows.d, in.result(k, i));
    return;
  }
  dispatch_storage(in, k, i, [&](auto stored, const void *place) {
    convert_row(stored, row, in.rows.d, const_cast<void *>(place));
  });
}

// After result_rows, whose rows now hold the results.
template <class T, int K>
void finish_rows(const RowInputs<T, K> &in, int k, int64_t first, int64_t n,
                 const TileRows<T> &tile) {
  if (!in.is_native(k))
    for (int64_t r = 0; r < n; ++r)
      write_row(in, k, first + r, tile.row[r]);
}

// total += the sum of n rows, [n, d], added in sequence
template <class T, class S>
SIMD_CLONES void add_rows(const T *rows, int64_t n, int64_t d, S *total) {
  for (int64_t r = 0; r < n; ++r)
    for (int64_t i = 0; i < d; ++i)
      total[i] += rows[r * d + i];
}

// The columns of a tile of narrow rows, in which loops over rows vectorise. D is int64_t, or one of
// the constants of with_width.
constexpr int64_t kNarrowRow = 16; // rows below are worked on by columns
template <class T> struct Columns {
  T at[kNarrowRow][kTile];

  template <class D> HD_INLINE void read(const T *const *rows, int64_t n, D d) {
    bool shared = true;
    for (int64_t r = 0; r < n; ++r)
      shared &= rows[r] == rows[0];
    if (shared) {
      for (int64_t i = 0; i < d; ++i)
        std::fill_n(at[i], n, rows[0][i]);
      return;
    }
    for (int64_t r = 0; r < n; ++r)
      for (int64_t i = 0; i < d; ++i)
        at[i][r] = rows[r][i];
  }
};

// Calls f(d), for the narrowest rows with a constant, so that loops over them are unrolled.
template <class F> HD_INLINE void with_width(int64_t d, const F &f) {
  if (d == 2)
    f(std::integral_constant<int64_t, 2>());
  else if (d == 3)
    f(std::integral_constant<int64_t, 3>());
  else if (d == 4)
    f(std::integral_constant<int64_t, 4>());
  else
    f(d);
}

// A gradient of each row, from its scalars g: out[r] = g[r].element(a[r], b[r]), element by
// element.
template <class G, class T>
SIMD_CLONES void gradients(const G *g, const T *const *a, const T *const *b, int64_t n, int64_t d,
                           T *const *out) {
  with_width(d, [=](auto width) __attribute__((always_inline)) {
    for (int64_t r = 0; r < n; ++r) {
      const G of_row = g[r];
      const T *ar = a[r], *br = b[r];
      T *to = out[r];
      for (int64_t i = 0; i < width; ++i)
        to[i] = of_row.element(ar[i], br[i]);
    }
  });
}

// A task's own memory.
template <class T> struct Scratch {
  TileRows<T> in[3], out[2];
};

constexpr int64_t kTermsPerSum = 256; // added in sequence, before partial sums are added in double

// Calls f(first, n, out, scratch) for each tile of rows i = first ... first + n - 1; it writes row
// i of result k, [d], to out[i - first], unless `out` is null. Each of the `sums` rows of that
// result is the sum of `terms` neighbouring rows i, in an order that depends on the shapes alone.
// scratch.out[1] is taken.
template <class T, int K, class F>
void for_each_tile(const RowInputs<T, K> &in, int k, int64_t sums, int64_t terms, int64_t grain,
                   const F &f) {
  const int64_t d = in.rows.d, most = tile_rows(d);
  if (terms == 1 || !in.data[k]) {
    parallel_for(in.rows.n, grain, [&](int64_t begin, int64_t end) {
      Scratch<T> scratch;
      TileRows<T> &rows = scratch.out[1];
      for (int64_t first = begin; first < end; first += most) {
        const int64_t n = std::min(most, end - first);
        T *const *out = in.data[k] ? result_rows(in, k, first, n, rows) : nullptr;
        f(first, n, out, scratch);
        if (out)
          finish_rows(in, k, first, n, rows);
      }
    });
    return;
  }
  if (terms == 0) { // nothing to add up: 0 has the same bits in every type
    memset(const_cast<void *>(in.data[k]), 0, static_cast<size_t>(sums * d * in.element_size(k)));
    return;
  }
  const int64_t parts = (terms + kTermsPerSum - 1) / kTermsPerSum;
  std::vector<T> partial(static_cast<size_t>(parts > 1 ? sums * parts * d : 0));
  const auto add_parts = [&](int64_t begin, int64_t end) {
    Scratch<T> scratch;
    std::vector<T> total(static_cast<size_t>(d));
    TileRows<T> &rows = scratch.out[1];
    rows.put_in_buffer(most, d);
    for (int64_t part = begin; part < end; ++part) {
      const int64_t sum = part / parts, first = part % parts * kTermsPerSum;
      const int64_t last = std::min(terms, first + kTermsPerSum);
      std::fill(total.begin(), total.end(), T(0));
      for (int64_t i = first; i < last; i += most) {
        const int64_t n = std::min(most, last - i);
        f(sum * terms + i, n, rows.row, scratch);
        add_rows(rows.buffer.data(), n, d, total.data());
      }
      if (parts > 1)
        std::copy(total.begin(), total.end(), partial.begin() + part * d);
      else
        write_row(in, k, sum * terms, total.data());
    }
  };
  const int64_t rows_per_part = std::min(terms, kTermsPerSum);
  parallel_for(sums * parts, std::max<int64_t>(1, grain / rows_per_part), add_parts);
  if (parts == 1)
    return;
  parallel_for(sums, std::max<int64_t>(1, grain / parts), [&](int64_t begin, int64_t end) {
    std::vector<double> total(static_cast<size_t>(d));
    std::vector<T> rounded(static_cast<size_t>(d));
    for (int64_t sum = begin; sum < end; ++sum) {
      std::fill(total.begin(), total.end(), 0.0);
      add_rows(partial.data() + sum * parts * d, parts, d, total.data());
      std::transform(total.begin(), total.end(), rounded.begin(),
                     [](double sum) { return static_cast<T>(sum); });
      write_row(in, k, sum * terms, rounded.data());
    }
  });
}

} // namespace spherical
