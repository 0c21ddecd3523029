// The arguments of log_prob and log_prob_backward: unpacked from the stack, checked, broadcast and
// typed, for the kernels of every device.
#pragma once
#include "families.h"
#include "sphere.h"
#include "tensor.h"

namespace spherical {

template <class T> struct LogProb {
  enum { kValue, kMu, kKappa, kOperands };
  RowInputs<T, kOperands> in;
  Dim<T> dim;
  int32_t device;
  T *out; // [n]

  bool is_aligned(int64_t width) const {
    return in.is_aligned(kValue, width) && in.is_aligned(kMu, width);
  }
};

// Calls run(family, LogProb<T>), which fills `out`. T is the dtype of kappa.
template <class Run> void log_prob(StableIValue *stack, const Run &run) {
  constexpr const char *op = "log_prob";
  Tensor x = Tensor(stack[0]).with_dense_rows(), mu = Tensor(stack[1]).with_dense_rows();
  Tensor kappa(stack[2]);
  check_same_device(op, kappa, x);
  check_same_device(op, kappa, mu);
  std::vector<int64_t> shape;
  const Operand operands[] = {{"value", x, true}, {"mu", mu, true}, {"kappa", kappa, false}};
  const auto rows = broadcast_rows(op, operands, shape);
  Tensor result = kappa.empty(shape);
  dispatch_float(op, kappa, [&](auto zero) {
    using T = decltype(zero);
    const LogProb<T> args{row_inputs<T>(op, operands, rows), make_dim<T>(rows.d),
                          kappa.device_index(), result.out<T>()};
    dispatch_family(op, static_cast<int64_t>(stack[3]), [&](auto family) { run(family, args); });
  });
  stack[0] = result.release();
}

template <class T> struct LogProbBackward {
  enum { kGrad, kValue, kMu, kKappa, kGradValue, kGradMu, kGradKappa, kOperands };
  RowInputs<T, kOperands> in; // the last three: gradients to be written, null if not wanted
  Dim<T> dim;
  int32_t device;
  // kGradValue or kGradMu, if `terms` neighbouring rows are to be summed for each of its `sums`.
  int summed;
  int64_t sums, terms;

  HD_INLINE T kappa(int64_t i) const { return *in.row(kKappa, i); }
  HD_INLINE bool wants(int gradient) const { return in.data[gradient] != nullptr; }
  bool is_aligned(int64_t width) const {
    return in.is_aligned(kValue, width) && in.is_aligned(kMu, width);
  }
};

// Calls run(family, LogProbBackward<T>), which writes the gradients that are wanted, each in the
// dtype of its operand: once, or twice where both gradients of vectors are to be summed.
template <class Run> void log_prob_backward(StableIValue *stack, const Run &run) {
  constexpr const char *op = "log_prob_backward";
  Tensor grad(stack[0]);
  Tensor x = Tensor(stack[1]).with_dense_rows(), mu = Tensor(stack[2]).with_dense_rows();
  Tensor kappa(stack[3]);
  const NeedsGrad needs(stack[5]);
  for (const Tensor *other : {&grad, &x, &mu})
    check_same_device(op, kappa, *other);
  std::vector<int64_t> shape;
  const int64_t d =
      broadcast_rows<4>(
          op,
          {{"grad", grad, false}, {"value", x, true}, {"mu", mu, true}, {"kappa", kappa, false}},
          shape)
          .d;
  const bool sum_x = needs.sums(needs.value, x, shape), sum_mu = needs.sums(needs.mu, mu, shape);
  const std::vector<int64_t> vectors = with_event(shape, d), none = {0};
  Tensor grad_x = x.empty(!needs.value ? none : sum_x ? x.shape() : vectors);
  Tensor grad_mu = mu.empty(!needs.mu ? none : sum_mu ? mu.shape() : vectors);
  Tensor grad_kappa = kappa.empty(needs.kappa ? shape : none);

  const auto launch = [&](bool want_x, bool want_mu, bool want_kappa, int summed) {
    const Operand operands[] = {{"grad", grad, false},
                                {"value", x, true},
                                {"mu", mu, true},
                                {"kappa", kappa, false},
                                {"value", want_x ? grad_x : x, true},
                                {"mu", want_mu ? grad_mu : mu, true},
                                {"kappa", want_kappa ? grad_kappa : kappa, false}};
    auto rows = broadcast_rows(op, operands, shape);
    int64_t sums = rows.n, terms = 1;
    if (sum_x || sum_mu)
      terms = put_expanded_last(rows, summed, sums);
    dispatch_float(op, kappa, [&](auto zero) {
      using T = decltype(zero);
      using Args = LogProbBackward<T>;
      Args args{row_inputs<T>(op, operands, rows),
                make_dim<T>(d),
                kappa.device_index(),
                summed,
                sums,
                terms};
      args.in.data[Args::kGradValue] = want_x ? grad_x.out<T>() : nullptr;
      args.in.data[Args::kGradMu] = want_mu ? grad_mu.out<T>() : nullptr;
      args.in.data[Args::kGradKappa] = want_kappa ? grad_kappa.out<T>() : nullptr;
      dispatch_family(op, static_cast<int64_t>(stack[4]), [&](auto family) { run(family, args); });
    });
  };
  constexpr int value = LogProbBackward<float>::kGradValue, mean = LogProbBackward<float>::kGradMu;
  if (sum_x && sum_mu) {
    launch(true, false, false, value);
    launch(false, true, needs.kappa, mean);
  } else {
    launch(needs.value, needs.mu, needs.kappa, sum_x ? value : mean);
  }
  stack[0] = grad_x.release();
  stack[1] = grad_mu.release();
  stack[2] = grad_kappa.release();
}

} // namespace spherical
