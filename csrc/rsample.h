// The arguments of rsample and rsample_backward: unpacked from the stack, checked, broadcast and
// typed, for the kernels of every device.
#pragma once
#include "families.h"
#include "sphere.h"
#include "tensor.h"

namespace spherical {

template <class T> struct RSample {
  RowInputs<T, 2> in; // mu, kappa
  Dim<T> dim;
  int32_t device;
  const int64_t *rng_state; // [2] seed, offset
  int64_t rng_stride;
  T *out; // [n, d]

  HD_INLINE const T *mu(int64_t i) const { return in.row(0, i); } // [d]
  HD_INLINE T kappa(int64_t i) const { return *in.row(1, i); }
  // Read by the kernel, so that a seed on a GPU causes no synchronisation.
  HD_INLINE RowStream stream(int64_t i) const {
    return {static_cast<uint64_t>(rng_state[0]),
            static_cast<uint64_t>(rng_state[rng_stride]) + static_cast<uint64_t>(i)};
  }
  bool is_aligned(int64_t bytes) const { return in.is_aligned(0, bytes); }
};

// Calls run(family, RSample<T>), which fills `out`.
template <class Run> void rsample(StableIValue *stack, const Run &run) {
  Tensor mu = Tensor(stack[0]).with_dense_rows(), kappa(stack[1]), state(stack[2]);
  check_same_kind("rsample", mu, {&kappa});
  check_same_device("rsample", mu, state);
  if (state.dtype() != aoti_torch_dtype_int64() || state.dim() != 1 || state.size(0) != 2)
    fail("rsample: rng_state must be int64 of shape (2,): seed and offset");
  std::vector<int64_t> shape;
  const auto rows =
      broadcast_rows<2>("rsample", {{"mu", mu, true}, {"kappa", kappa, false}}, shape);
  Tensor result = mu.empty(with_event(shape, rows.d));
  dispatch_float("rsample", mu, [&](auto zero) {
    using T = decltype(zero);
    const RSample<T> args{{rows, {mu.in<T>(), kappa.in<T>()}},
                          make_dim<T>(rows.d),
                          mu.device_index(),
                          state.in<int64_t>(),
                          state.stride(0),
                          result.out<T>()};
    dispatch_family("rsample", static_cast<int64_t>(stack[3]),
                    [&](auto family) { run(family, args); });
  });
  stack[0] = result.release();
}

// Gradients that are not wanted are null.
template <class T> struct RSampleBackward {
  RowInputs<T, 4> in; // grad, sample, mu, kappa
  bool uniform_grad;  // a row of grad is one value, as sum().backward() makes it: read that alone
  Dim<T> dim;
  int32_t device;
  T *grad_mu;    // [n, d]
  T *grad_kappa; // [n]

  HD_INLINE const T *grad(int64_t i) const { return in.row(0, i); }   // [d]
  HD_INLINE const T *sample(int64_t i) const { return in.row(1, i); } // [d]
  HD_INLINE const T *mu(int64_t i) const { return in.row(2, i); }     // [d]
  HD_INLINE T kappa(int64_t i) const { return *in.row(3, i); }
  bool is_aligned(int64_t bytes) const {
    return (uniform_grad || in.is_aligned(0, bytes)) && in.is_aligned(1, bytes) &&
           in.is_aligned(2, bytes);
  }
};

// Calls run(family, RSampleBackward<T>), which fills the gradients that are wanted.
template <class Run> void rsample_backward(StableIValue *stack, const Run &run) {
  Tensor grad = Tensor(stack[0]).with_dense_or_uniform_rows();
  Tensor x = Tensor(stack[1]).with_dense_rows();
  Tensor mu = Tensor(stack[2]).with_dense_rows(), kappa(stack[3]);
  const int64_t wanted = static_cast<int64_t>(stack[5]);
  const bool want_mu = wanted & 2, want_kappa = wanted & 4;
  check_same_kind("rsample_backward", x, {&grad, &mu, &kappa});
  std::vector<int64_t> shape;
  const auto rows = broadcast_rows<4>(
      "rsample_backward",
      {{"grad", grad, true}, {"sample", x, true}, {"mu", mu, true}, {"kappa", kappa, false}},
      shape);
  const std::vector<int64_t> vectors = with_event(shape, rows.d), none = {0};
  Tensor grad_mu = x.empty(want_mu ? vectors : none);
  Tensor grad_kappa = x.empty(want_kappa ? shape : none);
  dispatch_float("rsample_backward", x, [&](auto zero) {
    using T = decltype(zero);
    const RSampleBackward<T> args{{rows, {grad.in<T>(), x.in<T>(), mu.in<T>(), kappa.in<T>()}},
                                  grad.has_uniform_rows(),
                                  make_dim<T>(rows.d),
                                  x.device_index(),
                                  want_mu ? grad_mu.out<T>() : nullptr,
                                  want_kappa ? grad_kappa.out<T>() : nullptr};
    dispatch_family("rsample_backward", static_cast<int64_t>(stack[4]),
                    [&](auto family) { run(family, args); });
  });
  stack[0] = grad_mu.release();
  stack[1] = grad_kappa.release();
}

} // namespace spherical
