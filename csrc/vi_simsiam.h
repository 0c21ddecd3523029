// The VI-SimSiam loss of pairs of vectors that are not normalised (Nakamura et al. 2023, eq. 33):
//   loss = -log p(x/|x|; mu/|mu|, kappa) - log_area,
// the negative log-density relative to the uniform, with its gradients: the scalars of a row, and
// the arguments of the op for the kernels of every device.
#pragma once
#include "families.h"
#include "tensor.h"
#include <limits>

namespace spherical {

// A vector shorter than this has no direction: its cosine counts as 0, its gradient is 0.
constexpr double kShortest = 1e-12; // as in torch's normalize

// Chord fractions below this have lost 6 bits to the dot product, and gradients 3.
constexpr double kNearPole = 1.0 / 64;

// The sums over a row that the cosine needs.
enum CosineSum { kMuMu, kXX, kMuX, kCosineSums };

template <class T> HD_INLINE void cosine_terms(T mu, T x, T (&out)[kCosineSums]) {
  out[kMuMu] = mu * mu;
  out[kXX] = x * x;
  out[kMuX] = mu * x;
}

// An element of a - (a . b / b . b) b, the part of one vector orthogonal to another. With ratio
// rounded and the product exact, what is wrong is a small multiple of b, and `rest` takes it out.
template <class T> struct Orthogonal {
  T ratio;
  T rest;

  HD_INLINE T fused(T a, T b) const { return std::fma(-ratio, b, a); }
  HD_INLINE T exact(T a, T b) const { return fused(a, b) - rest * b; }
};

// The sums over a row that are needed in addition near the poles; p and q are the parts of x and of
// mu orthogonal to the other.
enum PoleSum { kPP, kPMu, kQX, kPoleSums };

// Position of x/|x| relative to mu/|mu|. From the dot product, sin2 and cos2 have an absolute error
// of one rounding; where either is within kNearPole, set_pole_sums() gives it a relative one.
template <class T> struct Cosine {
  HalfAngle<T> half_angle;
  Orthogonal<T> of_x, of_mu; // their parts orthogonal to the other
  T inverse;                 // 1/(|x| |mu|); 0 if either has no direction

  HD explicit Cosine(const T (&sums)[kCosineSums]) {
    const T shortest = T(kShortest * kShortest), mu_mu = sums[kMuMu], xx = sums[kXX];
    const bool none = mu_mu < shortest || xx < shortest;
    inverse = none ? T(0) : T(1) / (std::sqrt(mu_mu) * std::sqrt(xx));
    const T t = none ? T(0) : sums[kMuX] * inverse;
    half_angle = {T(0.5) * (T(1) - t), T(0.5) * (T(1) + t)};
    of_x = {none ? T(0) : sums[kMuX] / mu_mu, T(0)};
    of_mu = {none ? T(0) : sums[kMuX] / xx, T(0)};
  }

  HD_INLINE bool within(T limit) const {
    return half_angle.sin2 < limit || half_angle.cos2 < limit;
  }

  HD_INLINE void pole_terms(T mu, T x, T (&out)[kPoleSums]) const {
    const T p = of_x.fused(x, mu);
    out[kPP] = p * p;
    out[kPMu] = p * mu;
    out[kQX] = of_mu.fused(mu, x) * x;
  }

  // sin^2 = 4 sin2 cos2 = |p|^2/|x|^2
  HD void set_pole_sums(const T (&sums)[kCosineSums], const T (&pole)[kPoleSums]) {
    of_x.rest = pole[kPMu] / sums[kMuMu];
    of_mu.rest = pole[kQX] / sums[kXX];
    const T left = pole[kPP] - pole[kPMu] * of_x.rest, sin2 = left > T(0) ? left / sums[kXX] : T(0);
    const T small = T(0.5) * sin2 / (T(1) + std::sqrt(T(1) - sin2));
    half_angle =
        sums[kMuX] > T(0) ? HalfAngle<T>{small, T(1) - small} : HalfAngle<T>{T(1) - small, small};
  }
};

// The loss of a row, and its derivative in kappa.
template <class T> struct RowLoss {
  T value;
  T dkappa;
};

// -(log p + log_area), which is 0 where p is uniform.
template <class Family, class T>
HD RowLoss<T> row_loss(T kappa, const Dim<T> &dim, HalfAngle<T> c, bool want_dkappa) {
  return {
      -(Family::log_prob_at_mode_over_uniform(kappa, dim) + Family::log_prob_ratio(kappa, dim, c)),
      want_dkappa ? -(Family::log_prob_at_mode_dkappa(kappa, dim) +
                      Family::log_prob_ratio_dkappa(kappa, dim, c))
                  : T(0)};
}

// kappa^-beta times the derivative of the loss in t. kappa is at least the smallest normal number,
// so that the product is finite at kappa = 0 for beta <= 1.
template <class Family, class T>
HD T row_loss_dt(T kappa, const Dim<T> &dim, T beta, HalfAngle<T> c) {
  if (beta == T(0))
    return -Family::log_prob_ratio_dt(kappa, dim, c);
  constexpr T smallest = std::numeric_limits<T>::min();
  const T k = kappa < smallest ? smallest : kappa; // NaN stays NaN
  const T slope = Family::log_prob_ratio_dt(k, dim, c);
  return beta == T(1) ? -slope / k : -slope * std::pow(k, -beta);
}

// T: float, double, BFloat16 or Float16; S, of the scalars and in which rows are summed, the wider
// of T and float. Gradients that are not wanted are null.
template <class T> struct VISimSiamLoss {
  using S = Accumulator<T>;

  Rows<4> rows; // of the four that follow
  const S *grads;
  const T *preds;
  const T *targets;
  const S *kappas;
  S beta;
  Dim<S> dim;
  int32_t device;
  S *out;         // [n]
  T *grad_target; // [n, d]
  T *grad_pred;   // [n, d]
  S *grad_kappa;  // [n]

  HD_INLINE S grad(int64_t i) const { return grads[rows.offset(0, i)]; }
  HD_INLINE const T *pred(int64_t i) const { return preds + rows.offset(1, i); }     // [d]
  HD_INLINE const T *target(int64_t i) const { return targets + rows.offset(2, i); } // [d]
  HD_INLINE S kappa(int64_t i) const { return kappas[rows.offset(3, i)]; }

  // Whether every row of pred and target consists of whole words of so many bytes.
  bool is_aligned(uintptr_t bytes) const {
    uintptr_t odd = reinterpret_cast<uintptr_t>(preds) | reinterpret_cast<uintptr_t>(targets) |
                    static_cast<uintptr_t>(rows.d) * sizeof(T);
    for (int j = 0; j < rows.ndim; ++j)
      odd |= static_cast<uintptr_t>(rows.stride[1][j] | rows.stride[2][j]) * sizeof(T);
    return odd % bytes == 0;
  }
};

// Calls run(family, VISimSiamLoss<T>), which fills `out` and the gradients that are wanted.
template <class Run> void vi_simsiam_loss(StableIValue *stack, const Run &run) {
  const char *name = "vi_simsiam_loss";
  Tensor grad(stack[0]), kappa(stack[3]);
  Tensor pred = Tensor(stack[1]).with_dense_rows(), target = Tensor(stack[2]).with_dense_rows();
  double beta;
  std::memcpy(&beta, &stack[5], sizeof beta);
  const NeedsGrad needs(stack[6]);
  const bool want_target = needs.value, want_pred = needs.mu, want_kappa = needs.kappa;
  check_same_kind(name, pred, {&target});
  check_same_kind(name, kappa, {&grad});
  check_same_device(name, pred, kappa);
  std::vector<int64_t> shape;
  const auto rows = broadcast_rows<4>(name,
                                      {{"grad", grad, false},
                                       {"pred", pred, true},
                                       {"target", target, true},
                                       {"kappa", kappa, false}},
                                      shape);
  const std::vector<int64_t> vectors = with_event(shape, rows.d), none = {0};
  Tensor result = kappa.empty(shape), grad_kappa = kappa.empty(want_kappa ? shape : none);
  Tensor grad_target = pred.empty(want_target ? vectors : none);
  Tensor grad_pred = pred.empty(want_pred ? vectors : none);
  dispatch_any_float(name, pred, [&](auto zero) {
    using T = decltype(zero);
    using S = Accumulator<T>;
    if (kappa.dtype() != dtype_of<S>())
      fail("vi_simsiam_loss: grad and kappa must be float64 for float64 vectors, else float32");
    const VISimSiamLoss<T> args{rows,
                                grad.in<S>(),
                                pred.in<T>(),
                                target.in<T>(),
                                kappa.in<S>(),
                                static_cast<S>(beta),
                                make_dim<S>(rows.d),
                                pred.device_index(),
                                result.out<S>(),
                                want_target ? grad_target.out<T>() : nullptr,
                                want_pred ? grad_pred.out<T>() : nullptr,
                                want_kappa ? grad_kappa.out<S>() : nullptr};
    dispatch_family(name, static_cast<int64_t>(stack[4]), [&](auto family) { run(family, args); });
  });
  stack[0] = result.release();
  stack[1] = grad_pred.release();
  stack[2] = grad_target.release();
  stack[3] = grad_kappa.release();
}

} // namespace spherical
