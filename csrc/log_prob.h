// The arguments of log_prob and log_prob_backward: unpacked from the stack, checked, broadcast and
// typed, for the kernels of every device.
#pragma once
#include "families.h"
#include "sphere.h"
#include "tensor.h"

namespace spherical {

template <class T> struct LogProb {
  RowInputs<T, 3> in; // value, mu, kappa
  Dim<T> dim;
  int32_t device;
  T *out; // [n]

  HD_INLINE const T *value(int64_t i) const { return in.row(0, i); } // [d]
  HD_INLINE const T *mu(int64_t i) const { return in.row(1, i); }    // [d]
  HD_INLINE T kappa(int64_t i) const { return *in.row(2, i); }
  bool is_aligned(int64_t bytes) const {
    return in.is_aligned(0, bytes) && in.is_aligned(1, bytes);
  }
};

// Calls run(family, LogProb<T>), which fills `out`.
template <class Run> void log_prob(StableIValue *stack, const Run &run) {
  Tensor x = Tensor(stack[0]).with_dense_rows(), mu = Tensor(stack[1]).with_dense_rows();
  Tensor kappa(stack[2]);
  check_same_kind("log_prob", x, {&mu, &kappa});
  std::vector<int64_t> shape;
  const auto rows = broadcast_rows<3>(
      "log_prob", {{"value", x, true}, {"mu", mu, true}, {"kappa", kappa, false}}, shape);
  Tensor result = x.empty(shape);
  dispatch_float("log_prob", x, [&](auto zero) {
    using T = decltype(zero);
    const LogProb<T> args{{rows, {x.in<T>(), mu.in<T>(), kappa.in<T>()}},
                          make_dim<T>(rows.d),
                          x.device_index(),
                          result.out<T>()};
    dispatch_family("log_prob", static_cast<int64_t>(stack[3]),
                    [&](auto family) { run(family, args); });
  });
  stack[0] = result.release();
}

// Gradients that are not wanted are null.
template <class T> struct LogProbBackward {
  RowInputs<T, 4> in; // grad, value, mu, kappa
  Dim<T> dim;
  int32_t device;
  T *grad_value; // [n, d]
  T *grad_mu;    // [n, d]
  T *grad_kappa; // [n]

  HD_INLINE T grad(int64_t i) const { return *in.row(0, i); }
  HD_INLINE const T *value(int64_t i) const { return in.row(1, i); } // [d]
  HD_INLINE const T *mu(int64_t i) const { return in.row(2, i); }    // [d]
  HD_INLINE T kappa(int64_t i) const { return *in.row(3, i); }
  bool is_aligned(int64_t bytes) const {
    return in.is_aligned(1, bytes) && in.is_aligned(2, bytes);
  }
};

// Calls run(family, LogProbBackward<T>), which fills the gradients that are wanted.
template <class Run> void log_prob_backward(StableIValue *stack, const Run &run) {
  Tensor grad(stack[0]);
  Tensor x = Tensor(stack[1]).with_dense_rows(), mu = Tensor(stack[2]).with_dense_rows();
  Tensor kappa(stack[3]);
  const int64_t wanted = static_cast<int64_t>(stack[5]);
  const bool want_x = wanted & 1, want_mu = wanted & 2, want_kappa = wanted & 4;
  check_same_kind("log_prob_backward", x, {&grad, &mu, &kappa});
  std::vector<int64_t> shape;
  const auto rows = broadcast_rows<4>(
      "log_prob_backward",
      {{"grad", grad, false}, {"value", x, true}, {"mu", mu, true}, {"kappa", kappa, false}},
      shape);
  const std::vector<int64_t> vectors = with_event(shape, rows.d), none = {0};
  Tensor grad_x = x.empty(want_x ? vectors : none), grad_mu = x.empty(want_mu ? vectors : none);
  Tensor grad_kappa = x.empty(want_kappa ? shape : none);
  dispatch_float("log_prob_backward", x, [&](auto zero) {
    using T = decltype(zero);
    const LogProbBackward<T> args{{rows, {grad.in<T>(), x.in<T>(), mu.in<T>(), kappa.in<T>()}},
                                  make_dim<T>(rows.d),
                                  x.device_index(),
                                  want_x ? grad_x.out<T>() : nullptr,
                                  want_mu ? grad_mu.out<T>() : nullptr,
                                  want_kappa ? grad_kappa.out<T>() : nullptr};
    dispatch_family("log_prob_backward", static_cast<int64_t>(stack[4]),
                    [&](auto family) { run(family, args); });
  });
  stack[0] = grad_x.release();
  stack[1] = grad_mu.release();
  stack[2] = grad_kappa.release();
}

} // namespace spherical
