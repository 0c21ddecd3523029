// KL(p || q), elementwise in the concentrations and the half angle between the two mean directions:
// the op's arguments unpacked for the kernels of every device. A divergence is a struct of static
// functions kl, kl_dkappa_p, kl_dkappa_q and kl_dsin2 of (kappa_p, kappa_q, dim, means).
#pragma once
#include "families.h"
#include "math/kl_power_spherical.h"
#include "math/kl_power_spherical_von_mises_fisher.h"
#include "math/kl_von_mises_fisher.h"
#include "tensor.h"

namespace spherical {

// The functions of a divergence by the index that the op takes: the order of KlFunction in Python.
enum class KlFunction : int64_t { kl, kl_dkappa_p, kl_dkappa_q, kl_dsin2, count };

// The divergences that are known, by the families of p and q.
inline KlPowerSpherical divergence(PowerSpherical, PowerSpherical) { return {}; }
inline KlPowerSphericalVonMisesFisher divergence(PowerSpherical, VonMisesFisher) { return {}; }
inline KlVonMisesFisherPowerSpherical divergence(VonMisesFisher, PowerSpherical) { return {}; }
inline KlVonMisesFisher divergence(VonMisesFisher, VonMisesFisher) { return {}; }
// Every other pair of families.
struct UnknownDivergence {};
template <class P, class Q> UnknownDivergence divergence(P, Q) { return {}; }

// Calls f(Kl{}) for the divergence of p's family from q's.
template <class F> void dispatch_kl(int64_t family_p, int64_t family_q, const F &f) {
  dispatch_family("kl", family_p, [&](auto p) {
    dispatch_family("kl", family_q, [&](auto q) {
      if constexpr (std::is_same_v<decltype(divergence(p, q)), UnknownDivergence>)
        fail(std::string("kl: no divergence from ") + p.name + " to " + q.name + " is known");
      else
        f(divergence(p, q));
    });
  });
}

// Of float32 or float64, computed in double: results of float32 are rounded once.
struct KlArguments {
  Rows<4> rows; // kappa_p, kappa_q, sin2, cos2
  const void *data[4];
  void *out; // [n]
  bool is_float64;
  Dim<double> dim;
  int32_t device;
  KlFunction function;

  HD double operand(int k, int64_t i) const {
    const int64_t at = rows.offset(k, i);
    return is_float64 ? static_cast<const double *>(data[k])[at]
                      : double{static_cast<const float *>(data[k])[at]};
  }

  template <class Kl> HD void element(int64_t i) const {
    const double p = operand(0, i), q = operand(1, i);
    HalfAngle<double> means = {operand(2, i), operand(3, i)};
    // Where the derivative in sin2 has no bound as sin2 -> 0, it must not overflow float32.
    const double smallest = is_float64 ? 2.3e-308 : 1.2e-38;
    if (function == KlFunction::kl_dsin2 && means.sin2 < smallest)
      means.sin2 = smallest;
    const double result = function == KlFunction::kl            ? Kl::kl(p, q, dim, means)
                          : function == KlFunction::kl_dkappa_p ? Kl::kl_dkappa_p(p, q, dim, means)
                          : function == KlFunction::kl_dkappa_q ? Kl::kl_dkappa_q(p, q, dim, means)
                                                                : Kl::kl_dsin2(p, q, dim, means);
    if (is_float64)
      static_cast<double *>(out)[i] = result;
    else
      static_cast<float *>(out)[i] = static_cast<float>(result);
  }
};

// Calls run(Kl{}, KlArguments), which fills `out`.
template <class Run> void kl(StableIValue *stack, const Run &run) {
  const Tensor p(stack[0]), q(stack[1]), sin2(stack[2]), cos2(stack[3]);
  const int64_t d = static_cast<int64_t>(stack[4]), function = static_cast<int64_t>(stack[7]);
  if (function < 0 || function >= static_cast<int64_t>(KlFunction::count))
    fail("kl: no function has index " + std::to_string(function));
  check_same_kind("kl", p, {&q, &sin2, &cos2});
  std::vector<int64_t> shape;
  const auto rows = broadcast_rows<4>(
      "kl",
      {{"kappa_p", p, false}, {"kappa_q", q, false}, {"sin2", sin2, false}, {"cos2", cos2, false}},
      shape, d);
  Tensor result = p.empty(shape);
  dispatch_float("kl", p, [&](auto zero) {
    using T = decltype(zero);
    const KlArguments args{rows,
                           {p.in<T>(), q.in<T>(), sin2.in<T>(), cos2.in<T>()},
                           result.out<T>(),
                           !is_float32<T>,
                           make_dim<double>(d),
                           p.device_index(),
                           static_cast<KlFunction>(function)};
    dispatch_kl(static_cast<int64_t>(stack[5]), static_cast<int64_t>(stack[6]),
                [&](auto divergence) { run(divergence, args); });
  });
  stack[0] = result.release();
}

} // namespace spherical
