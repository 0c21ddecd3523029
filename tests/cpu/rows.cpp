// csrc/operands.h for two operands of float, for test_rows.py.
#include "operands.h"

using namespace spherical;

// Appends ndim dimensions; strides [2, ndim]. Returns the number of dimensions that are left after
// merging, or -1 where they are too many; offsets [2, n] are those of the rows named in `row` [n].
extern "C" int row_offsets(int ndim, const int64_t *size, const int64_t *strides, int64_t n,
                           const int64_t *row, int64_t *offsets) {
  Rows<2> rows{};
  for (int j = 0; j < ndim; ++j) {
    const int64_t stride[2] = {strides[j], strides[ndim + j]};
    if (!append_dim(rows, size[j], stride))
      return -1;
  }
  for (int k = 0; k < 2; ++k)
    for (int64_t i = 0; i < n; ++i)
      offsets[k * n + i] = rows.offset(k, row[i]);
  for (int64_t i = 0; i < n; ++i) {
    int64_t both[2];
    rows.offsets(row[i], both);
    if (both[0] != offsets[i] || both[1] != offsets[n + i])
      return -2; // the two ways differ
  }
  return rows.ndim;
}

extern "C" bool row_is_aligned(int64_t d, int64_t stride, int64_t address, int64_t width) {
  RowOperands<float, 1, 1> operands{};
  operands.rows.d = d;
  append_dim(operands.rows, 3, {stride, stride});
  operands.inputs[0] = reinterpret_cast<const float *>(address);
  return operands.is_aligned(0, width);
}
