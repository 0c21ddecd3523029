// The scalar functions of (kappa, d), elementwise: their list, and the arguments of the op unpacked
// for the kernels of every device.
#pragma once
#include "dispatch.h"
#include "operands.h"

namespace spherical {

// The functions by the index that the op takes: the order of ScalarFunction in Python.
enum class ScalarFunction : int64_t {
  log_prob_at_mode,
  log_prob_at_mode_dkappa,
  log_prob_at_mode_dkappa2,
  mean_resultant_length,
  mean_resultant_length_dkappa,
  kl_uniform,
  kl_uniform_dkappa,
  log_prob_at_mode_over_uniform,
  entropy,
  count
};

template <class Family>
HD double scalar_function(ScalarFunction function, double kappa, const Dim<double> &dim) {
  switch (function) {
  case ScalarFunction::log_prob_at_mode:
    return Family::log_prob_at_mode(kappa, dim);
  case ScalarFunction::log_prob_at_mode_dkappa:
    return Family::log_prob_at_mode_dkappa(kappa, dim);
  case ScalarFunction::log_prob_at_mode_dkappa2:
    return Family::log_prob_at_mode_dkappa2(kappa, dim);
  case ScalarFunction::mean_resultant_length:
    return Family::mean_resultant_length(kappa, dim);
  case ScalarFunction::mean_resultant_length_dkappa:
    return Family::mean_resultant_length_dkappa(kappa, dim);
  case ScalarFunction::kl_uniform:
    return Family::kl_uniform(kappa, dim);
  case ScalarFunction::kl_uniform_dkappa:
    return Family::kl_uniform_dkappa(kappa, dim);
  case ScalarFunction::log_prob_at_mode_over_uniform:
    return Family::log_prob_at_mode_over_uniform(kappa, dim);
  default:
    return dim.log_area - Family::kl_uniform(kappa, dim);
  }
}

template <class T> struct ScalarFunctionArguments {
  enum { kKappa, kValue };
  RowOperands<T, 1, 1> operands;
  Dim<double> dim;
  int32_t device;
  ScalarFunction function;

  // Element i, computed in double on every device, so that float results are rounded once: the
  // terms of some functions nearly cancel.
  template <class Family> HD void element(int64_t i) const {
    const double kappa =
        operands.template concentration<Family>(kKappa, operands.rows.offset(kKappa, i));
    operands.set_scalar(kValue, i, static_cast<T>(scalar_function<Family>(function, kappa, dim)));
  }
};

// Calls run(family, ScalarFunctionArguments<T>), which writes the value for each kappa.
template <class Run> void unpack_scalar_function(StableIValue *stack, const Run &run) {
  constexpr const char *op = "scalar_function";
  Tensor kappa(stack[0]);
  const int64_t d = static_cast<int64_t>(stack[1]), function = static_cast<int64_t>(stack[3]);
  if (function < 0 || function >= static_cast<int64_t>(ScalarFunction::count))
    fail("scalar_function: no function has index " + std::to_string(function));
  const Input inputs[] = {{"kappa", kappa, false}};
  const Batch batch = broadcast(op, inputs, d);
  Tensor value = kappa.empty(batch.shape);
  const Result results[] = {{&value, false}};
  const auto rows = rows_of(op, batch, inputs, results);
  dispatch_float(op, kappa, [&](auto zero) {
    using T = decltype(zero);
    const ScalarFunctionArguments<T> args{row_operands<T>(op, rows, inputs, results),
                                          make_dim<double>(d), kappa.device_index(),
                                          static_cast<ScalarFunction>(function)};
    dispatch_family(op, static_cast<int64_t>(stack[2]), [&](auto family) { run(family, args); });
  });
  stack[0] = value.release();
}

} // namespace spherical
