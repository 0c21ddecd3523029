// The arguments of rsample and rsample_backward: unpacked from the stack, checked, broadcast and
// typed, for the kernels of every device.
#pragma once
#include "dispatch.h"
#include "operands.h"
#include "sphere.h"

namespace spherical {

template <class T> struct RSample {
  enum { kMu, kKappa, kSample, kRounded };
  RowOperands<T, 2, 2> operands;
  Dim<T> dim;
  int32_t device;
  const int64_t *rng_state; // [2] seed, offset
  int64_t rng_stride;

  // The random words of row i. The kernel reads the seed, so that a seed on a GPU causes no
  // synchronisation.
  HD_INLINE RowStream stream(int64_t i) const {
    return {static_cast<uint64_t>(rng_state[0]),
            static_cast<uint64_t>(rng_state[rng_stride]) + static_cast<uint64_t>(i)};
  }
  bool is_aligned(int64_t width) const { return operands.is_aligned(kMu, width); }
};

// Calls run(family, RSample<T>), which writes the sample [n, d], and if it `rounds` the same in the
// dtype of mu. T is the dtype of kappa.
template <class Run> void unpack_rsample(StableIValue *stack, bool rounds, const Run &run) {
  const char *op = rounds ? "rsample_rounded" : "rsample";
  Tensor mu(stack[0]), kappa(stack[1]), state(stack[2]);
  check_same_device(op, kappa, {&mu, &state});
  mu.make_rows_dense();
  if (state.dtype() != aoti_torch_dtype_int64() || state.dim() != 1 || state.size(0) != 2)
    fail(std::string(op) + ": rng_state must be int64 of shape (2,): seed and offset");
  const Input inputs[] = {{"mu", mu, true}, {"kappa", kappa, false}};
  const Batch batch = broadcast(op, inputs);
  Tensor sample = kappa.empty(batch.vectors());
  std::optional<Tensor> rounded;
  if (rounds)
    rounded = mu.empty(batch.vectors());
  const Result results[] = {{&sample, true}, {rounded ? &*rounded : nullptr, true}};
  const auto rows = rows_of(op, batch, inputs, results);
  dispatch_float(op, kappa, [&](auto zero) {
    using T = decltype(zero);
    const RSample<T> args{row_operands<T>(op, rows, inputs, results), make_dim<T>(batch.d),
                          kappa.device_index(), state.in<int64_t>(), state.stride(0)};
    dispatch_family(op, static_cast<int64_t>(stack[3]), [&](auto family) { run(family, args); });
  });
  if (rounded)
    *stack++ = rounded->release();
  *stack = sample.release();
}

template <class T> struct RSampleBackward {
  enum { kGrad, kSample, kMu, kKappa, kGradMu, kGradKappa };
  RowOperands<T, 4, 2> operands;
  bool uniform_grad; // a row of grad is one value, as sum().backward() makes it: only that is read
  Dim<T> dim;
  int32_t device;
  Sums sums; // of kGradMu

  bool is_aligned(int64_t width) const {
    return (uniform_grad || operands.is_aligned(kGrad, width)) &&
           operands.is_aligned(kSample, width) && operands.is_aligned(kMu, width);
  }
};

// Calls run(family, RSampleBackward<T>), which writes the gradients that are needed, each in the
// dtype of its operand.
template <class Run> void unpack_rsample_backward(StableIValue *stack, const Run &run) {
  constexpr const char *op = "rsample_backward";
  Tensor grad(stack[0]), sample(stack[1]), mu(stack[2]), kappa(stack[3]);
  const NeedsGrad needs(stack[5]);
  check_same_device(op, kappa, {&grad, &sample, &mu});
  if (!grad.has_uniform_rows() || grad.dtype() != kappa.dtype())
    grad.make_rows_dense();
  sample.make_rows_dense();
  mu.make_rows_dense();
  const Input inputs[] = {
      {"grad", grad, true}, {"sample", sample, true}, {"mu", mu, true}, {"kappa", kappa, false}};
  const Batch batch = broadcast(op, inputs);
  const bool sum_mu = needs.summed && needs.mu && batch.expands(mu);
  Tensor grad_mu = new_gradient(mu, batch, needs.mu, needs.summed);
  Tensor grad_kappa = kappa.empty(needs.kappa ? batch.shape : std::vector<int64_t>{0});
  const Result results[] = {{needs.mu ? &grad_mu : nullptr, true},
                            {needs.kappa ? &grad_kappa : nullptr, false}};
  auto rows = rows_of(op, batch, inputs, results);
  constexpr int summed = RSampleBackward<float>::kGradMu;
  const Sums sums = sum_mu ? sums_of_expanded(rows, summed) : Sums{summed, batch.n, 1};
  dispatch_float(op, kappa, [&](auto zero) {
    using T = decltype(zero);
    const RSampleBackward<T> args{row_operands<T>(op, rows, inputs, results),
                                  grad.has_uniform_rows(), make_dim<T>(batch.d),
                                  kappa.device_index(), sums};
    dispatch_family(op, static_cast<int64_t>(stack[4]), [&](auto family) { run(family, args); });
  });
  stack[0] = grad_mu.release();
  stack[1] = grad_kappa.release();
}

} // namespace spherical
