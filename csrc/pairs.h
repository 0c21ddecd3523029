// Batches that are outer products: all pairs of the rows of one vector operand with those of
// another, such as values [N, 1, d] under laws [K, d].
#pragma once
#include "operands.h"
#include <optional>

namespace spherical {

// The rows of a batch as `outer.n` outer products. Operand x varies along dimension x_dim of the
// batch and not along y_dim; operand y does the reverse.
template <int K> struct Pairs {
  int x_dim, y_dim;
  Rows<K> outer; // the other dimensions
};

// Returns the largest outer product of operands x and y, if each has at least `fewest` rows in it.
template <int K>
std::optional<Pairs<K>> find_pairs(const Rows<K> &rows, int x, int y, int64_t fewest) {
  Pairs<K> pairs{-1, -1, rows};
  const auto longest = [&rows, fewest](int varies, int fixed) {
    int found = -1;
    for (int j = 0; j < rows.ndim; ++j)
      if (rows.stride[varies][j] != 0 && rows.stride[fixed][j] == 0 && rows.size[j] >= fewest &&
          (found < 0 || rows.size[j] > rows.size[found]))
        found = j;
    return found;
  };
  pairs.x_dim = longest(x, y);
  pairs.y_dim = longest(y, x);
  if (pairs.x_dim < 0 || pairs.y_dim < 0 || rows.n == 0)
    return std::nullopt;
  pairs.outer.ndim = 0;
  pairs.outer.n = rows.n / (rows.size[pairs.x_dim] * rows.size[pairs.y_dim]);
  for (int j = 0; j < rows.ndim; ++j) {
    if (j == pairs.x_dim || j == pairs.y_dim)
      continue;
    int64_t stride[K];
    for (int k = 0; k < K; ++k)
      stride[k] = rows.stride[k][j];
    append_dim(pairs.outer, rows.size[j], stride); // no more dimensions than before
  }
  return pairs;
}

// The operands of one of the outer products, along dimension j of the batch.
template <class T, int I, int O>
RowOperands<T, I, O> along(const RowOperands<T, I, O> &operands, const Rows<I + O> &outer,
                           int64_t product, int j) {
  RowOperands<T, I, O> result = operands;
  result.rows.ndim = 1;
  result.rows.n = result.rows.size[0] = operands.rows.size[j];
  for (int k = 0; k < I + O; ++k) {
    const int64_t offset = outer.offset(k, product) * operands.element_size(k);
    if (k < I)
      result.inputs[k] = static_cast<const char *>(operands.inputs[k]) + offset;
    else if (operands.results[k - I])
      result.results[k - I] = static_cast<char *>(operands.results[k - I]) + offset;
    result.rows.stride[k][0] = operands.rows.stride[k][j];
  }
  return result;
}

} // namespace spherical
