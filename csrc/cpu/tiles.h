// Reading and writing the rows of a tile, as the type T that a kernel computes in, however they are
// stored. No tensor is converted or expanded as a whole.
#pragma once
#include "convert.h"
#include "tile.h"
#include <vector>

namespace spherical {

// Pointers to the rows of a tile, and memory for those that must be converted. It is allocated when
// it is first used.
template <class T> struct TileRows {
  T *row[kTile]; // each [d]
  std::vector<T> buffer;

  // Makes all rows lie in the buffer.
  void put_in_buffer(int64_t n, int64_t d) {
    buffer.resize(static_cast<size_t>(n * d));
    for (int64_t r = 0; r < n; ++r)
      row[r] = buffer.data() + r * d;
  }
};

// The number of rows of a tile. Rows that are converted, or read again, must stay in the first
// cache until then.
template <class T, int I, int O>
int64_t tile_rows(const RowOperands<T, I, O> &operands, bool reads_again) {
  bool in_place = true;
  for (int k = 0; k < I; ++k)
    in_place &= operands.is_native(k);
  return in_place && !reads_again ? kTile : tile_rows(operands.rows.d);
}

// Calls f(r, offset) for r = 0 ... n - 1, with the offset of row first + r of operand k.
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

// Reads the scalars of input k, stored as T, in rows first to first + n - 1.
template <class T, int I, int O, class S>
void read_scalars(const RowOperands<T, I, O> &operands, int k, int64_t first, int64_t n, S *to) {
  const T *from = static_cast<const T *>(operands.inputs[k]);
  for_each_offset(operands.rows, k, first, n,
                  [&](int64_t r, int64_t offset) { to[r] = from[offset]; });
}

// Reads the concentrations of a family with this upper bound in these rows; NaN outside of its
// domain.
template <class T, int I, int O, class S>
void read_concentrations(const RowOperands<T, I, O> &operands, int k, int64_t first, int64_t n,
                         T upper_bound, S *to) {
  for_each_offset(operands.rows, k, first, n, [&](int64_t r, int64_t offset) {
    to[r] = in_domain(operands.scalar(k, offset), upper_bound);
  });
}

// Writes the scalars of result k, stored as T, in these rows.
template <class T, int I, int O, class S>
void write_scalars(const RowOperands<T, I, O> &operands, int k, int64_t first, int64_t n,
                   const S *from) {
  T *to = static_cast<T *>(operands.results[k - I]);
  for_each_offset(operands.rows, k, first, n,
                  [&](int64_t r, int64_t offset) { to[offset] = static_cast<T>(from[r]); });
}

// Returns pointers to n rows [d] of input k from row `first` on: in place where they are stored as
// T, else in the buffer of `tile`, converted.
template <class T, int I, int O>
const T *const *read_rows(const RowOperands<T, I, O> &operands, int k, int64_t first, int64_t n,
                          TileRows<T> &tile) {
  const auto *data = static_cast<const char *>(operands.inputs[k]);
  const int64_t d = operands.rows.d;
  if (operands.is_native(k)) {
    for_each_offset(operands.rows, k, first, n, [&](int64_t r, int64_t offset) {
      tile.row[r] =
          const_cast<T *>(reinterpret_cast<const T *>(data)) + offset; // returned as const
    });
    return tile.row;
  }
  tile.put_in_buffer(n, d);
  for_each_offset(operands.rows, k, first, n, [&](int64_t r, int64_t offset) {
    read_stored(operands.storage[k], data + offset * operands.element_size(k), d, tile.row[r]);
  });
  return tile.row;
}

// Returns pointers to where n rows [d] of result k go, from row `first` on: their places, or the
// buffer of `tile`, from which finish_rows stores them. They are null if the result is not needed.
template <class T, int I, int O>
T *const *result_rows(const RowOperands<T, I, O> &operands, int k, int64_t first, int64_t n,
                      TileRows<T> &tile) {
  if (!operands.needs(k))
    return nullptr;
  if (operands.is_native(k))
    for_each_offset(operands.rows, k, first, n, [&](int64_t r, int64_t offset) {
      tile.row[r] = static_cast<T *>(operands.results[k - I]) + offset;
    });
  else
    tile.put_in_buffer(n, operands.rows.d);
  return tile.row;
}

// Stores `row` [d] as row i of result k.
template <class T, int I, int O>
void write_row(const RowOperands<T, I, O> &operands, int k, int64_t i, const T *row) {
  const int64_t d = operands.rows.d;
  if (operands.is_native(k)) {
    std::copy(row, row + d, operands.result(k, i));
    return;
  }
  write_stored(operands.storage[k], row, d,
               static_cast<char *>(operands.results[k - I]) +
                   operands.rows.offset(k, i) * operands.element_size(k));
}

// Stores the rows that result_rows has put in the buffer and that hold the results now, if any.
template <class T, int I, int O>
void finish_rows(const RowOperands<T, I, O> &operands, int k, int64_t first, int64_t n,
                 const TileRows<T> &tile) {
  if (operands.needs(k) && !operands.is_native(k))
    for (int64_t r = 0; r < n; ++r)
      write_row(operands, k, first + r, tile.row[r]);
}

} // namespace spherical
