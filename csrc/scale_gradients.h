// The gradients of the loss that the forward pass computes, multiplied in place by the factor that
// arrives in the backward pass. The factor is read on its own device. Mostly it is 1, and then the
// gradients are neither read nor written.
#pragma once
#include "dispatch.h"
#include "math/half.h"
#include "operands.h"

namespace spherical {

constexpr int kGradients = 3; // of pred, target and kappa

// T is the dtype of the factor.
template <class T> struct ScaleGradients {
  struct Array {
    void *data; // [n], contiguous
    int64_t n;
    Storage storage;
  };
  Array arrays[kGradients];
  const T *factor;
  int32_t device;

  int64_t longest() const {
    int64_t n = 0;
    for (const Array &array : arrays)
      n = std::max(n, array.n);
    return n;
  }
};

// Calls f(x) with the address of the elements, of the type that stores them.
template <class T, class F>
HD_INLINE void with_elements(const typename ScaleGradients<T>::Array &array, const F &f) {
  if (array.storage == Storage::native)
    return f(static_cast<T *>(array.data));
  dispatch_storage<T>(array.storage, array.data, f);
}

template <class S, class T> HD_INLINE void multiply(S &x, T by) {
  if constexpr (std::is_arithmetic_v<S>)
    x = static_cast<S>(static_cast<T>(x) * by);
  else
    convert(static_cast<float>(static_cast<T>(to_float(x)) * by), x);
}

// Calls run(ScaleGradients<T>).
template <class Run> void unpack_scale_gradients(StableIValue *stack, const Run &run) {
  constexpr const char *op = "scale_gradients_";
  constexpr const char *names[kGradients] = {"pred", "target", "kappa"};
  Tensor gradients[kGradients] = {Tensor(stack[0]), Tensor(stack[1]), Tensor(stack[2])};
  const Tensor factor(stack[3]);
  check_same_device(op, factor, {&gradients[0], &gradients[1], &gradients[2]});
  if (factor.dim() != 0)
    fail("scale_gradients_: factor must be a scalar");
  dispatch_float(op, factor, [&](auto zero) {
    using T = decltype(zero);
    ScaleGradients<T> args{{}, factor.in<T>(), factor.device_index()};
    for (int k = 0; k < kGradients; ++k) {
      Tensor &gradient = gradients[k];
      if (!gradient.is_contiguous())
        fail(std::string("scale_gradients_: ") + names[k] + " must be contiguous");
      args.arrays[k] = {gradient.template out<void>(), product(gradient.shape()),
                        storage_of<T>(op, names[k], gradient)};
    }
    run(args);
  });
}

} // namespace spherical
