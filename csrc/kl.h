// KL(p || q) between two members of one family, elementwise in the concentrations and the chords of
// the two mean directions: the op's arguments unpacked for the kernels of every device.
#pragma once
#include "families.h"
#include "math/kl_power_spherical.h"
#include "math/kl_von_mises_fisher.h"
#include "tensor.h"

namespace spherical {

// The divergence and its derivatives by the index that the op takes, as ops.py lists them.
enum class KlFunction : int64_t { kl, kl_dkappa_p, kl_dkappa_q, kl_dy, count };

// Calls f(Kl{}) for the divergence of p's family from itself.
template <class F> void dispatch_kl(int64_t family, const F &f) {
  switch (family) {
  case 0:
    return f(KlPowerSpherical{});
  case 1:
    return f(KlVonMisesFisher{});
  default:
    throw std::runtime_error("kl: no family has index " + std::to_string(family));
  }
}

template <class T> struct KlArguments {
  RowInputs<T, 4> in; // kappa_p, kappa_q, y, z
  Dim<T> dim;
  int32_t device;
  KlFunction function;
  T *out; // [n]

  template <class Kl> HD void element(int64_t i) const {
    const T p = *in.row(0, i), q = *in.row(1, i);
    const Chords<T> means = {*in.row(2, i), *in.row(3, i)};
    out[i] = function == KlFunction::kl            ? Kl::kl(p, q, dim, means)
             : function == KlFunction::kl_dkappa_p ? Kl::kl_dkappa_p(p, q, dim, means)
             : function == KlFunction::kl_dkappa_q ? Kl::kl_dkappa_q(p, q, dim, means)
                                                   : Kl::kl_dy(p, q, dim, means);
  }
};

// Calls run(Kl{}, KlArguments<T>), which fills `out`.
template <class Run> void kl(StableIValue *stack, const Run &run) {
  const Tensor p(stack[0]), q(stack[1]), y(stack[2]), z(stack[3]);
  const int64_t d = static_cast<int64_t>(stack[4]), function = static_cast<int64_t>(stack[6]);
  if (function < 0 || function >= static_cast<int64_t>(KlFunction::count))
    fail("kl: no function has index " + std::to_string(function));
  check_same_kind("kl", p, {&q, &y, &z});
  std::vector<int64_t> shape;
  const auto rows = broadcast_rows<4>(
      "kl", {{"kappa_p", p, false}, {"kappa_q", q, false}, {"y", y, false}, {"z", z, false}}, shape,
      d);
  Tensor result = p.empty(shape);
  dispatch_float("kl", p, [&](auto zero) {
    using T = decltype(zero);
    const KlArguments<T> args{{rows, {p.in<T>(), q.in<T>(), y.in<T>(), z.in<T>()}},
                              make_dim<T>(d),
                              p.device_index(),
                              static_cast<KlFunction>(function),
                              result.out<T>()};
    dispatch_kl(static_cast<int64_t>(stack[5]), [&](auto divergence) { run(divergence, args); });
  });
  stack[0] = result.release();
}

} // namespace spherical
