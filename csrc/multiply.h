// x *= factor in place, without a look at x where the factor is 1: what the gradients that
// vi_simsiam_loss has computed ahead still need.
#pragma once
#include "tensor.h"

namespace spherical {

// S, of the factor, is T or float for half precision.
template <class T> struct Multiply {
  using S = Accumulator<T>;

  T *x; // [n]
  int64_t n;
  const S *factor; // one
  int32_t device;

  HD_INLINE void element(int64_t i, S by) const { x[i] = narrowed<T>(widened(x[i]) * by); }
};

// Calls run(Multiply<T>).
template <class Run> void multiply(StableIValue *stack, const Run &run) {
  constexpr const char *op = "multiply_";
  Tensor x(stack[0]);
  const Tensor factor(stack[1]);
  check_same_device(op, x, factor);
  int64_t n = 1;
  for (int64_t j = x.dim() - 1; j >= 0; --j) {
    if (x.size(j) > 1 && x.stride(j) != n)
      fail("multiply_: x must be contiguous");
    n *= x.size(j);
  }
  dispatch_any_float(op, x, [&](auto zero) {
    using T = decltype(zero);
    using S = Accumulator<T>;
    if (factor.dim() != 0 || factor.dtype() != dtype_of<S>())
      fail("multiply_: factor must be a scalar of the dtype of x, or float32 for half precision");
    run(Multiply<T>{x.out<T>(), n, factor.in<S>(), x.device_index()});
  });
}

} // namespace spherical
