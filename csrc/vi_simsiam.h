// The VI-SimSiam loss of pairs of vectors that are not normalised (Nakamura et al. 2023, eq. 33),
//   loss = -log p(x/|x|; mu/|mu|, kappa) - log_area,
// the negative log-density relative to the uniform, with its gradients: the scalars of a row, and
// the arguments of the op unpacked for the kernels of every device.
#pragma once
#include "dispatch.h"
#include "operands.h"
#include "sphere.h"
#include <limits>
#include <optional>

namespace spherical {

// A shorter vector has no direction: its cosine counts as 0, and its gradient is 0, unless the
// other vector is NaN.
constexpr double kShortest = 1e-12; // as in torch's normalize

// A half angle whose sin2 or cos2 is below this has lost 6 bits to the dot product, and its
// gradients 3 bits.
constexpr double kNearPole = 1.0 / 64;

// The angle between x and mu from the sums of their products. sin2 and cos2 have an absolute error
// of one rounding. Where one of them is below kNearPole, chords of x and length_ratio mu give it a
// relative error of that size.
template <class T> HD Cosine<T> cosine_of_products(const T (&sums)[kAngleProducts]) {
  const T shortest = T(kShortest * kShortest), xx = sums[kXX], mu_mu = sums[kMuMu];
  const bool none = mu_mu < shortest || xx < shortest;
  const T x_mu = none ? T(0) * sums[kXMu] : sums[kXMu]; // NaN stays NaN
  const T inverse = none ? x_mu : T(1) / (std::sqrt(xx) * std::sqrt(mu_mu)), t = x_mu * inverse;
  return {{T(0.5) * (T(1) - t), T(0.5) * (T(1) + t)},
          {none ? T(0) : x_mu / mu_mu, T(0)},
          {none ? T(0) : x_mu / xx, T(0)},
          inverse};
}

template <class T> HD_INLINE bool is_within(HalfAngle<T> c, T limit) {
  return c.sin2 < limit || c.cos2 < limit;
}

template <class T> HD_INLINE T length_ratio(const T (&sums)[kAngleProducts]) {
  return std::sqrt(sums[kXX]) / std::sqrt(sums[kMuMu]);
}

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
  bool has_grad;  // else the upstream gradient of each row is 1
  T scale;        // what multiplies those of all rows
  T *sum;         // of upstream * loss over the rows; null where the loss of each row is wanted
  const T *start; // what the sum begins with; null for 0

  HD_INLINE T upstream(int64_t offset) const {
    return has_grad ? scale * operands.scalar(kGrad, offset) : scale;
  }
  bool is_aligned(int64_t width) const {
    return operands.is_aligned(kPred, width) && operands.is_aligned(kTarget, width);
  }
};

// Calls run(family, VISimSiamLoss<T>), which writes the loss and the gradients that are needed,
// each in the dtype of its operand. T is the dtype of kappa. Where the losses are summed, the array
// for those of the rows is scratch space of the kernel, and has one element at least.
template <class Run> void unpack_vi_simsiam_loss(StableIValue *stack, const Run &run) {
  constexpr const char *op = "vi_simsiam_loss";
  std::optional<Tensor> given = unpack_optional_tensor(stack, 0), start;
  Tensor pred(stack[1]), target(stack[2]), kappa(stack[3]);
  const double beta = unpack_float(stack, 5);
  const NeedsGrad needs(stack[6]);
  const std::optional<double> scale = unpack_optional_float(stack, 7);
  start = unpack_optional_tensor(stack, 8);
  Tensor &grad = given ? *given : kappa;
  check_same_device(op, kappa, {&grad, &pred, &target});
  pred.make_rows_dense();
  target.make_rows_dense();
  const Input inputs[] = {{"grad", grad, false},
                          {"pred", pred, true},
                          {"target", target, true},
                          {"kappa", kappa, false}};
  check_same_dtype(op, inputs[3], inputs[0]);
  if (start) {
    check_same_device(op, kappa, {&*start});
    if (!scale || start->dim() != 0 || start->dtype() != kappa.dtype())
      fail("vi_simsiam_loss: start must be a scalar of the dtype of kappa, beside a scale");
  }
  const Batch batch = broadcast(op, inputs);
  Tensor loss = kappa.empty(scale && batch.n == 0 ? std::vector<int64_t>{1} : batch.shape);
  std::optional<Tensor> sum;
  if (scale)
    sum = kappa.empty(std::vector<int64_t>{});
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
    const VISimSiamLoss<T> args{row_operands<T>(op, rows, inputs, results),
                                static_cast<T>(beta),
                                make_dim<T>(batch.d),
                                kappa.device_index(),
                                given.has_value(),
                                static_cast<T>(scale.value_or(1)),
                                sum ? sum->template out<T>() : nullptr,
                                start ? start->template in<T>() : nullptr};
    dispatch_family(op, static_cast<int64_t>(stack[4]), [&](auto family) { run(family, args); });
  });
  stack[0] = sum ? sum->release() : loss.release();
  stack[1] = grad_pred.release();
  stack[2] = grad_target.release();
  stack[3] = grad_kappa.release();
}

} // namespace spherical
