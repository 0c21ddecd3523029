// Functions of (kappa, d) alone, elementwise: which there are, and the op's arguments unpacked for
// the kernels of every device.
#pragma once
#include "families.h"
#include "tensor.h"

namespace spherical {

// The functions by the index that the op takes: the order of ops.IN_KAPPA.
enum class InKappa : int64_t {
  log_peak,
  log_peak_1,
  log_peak_2,
  mean_resultant_length,
  mean_resultant_length_1,
  kl_uniform,
  count
};

template <class Family, class T> HD T in_kappa(InKappa function, T kappa, const Dim<T> &dim) {
  switch (function) {
  case InKappa::log_peak:
    return Family::log_peak(kappa, dim);
  case InKappa::log_peak_1:
    return Family::log_peak_1(kappa, dim);
  case InKappa::log_peak_2:
    return Family::log_peak_2(kappa, dim);
  case InKappa::mean_resultant_length:
    return Family::mean_resultant_length(kappa, dim);
  case InKappa::mean_resultant_length_1:
    return Family::mean_resultant_length_1(kappa, dim);
  default:
    return Family::kl_uniform(kappa, dim);
  }
}

template <class T> struct InKappaArguments {
  RowInputs<T, 1> in; // kappa
  Dim<double> dim;
  int32_t device;
  InKappa function;
  T *out; // [n]

  // Computed in Real.
  template <class Family, class Real> HD void element(int64_t i) const {
    const Real kappa = *in.row(0, i);
    out[i] = static_cast<T>(in_kappa<Family>(function, kappa, convert_dim<Real>(dim)));
  }
};

// Calls run(family, InKappaArguments<T>), which fills `out`.
template <class Run> void in_kappa(StableIValue *stack, const Run &run) {
  Tensor kappa(stack[0]);
  const int64_t d = static_cast<int64_t>(stack[1]), function = static_cast<int64_t>(stack[3]);
  if (function < 0 || function >= static_cast<int64_t>(InKappa::count))
    fail("in_kappa: no function has index " + std::to_string(function));
  std::vector<int64_t> shape;
  const auto rows = broadcast_rows<1>("in_kappa", {{"kappa", kappa, false}}, shape, d);
  Tensor result = kappa.empty(shape);
  dispatch_float("in_kappa", kappa, [&](auto zero) {
    using T = decltype(zero);
    const InKappaArguments<T> args{{rows, {kappa.in<T>()}},
                                   make_dim<double>(d),
                                   kappa.device_index(),
                                   static_cast<InKappa>(function),
                                   result.out<T>()};
    dispatch_family("in_kappa", static_cast<int64_t>(stack[2]),
                    [&](auto family) { run(family, args); });
  });
  stack[0] = result.release();
}

} // namespace spherical
