// Functions of (kappa, d) alone, elementwise: which there are, and the op's arguments unpacked for
// the kernels of every device.
#pragma once
#include "families.h"
#include "tensor.h"

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
  count
};

template <class Family, class T>
HD T scalar_function(ScalarFunction function, T kappa, const Dim<T> &dim) {
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
  default:
    return Family::kl_uniform_dkappa(kappa, dim);
  }
}

template <class T> struct ScalarFunctionArguments {
  RowInputs<T, 1> in; // kappa
  Dim<double> dim;
  int32_t device;
  ScalarFunction function;
  T *out; // [n]

  // Computed in Real.
  template <class Family, class Real> HD void element(int64_t i) const {
    const Real kappa = *in.row(0, i);
    out[i] = static_cast<T>(scalar_function<Family>(function, kappa, convert_dim<Real>(dim)));
  }
};

// Calls run(family, ScalarFunctionArguments<T>), which fills `out`.
template <class Run> void scalar_function(StableIValue *stack, const Run &run) {
  Tensor kappa(stack[0]);
  const int64_t d = static_cast<int64_t>(stack[1]), function = static_cast<int64_t>(stack[3]);
  if (function < 0 || function >= static_cast<int64_t>(ScalarFunction::count))
    fail("scalar_function: no function has index " + std::to_string(function));
  std::vector<int64_t> shape;
  const auto rows = broadcast_rows<1>("scalar_function", {{"kappa", kappa, false}}, shape, d);
  Tensor result = kappa.empty(shape);
  dispatch_float("scalar_function", kappa, [&](auto zero) {
    using T = decltype(zero);
    const ScalarFunctionArguments<T> args{{rows, {kappa.in<T>()}},
                                          make_dim<double>(d),
                                          kappa.device_index(),
                                          static_cast<ScalarFunction>(function),
                                          result.out<T>()};
    dispatch_family("scalar_function", static_cast<int64_t>(stack[2]),
                    [&](auto family) { run(family, args); });
  });
  stack[0] = result.release();
}

} // namespace spherical
