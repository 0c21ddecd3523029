// The VI-SimSiam loss of pairs of vectors that are not normalised (Nakamura et al. 2023, eq. 33),
//   loss = -log p(x/|x|; mu/|mu|, kappa) - log_area,
// the negative log-density relative to the uniform, with its gradients: the scalars of a row, and
// the arguments of the op unpacked for the kernels of every device.
#pragma once
#include "dispatch.h"
#include "operands.h"
#include <limits>

namespace spherical {

// A shorter vector has no direction: its cosine counts as 0, and its gradient is 0, unless the
// other vector is NaN.
constexpr double kShortest = 1e-12; // as in torch's normalize

// A half angle whose sin2 or cos2 is below this has lost 6 bits to the dot product, and its
// gradients 3 bits.
constexpr double kNearPole = 1.0 / 64;

// The sums over a row that the cosine needs.
enum CosineSum { kMuMu, kXX, kMuX, kCosineSums };

template <class T> HD_INLINE void cosine_terms(T mu, T x, T (&out)[kCosineSums]) {
  out[kMuMu] = mu * mu;
  out[kXX] = x * x;
  out[kMuX] = mu * x;
}

// The part of a vector a that is orthogonal to b, a - (a . b / b . b) b. `ratio` is rounded and the
// product exact, so the error of the part is a small multiple of b, and `rest` removes it.
template <class T> struct Orthogonal {
  T ratio;
  T rest;

  HD_INLINE T fused(T a, T b) const { return std::fma(-ratio, b, a); }
  HD_INLINE T exact(T a, T b) const { return fused(a, b) - rest * b; }
};

// The sums over a row that are needed in addition near the poles. p is the part of x orthogonal to
// mu, and q the part of mu orthogonal to x.
enum PoleSum { kPP, kPMu, kQX, kPoleSums };

// The angle between x and mu. From the dot product, sin2 and cos2 have an absolute error of one
// rounding. Where one of them is below kNearPole, set_pole_sums() gives it a relative error of that
// size.
template <class T> struct Cosine {
  HalfAngle<T> half_angle;
  Orthogonal<T> x_part, mu_part; // p and q
  T inverse;                     // 1/(|x| |mu|); 0 if either has no direction

  Cosine() = default;
  HD explicit Cosine(const T (&sums)[kCosineSums]) {
    const T shortest = T(kShortest * kShortest), mu_mu = sums[kMuMu], xx = sums[kXX];
    const bool none = mu_mu < shortest || xx < shortest;
    inverse = none ? T(0) * sums[kMuX] : T(1) / (std::sqrt(mu_mu) * std::sqrt(xx));
    const T t = sums[kMuX] * inverse;
    half_angle = {T(0.5) * (T(1) - t), T(0.5) * (T(1) + t)};
    x_part = {none ? T(0) : sums[kMuX] / mu_mu, T(0)};
    mu_part = {none ? T(0) : sums[kMuX] / xx, T(0)};
  }

  HD_INLINE bool within(T limit) const {
    return half_angle.sin2 < limit || half_angle.cos2 < limit;
  }

  HD_INLINE void pole_terms(T mu, T x, T (&out)[kPoleSums]) const {
    const T p = x_part.fused(x, mu);
    out[kPP] = p * p;
    out[kPMu] = p * mu;
    out[kQX] = mu_part.fused(mu, x) * x;
  }

  // sin^2(theta) = 4 sin2 cos2 = |p|^2/|x|^2
  HD void set_pole_sums(const T (&sums)[kCosineSums], const T (&pole)[kPoleSums]) {
    x_part.rest = pole[kPMu] / sums[kMuMu];
    mu_part.rest = pole[kQX] / sums[kXX];
    const T left = pole[kPP] - pole[kPMu] * x_part.rest,
            sin2 = left > T(0) ? left / sums[kXX] : T(0);
    const T small = T(0.5) * sin2 / (T(1) + std::sqrt(T(1) - sin2));
    half_angle =
        sums[kMuX] > T(0) ? HalfAngle<T>{small, T(1) - small} : HalfAngle<T>{T(1) - small, small};
  }
};

// The loss of a row, -(log p + log_area), given log_prob_at_mode_over_uniform. It is 0 where p is
// uniform.
template <class Family, class T>
HD T row_loss(T kappa, const Dim<T> &dim, T log_prob_at_mode_over_uniform, HalfAngle<T> c) {
  return -(log_prob_at_mode_over_uniform + Family::log_prob_ratio(kappa, dim, c));
}

// The derivative of the loss in kappa, given that of log_prob_at_mode.
template <class Family, class T>
HD T row_loss_dkappa(T kappa, const Dim<T> &dim, T log_prob_at_mode_dkappa, HalfAngle<T> c) {
  return -(log_prob_at_mode_dkappa + Family::log_prob_ratio_dkappa(kappa, dim, c));
}

template <class T> struct SmallestNormal {
  static constexpr T value = std::numeric_limits<T>::min();
};

// The derivative of the loss in t, times kappa^-beta. kappa counts as at least the smallest normal
// number, so that the product is finite at kappa = 0 for beta <= 1.
template <class Family, class T>
HD T row_loss_dt(T kappa, const Dim<T> &dim, T beta, HalfAngle<T> c) {
  if (beta == T(0))
    return -Family::log_prob_ratio_dt(kappa, dim, c);
  const T k = kappa < SmallestNormal<T>::value ? SmallestNormal<T>::value : kappa; // NaN stays NaN
  const T slope = Family::log_prob_ratio_dt(k, dim, c);
  return beta == T(1) ? -slope / k : -slope * std::pow(k, -beta);
}

template <class T> struct VISimSiamLoss {
  enum { kGrad, kPred, kTarget, kKappa, kLoss, kGradPred, kGradTarget, kGradKappa };
  RowOperands<T, 4, 4> operands;
  T beta;
  Dim<T> dim;
  int32_t device;

  bool is_aligned(int64_t width) const {
    return operands.is_aligned(kPred, width) && operands.is_aligned(kTarget, width);
  }
};

// Calls run(family, VISimSiamLoss<T>), which writes the loss and the gradients that are needed,
// each in the dtype of its operand. T is the dtype of kappa.
template <class Run> void unpack_vi_simsiam_loss(StableIValue *stack, const Run &run) {
  constexpr const char *op = "vi_simsiam_loss";
  Tensor grad(stack[0]), pred(stack[1]), target(stack[2]), kappa(stack[3]);
  double beta;
  std::memcpy(&beta, &stack[5], sizeof beta);
  const NeedsGrad needs(stack[6]);
  check_same_device(op, kappa, {&grad, &pred, &target});
  pred.make_rows_dense();
  target.make_rows_dense();
  const Input inputs[] = {{"grad", grad, false},
                          {"pred", pred, true},
                          {"target", target, true},
                          {"kappa", kappa, false}};
  check_same_dtype(op, inputs[3], inputs[0]);
  const Batch batch = broadcast(op, inputs);
  Tensor loss = kappa.empty(batch.shape);
  Tensor grad_kappa = kappa.empty(needs.kappa ? batch.shape : std::vector<int64_t>{0});
  Tensor grad_pred = new_gradient(pred, batch, needs.mu, false);
  Tensor grad_target = new_gradient(target, batch, needs.value, false);
  const Result results[] = {{&loss, false},
                            {needs.mu ? &grad_pred : nullptr, true},
                            {needs.value ? &grad_target : nullptr, true},
                            {needs.kappa ? &grad_kappa : nullptr, false}};
  const auto rows = rows_of(op, batch, inputs, results);
  dispatch_float(op, kappa, [&](auto zero) {
    using T = decltype(zero);
    const VISimSiamLoss<T> args{row_operands<T>(op, rows, inputs, results), static_cast<T>(beta),
                                make_dim<T>(batch.d), kappa.device_index()};
    dispatch_family(op, static_cast<int64_t>(stack[4]), [&](auto family) { run(family, args); });
  });
  stack[0] = loss.release();
  stack[1] = grad_pred.release();
  stack[2] = grad_target.release();
  stack[3] = grad_kappa.release();
}

} // namespace spherical
