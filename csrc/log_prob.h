// The arguments of log_prob and log_prob_backward: unpacked from the stack, checked, broadcast and
// typed, for the kernels of every device.
#pragma once
#include "dispatch.h"
#include "operands.h"
#include "sphere.h"

namespace spherical {

template <class T> struct LogProb {
  enum { kValue, kMu, kKappa, kLogProb };
  RowOperands<T, 3, 1> operands;
  Dim<T> dim;
  int32_t device;

  bool is_aligned(int64_t width) const {
    return operands.is_aligned(kValue, width) && operands.is_aligned(kMu, width);
  }
};

// Calls run(family, LogProb<T>), which writes log_prob. T is the dtype of kappa.
template <class Run> void unpack_log_prob(StableIValue *stack, const Run &run) {
  constexpr const char *op = "log_prob";
  Tensor value(stack[0]), mu(stack[1]), kappa(stack[2]);
  check_same_device(op, kappa, {&value, &mu});
  value.make_rows_dense();
  mu.make_rows_dense();
  const Input inputs[] = {{"value", value, true}, {"mu", mu, true}, {"kappa", kappa, false}};
  const Batch batch = broadcast(op, inputs);
  Tensor log_prob = kappa.empty(batch.shape);
  const Result results[] = {{&log_prob, false}};
  const auto rows = rows_of(op, batch, inputs, results);
  dispatch_float(op, kappa, [&](auto zero) {
    using T = decltype(zero);
    const LogProb<T> args{row_operands<T>(op, rows, inputs, results), make_dim<T>(batch.d),
                          kappa.device_index()};
    dispatch_family(op, static_cast<int64_t>(stack[3]), [&](auto family) { run(family, args); });
  });
  stack[0] = log_prob.release();
}

template <class T> struct LogProbBackward {
  enum { kGrad, kValue, kMu, kKappa, kGradValue, kGradMu, kGradKappa };
  RowOperands<T, 4, 3> operands;
  Dim<T> dim;
  int32_t device;
  Sums sums; // of kGradValue or kGradMu

  bool is_aligned(int64_t width) const {
    return operands.is_aligned(kValue, width) && operands.is_aligned(kMu, width);
  }
};

// For devices without kernels for all pairs of values and laws.
struct NoPairs {
  template <class Family, class Args> bool operator()(Family, const Args &) const { return false; }
};

// Calls run(family, LogProbBackward<T>), which writes the gradients that are needed, each in the
// dtype of its operand. It is called twice where both gradients of vectors are to be summed. Where
// both vectors are expanded, run_pairs is called first, with all gradients; if it returns true, it
// has written them.
template <class Run, class RunPairs = NoPairs>
void unpack_log_prob_backward(StableIValue *stack, const Run &run,
                              const RunPairs &run_pairs = RunPairs()) {
  constexpr const char *op = "log_prob_backward";
  Tensor grad(stack[0]), value(stack[1]), mu(stack[2]), kappa(stack[3]);
  const NeedsGrad needs(stack[5]);
  check_same_device(op, kappa, {&grad, &value, &mu});
  value.make_rows_dense();
  mu.make_rows_dense();
  const Input inputs[] = {
      {"grad", grad, false}, {"value", value, true}, {"mu", mu, true}, {"kappa", kappa, false}};
  check_same_dtype(op, inputs[3], inputs[0]);
  const Batch batch = broadcast(op, inputs);
  const bool sum_value = needs.summed && needs.value && batch.expands(value);
  const bool sum_mu = needs.summed && needs.mu && batch.expands(mu);
  Tensor grad_value = new_gradient(value, batch, needs.value, needs.summed);
  Tensor grad_mu = new_gradient(mu, batch, needs.mu, needs.summed);
  Tensor grad_kappa = kappa.empty(needs.kappa ? batch.shape : std::vector<int64_t>{0});

  // Calls use(family, args), with the rows sorted for the sums of result `summed`.
  const auto launch = [&](bool to_value, bool to_mu, bool to_kappa, int summed, const auto &use) {
    const Result results[] = {{to_value ? &grad_value : nullptr, true},
                              {to_mu ? &grad_mu : nullptr, true},
                              {to_kappa ? &grad_kappa : nullptr, false}};
    auto rows = rows_of(op, batch, inputs, results);
    const Sums sums =
        sum_value || sum_mu ? sums_of_expanded(rows, summed) : Sums{summed, batch.n, 1};
    dispatch_float(op, kappa, [&](auto zero) {
      using T = decltype(zero);
      const LogProbBackward<T> args{row_operands<T>(op, rows, inputs, results),
                                    make_dim<T>(batch.d), kappa.device_index(), sums};
      dispatch_family(op, static_cast<int64_t>(stack[4]), [&](auto family) { use(family, args); });
    });
  };
  using Args = LogProbBackward<float>;
  bool done = false;
  if (needs.summed && batch.expands(value) && batch.expands(mu))
    launch(needs.value, needs.mu, needs.kappa, Args::kGradMu,
           [&](auto family, const auto &args) { done = run_pairs(family, args); });
  if (done) {
    // Every gradient is written.
  } else if (sum_value && sum_mu) {
    launch(true, false, false, Args::kGradValue, run);
    launch(false, true, needs.kappa, Args::kGradMu, run);
  } else {
    launch(needs.value, needs.mu, needs.kappa, sum_value ? Args::kGradValue : Args::kGradMu, run);
  }
  stack[0] = grad_value.release();
  stack[1] = grad_mu.release();
  stack[2] = grad_kappa.release();
}

} // namespace spherical
