// The arguments of on_sphere and in_interval: unpacked from the stack, checked and typed.
#pragma once
#include "dispatch.h"
#include "operands.h"
#include <cstring>

namespace spherical {

// valid[i] says whether row i of the value satisfies a constraint. A row is a vector [d], or one
// number: a row with d = 1.
template <class T> struct Constraint {
  enum { kValue };
  RowOperands<T, 1, 1> operands;
  bool *valid;
};

// The floating-point argument at position i of the stack.
inline double unpack_float(const StableIValue *stack, int i) {
  double value;
  std::memcpy(&value, &stack[i], sizeof value);
  return value;
}

// Calls run(Constraint<T>), with T = double for a float64 value and float for any other.
template <class Run>
void unpack_constraint(const char *op, StableIValue *stack, bool is_vector, const Run &run) {
  Tensor value(stack[0]);
  if (is_vector)
    value.make_rows_dense();
  const Input inputs[] = {{"value", value, is_vector}};
  const Result results[] = {{nullptr, false}};
  const Batch batch = broadcast(op, inputs, is_vector ? 0 : 2);
  auto rows = rows_of(op, batch, inputs, results);
  rows.d = is_vector ? batch.d : 1;
  Tensor valid = Tensor::empty(batch.shape, aoti_torch_dtype_bool(), value.device_type(),
                               value.device_index());
  const auto run_in = [&](auto zero) {
    using T = decltype(zero);
    run(Constraint<T>{row_operands<T>(op, rows, inputs, results), valid.out<bool>()});
  };
  if (value.dtype() == aoti_torch_dtype_float64())
    run_in(double{});
  else
    run_in(float{});
  stack[0] = valid.release();
}

} // namespace spherical
