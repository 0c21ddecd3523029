// KL(p || q), elementwise in the two concentrations and the half angle between the two mean
// directions: the arguments of the op unpacked for the kernels of every device. A divergence is a
// struct of the static functions kl, kl_dkappa_p, kl_dkappa_q and kl_dsin2, each of (kappa_p,
// kappa_q, dim, half_angle). The header of a pair of families overloads `divergence` for it.
#pragma once
#include "dispatch.h"
#include "operands.h"

namespace spherical {

// The functions of a divergence by the index that the op takes: the order of KlFunction in Python.
enum class KlFunction : int64_t { kl, kl_dkappa_p, kl_dkappa_q, kl_dsin2, count };

// The divergence of two families for which no header of math/ overloads this function.
struct UnknownDivergence {};
template <class P, class Q> UnknownDivergence divergence(P, Q) { return {}; }

// Calls f(P{}, Q{}) for the families of p and q, whose divergence is known.
template <class F> void dispatch_kl(int64_t family_p, int64_t family_q, const F &f) {
  dispatch_family("kl", family_p, [&](auto p) {
    dispatch_family("kl", family_q, [&](auto q) {
      if constexpr (std::is_same_v<decltype(divergence(p, q)), UnknownDivergence>)
        fail(std::string("kl: no divergence from ") + p.name + " to " + q.name + " is known");
      else
        f(p, q);
    });
  });
}

// Operands of float32 are computed in double, too, so that results are rounded once.
struct KlArguments {
  enum { kKappaP, kKappaQ, kSin2, kCos2, kValue };
  RowOperands<double, 4, 1> operands;
  Dim<double> dim;
  int32_t device;
  KlFunction function;

  template <class P, class Q> HD void element(int64_t i) const {
    using Kl = decltype(divergence(P(), Q()));
    int64_t at[4];
    operands.rows.offsets(i, at);
    const double p = operands.concentration<P>(kKappaP, at[kKappaP]);
    const double q = operands.concentration<Q>(kKappaQ, at[kKappaQ]);
    HalfAngle<double> means = {operands.scalar(kSin2, at[kSin2]),
                               operands.scalar(kCos2, at[kCos2])};
    // A derivative in sin2 may have no bound as sin2 -> 0. It must not overflow float32.
    const double smallest = operands.is_native(kSin2) ? 2.3e-308 : 1.2e-38;
    if (function == KlFunction::kl_dsin2 && means.sin2 < smallest)
      means.sin2 = smallest;
    const double value = function == KlFunction::kl            ? Kl::kl(p, q, dim, means)
                         : function == KlFunction::kl_dkappa_p ? Kl::kl_dkappa_p(p, q, dim, means)
                         : function == KlFunction::kl_dkappa_q ? Kl::kl_dkappa_q(p, q, dim, means)
                                                               : Kl::kl_dsin2(p, q, dim, means);
    operands.set_scalar(kValue, i, value);
  }
};

// Calls run(P{}, Q{}, KlArguments), which writes the value for each element.
template <class Run> void unpack_kl(StableIValue *stack, const Run &run) {
  constexpr const char *op = "kl";
  Tensor p(stack[0]), q(stack[1]), sin2(stack[2]), cos2(stack[3]);
  const int64_t d = static_cast<int64_t>(stack[4]), function = static_cast<int64_t>(stack[7]);
  if (function < 0 || function >= static_cast<int64_t>(KlFunction::count))
    fail("kl: no function has index " + std::to_string(function));
  check_float(op, p);
  check_same_device(op, p, {&q, &sin2, &cos2});
  const Input inputs[] = {
      {"kappa_p", p, false}, {"kappa_q", q, false}, {"sin2", sin2, false}, {"cos2", cos2, false}};
  for (const Input &input : inputs)
    check_same_dtype(op, inputs[0], input);
  const Batch batch = broadcast(op, inputs, d);
  Tensor value = p.empty(batch.shape);
  const Result results[] = {{&value, false}};
  const auto rows = rows_of(op, batch, inputs, results);
  const KlArguments args{row_operands<double>(op, rows, inputs, results), make_dim<double>(d),
                         p.device_index(), static_cast<KlFunction>(function)};
  dispatch_kl(static_cast<int64_t>(stack[5]), static_cast<int64_t>(stack[6]),
              [&](auto p, auto q) { run(p, q, args); });
  stack[0] = value.release();
}

} // namespace spherical
