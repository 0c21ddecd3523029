// log_prob and its gradients: one pass over each row, then the scalars of the family.
#include "../families.h"
#include "../sphere.h"
#include "../tensor.h"
#include "simd.h"

namespace {
using namespace spherical;

// |x - mu|^2 and |x + mu|^2: sums of squares, whose condition number is 1 (numerics F2).
template <class T> HD_INLINE void chord_sums_of(const T *x, const T *mu, int64_t d, T (&sums)[2]) {
  row_sums<T, 2>(d, sums, [=](int64_t i, T(&out)[2]) __attribute__((always_inline)) {
    const T minus = x[i] - mu[i], plus = x[i] + mu[i];
    out[0] = minus * minus;
    out[1] = plus * plus;
  });
}
SIMD_CLONES void chord_sums(const float *x, const float *mu, int64_t d, float (&sums)[2]) {
  chord_sums_of(x, mu, d, sums);
}
SIMD_CLONES void chord_sums(const double *x, const double *mu, int64_t d, double (&sums)[2]) {
  chord_sums_of(x, mu, d, sums);
}

// out = step (b - a + twice_y a)
template <class T>
HD_INLINE void tangent_of(T step, T twice_y, const T *a, const T *b, int64_t d, T *out) {
  for (int64_t i = 0; i < d; ++i)
    out[i] = step * ((b[i] - a[i]) + twice_y * a[i]);
}
SIMD_CLONES void tangent(float step, float twice_y, const float *a, const float *b, int64_t d,
                         float *out) {
  tangent_of(step, twice_y, a, b, d, out);
}
SIMD_CLONES void tangent(double step, double twice_y, const double *a, const double *b, int64_t d,
                         double *out) {
  tangent_of(step, twice_y, a, b, d, out);
}

void log_prob(StableIValue *stack, uint64_t, uint64_t) {
  Tensor x = Tensor(stack[0]).with_dense_rows(), mu = Tensor(stack[1]).with_dense_rows();
  Tensor kappa(stack[2]);
  check_same_kind("log_prob", x, {&mu, &kappa});
  std::vector<int64_t> shape;
  const auto rows = broadcast_rows<3>(
      "log_prob", {{"value", x, true}, {"mu", mu, true}, {"kappa", kappa, false}}, shape);
  Tensor result = x.empty(shape);
  dispatch_float("log_prob", x, [&](auto zero) {
    using T = decltype(zero);
    const Dim<T> dim = make_dim<T>(rows.d);
    const T *px = x.in<T>(), *pmu = mu.in<T>(), *pkappa = kappa.in<T>();
    T *out = result.out<T>();
    dispatch_family("log_prob", static_cast<int64_t>(stack[3]), [&](auto family) {
      using Family = decltype(family);
      parallel_for(rows.n, row_grain(rows.d), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          T sums[2];
          chord_sums(px + rows.offset(0, i), pmu + rows.offset(1, i), rows.d, sums);
          out[i] = log_density<Family>(pkappa[rows.offset(2, i)], dim, sums[0], sums[1]);
        }
      });
    });
  });
  stack[0] = result.release();
}

void log_prob_backward(StableIValue *stack, uint64_t, uint64_t) {
  Tensor grad(stack[0]);
  Tensor x = Tensor(stack[1]).with_dense_rows(), mu = Tensor(stack[2]).with_dense_rows();
  Tensor kappa(stack[3]);
  const int64_t wanted = static_cast<int64_t>(stack[5]);
  const bool want_x = wanted & 1, want_mu = wanted & 2, want_kappa = wanted & 4;
  check_same_kind("log_prob_backward", x, {&grad, &mu, &kappa});
  std::vector<int64_t> shape;
  const auto rows = broadcast_rows<4>(
      "log_prob_backward",
      {{"grad", grad, false}, {"value", x, true}, {"mu", mu, true}, {"kappa", kappa, false}},
      shape);
  const std::vector<int64_t> vectors = with_event(shape, rows.d), none = {0};
  Tensor grad_x = x.empty(want_x ? vectors : none), grad_mu = x.empty(want_mu ? vectors : none);
  Tensor grad_kappa = x.empty(want_kappa ? shape : none);
  dispatch_float("log_prob_backward", x, [&](auto zero) {
    using T = decltype(zero);
    const Dim<T> dim = make_dim<T>(rows.d);
    const T *pgrad = grad.in<T>(), *px = x.in<T>(), *pmu = mu.in<T>(), *pkappa = kappa.in<T>();
    T *out_x = grad_x.out<T>(), *out_mu = grad_mu.out<T>(), *out_kappa = grad_kappa.out<T>();
    dispatch_family("log_prob_backward", static_cast<int64_t>(stack[4]), [&](auto family) {
      using Family = decltype(family);
      parallel_for(rows.n, row_grain(rows.d), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const T *row_x = px + rows.offset(1, i), *row_mu = pmu + rows.offset(2, i);
          T sums[2];
          chord_sums(row_x, row_mu, rows.d, sums);
          const auto g =
              density_gradient<Family>(pgrad[rows.offset(0, i)], pkappa[rows.offset(3, i)], dim,
                                       sums[0], sums[1], want_kappa);
          if (want_x)
            tangent(g.step, g.twice_y, row_x, row_mu, rows.d, out_x + i * rows.d);
          if (want_mu)
            tangent(g.step, g.twice_y, row_mu, row_x, rows.d, out_mu + i * rows.d);
          if (want_kappa)
            out_kappa[i] = g.kappa;
        }
      });
    });
  });
  stack[0] = grad_x.release();
  stack[1] = grad_mu.release();
  stack[2] = grad_kappa.release();
}

const int registered = [] {
  Implementations("CPU").op("log_prob", log_prob).op("log_prob_backward", log_prob_backward);
  return 0;
}();
} // namespace
