// The arguments of rsample and rsample_backward: unpacked from the stack, checked, broadcast and
// typed, for the kernels of every device.
#pragma once
#include "families.h"
#include "sphere.h"
#include "tensor.h"

namespace spherical {

template <class T> struct RSample {
  enum { kMu, kKappa, kOperands };
  RowInputs<T, kOperands> in;
  Dim<T> dim;
  int32_t device;
  const int64_t *rng_state; // [2] seed, offset
  int64_t rng_stride;
  T *out; // [n, d]

  // Read by the kernel, so that a seed on a GPU causes no synchronisation.
  HD_INLINE RowStream stream(int64_t i) const {
    return {static_cast<uint64_t>(rng_state[0]),
            static_cast<uint64_t>(rng_state[rng_stride]) + static_cast<uint64_t>(i)};
  }
  bool is_aligned(int64_t width) const { return in.is_aligned(kMu, width); }
};

// Calls run(family, RSample<T>), which fills `out`. T is the dtype of kappa.
template <class Run> void rsample(StableIValue *stack, const Run &run) {
  constexpr const char *op = "rsample";
  Tensor mu = Tensor(stack[0]).with_dense_rows(), kappa(stack[1]), state(stack[2]);
  check_same_device(op, kappa, mu);
  check_same_device(op, kappa, state);
  if (state.dtype() != aoti_torch_dtype_int64() || state.dim() != 1 || state.size(0) != 2)
    fail("rsample: rng_state must be int64 of shape (2,): seed and offset");
  std::vector<int64_t> shape;
  const Operand operands[] = {{"mu", mu, true}, {"kappa", kappa, false}};
  const auto rows = broadcast_rows(op, operands, shape);
  Tensor result = kappa.empty(with_event(shape, rows.d));
  dispatch_float(op, kappa, [&](auto zero) {
    using T = decltype(zero);
    const RSample<T> args{row_inputs<T>(op, operands, rows),
                          make_dim<T>(rows.d),
                          kappa.device_index(),
                          state.in<int64_t>(),
                          state.stride(0),
                          result.out<T>()};
    dispatch_family(op, static_cast<int64_t>(stack[3]), [&](auto family) { run(family, args); });
  });
  stack[0] = result.release();
}

template <class T> struct RSampleBackward {
  enum { kGrad, kSample, kMu, kKappa, kGradMu, kGradKappa, kOperands };
  RowInputs<T, kOperands> in; // the last two: gradients to be written, null if not wanted
  bool uniform_grad; // a row of grad is one value, as sum().backward() makes it: read that alone
  Dim<T> dim;
  int32_t device;
  int64_t sums, terms; // `terms` neighbouring rows are to be summed for each of `sums` of kGradMu

  HD_INLINE const T *grad(int64_t i) const { return in.row(kGrad, i); } // [d], if stored as T
  HD_INLINE T kappa(int64_t i) const { return *in.row(kKappa, i); }
  HD_INLINE bool wants(int gradient) const { return in.data[gradient] != nullptr; }
  bool is_aligned(int64_t width) const {
    return (uniform_grad || in.is_aligned(kGrad, width)) && in.is_aligned(kSample, width) &&
           in.is_aligned(kMu, width);
  }
};

// Calls run(family, RSampleBackward<T>), which writes the gradients that are wanted, each in the
// dtype of its operand.
template <class Run> void rsample_backward(StableIValue *stack, const Run &run) {
  constexpr const char *op = "rsample_backward";
  Tensor grad = Tensor(stack[0]).with_dense_or_uniform_rows();
  Tensor x = Tensor(stack[1]).with_dense_rows();
  Tensor mu = Tensor(stack[2]).with_dense_rows(), kappa(stack[3]);
  const NeedsGrad needs(stack[5]);
  for (const Tensor *other : {&grad, &x, &mu})
    check_same_device(op, kappa, *other);
  std::vector<int64_t> shape;
  const int64_t d =
      broadcast_rows<4>(
          op,
          {{"grad", grad, true}, {"sample", x, true}, {"mu", mu, true}, {"kappa", kappa, false}},
          shape)
          .d;
  const bool sum_mu = needs.sums(needs.mu, mu, shape);
  const std::vector<int64_t> vectors = with_event(shape, d), none = {0};
  Tensor grad_mu = mu.empty(!needs.mu ? none : sum_mu ? mu.shape() : vectors);
  Tensor grad_kappa = kappa.empty(needs.kappa ? shape : none);
  const Operand operands[] = {{"grad", grad, true},
                              {"sample", x, true},
                              {"mu", mu, true},
                              {"kappa", kappa, false},
                              {"mu", needs.mu ? grad_mu : mu, true},
                              {"kappa", needs.kappa ? grad_kappa : kappa, false}};
  auto rows = broadcast_rows(op, operands, shape);
  dispatch_float(op, kappa, [&](auto zero) {
    using T = decltype(zero);
    using Args = RSampleBackward<T>;
    int64_t sums = rows.n, terms = 1;
    if (sum_mu)
      terms = put_expanded_last(rows, Args::kGradMu, sums);
    Args args{row_inputs<T>(op, operands, rows),
              grad.has_uniform_rows(),
              make_dim<T>(d),
              kappa.device_index(),
              sums,
              terms};
    args.in.data[Args::kGradMu] = needs.mu ? grad_mu.out<T>() : nullptr;
    args.in.data[Args::kGradKappa] = needs.kappa ? grad_kappa.out<T>() : nullptr;
    dispatch_family(op, static_cast<int64_t>(stack[4]), [&](auto family) { run(family, args); });
  });
  stack[0] = grad_mu.release();
  stack[1] = grad_kappa.release();
}

} // namespace spherical
