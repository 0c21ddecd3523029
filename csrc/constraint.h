// The arguments of on_sphere and in_interval: unpacked from the stack, checked and typed.
#pragma once
#include "dispatch.h"
#include "operands.h"

namespace spherical {

// valid[i] says whether row i of the value satisfies a constraint. A row is a vector [d], or one
// number: a row with d = 1.
template <class T> struct Constraint {
  enum { kValue };
  RowOperands<T, 1, 1> operands;
  bool *valid;
};

// Calls run(Constraint<T>), with T = double for a float64 value and float for any other.
template <class Run>
void unpack_constraint(const char *op, StableIValue *stack, bool is_vector, const Run &run) {
  Tensor value(stack[0]);
  if (is_vector)
    value.make_rows_dense();
  const Input inputs[] = {{"value", value, is_vector}};
  const Batch batch = broadcast(op, inputs, is_vector ? kUnknown : 2);
  Tensor valid = Tensor::empty(batch.shape, aoti_torch_dtype_bool(), value.device_type(),
                               value.device_index());
  const Result results[] = {{&valid, false}};
  auto rows = rows_of(op, batch, inputs, results);
  rows.d = is_vector ? batch.d : 1;
  const auto run_in = [&](auto zero) {
    using T = decltype(zero);
    Constraint<T> args{{rows, {}, {}}, valid.out<bool>()};
    args.operands.inputs[args.kValue] = value.in<void>();
    args.operands.storage[args.kValue] = storage_of<T>(op, "value", value);
    run(args);
  };
  if (value.dtype() == aoti_torch_dtype_float64())
    run_in(double{});
  else
    run_in(float{});
  stack[0] = valid.release();
}

} // namespace spherical
