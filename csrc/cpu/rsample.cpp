// rsample and its gradients. A sample is x = t mu + r g', see Polar in math/portable.h: no division
// by a norm that can vanish, no reflection, no clamp (numerics F3).
#include "../families.h"
#include "../sphere.h"
#include "../tensor.h"
#include "simd.h"

namespace {
using namespace spherical;

// g[j] ~ N(0, 1), element j from word j mod 4 (float32) of block j / 4 of the row's stream.
template <class T> HD_INLINE void fill_normals_of(const RowStream &stream, int64_t d, T *g) {
  constexpr int width = kNormalsPerBlock<T>;
  int64_t j = 0;
  for (; j + width <= d; j += width)
    normals(stream.words(0, static_cast<uint32_t>(j / width)), g + j);
  if (j < d) {
    T last[width];
    normals(stream.words(0, static_cast<uint32_t>(j / width)), last);
    for (int k = 0; j < d; ++j, ++k)
      g[j] = last[k];
  }
}
SIMD_CLONES void fill_normals(const RowStream &stream, int64_t d, float *g) {
  fill_normals_of(stream, d, g);
}
void fill_normals(const RowStream &stream, int64_t d, double *g) { fill_normals_of(stream, d, g); }

// a . mu and |mu|^2
template <class T> HD_INLINE void dots_of(const T *a, const T *mu, int64_t d, T (&sums)[2]) {
  row_sums<T, 2>(d, sums, [=](int64_t i, T(&out)[2]) __attribute__((always_inline)) {
    out[0] = a[i] * mu[i];
    out[1] = mu[i] * mu[i];
  });
}
SIMD_CLONES void dots(const float *a, const float *mu, int64_t d, float (&sums)[2]) {
  dots_of(a, mu, d, sums);
}
SIMD_CLONES void dots(const double *a, const double *mu, int64_t d, double (&sums)[2]) {
  dots_of(a, mu, d, sums);
}

// g <- g - c mu; returns |g|^2
template <class T> HD_INLINE T remove_component_of(T *g, T c, const T *mu, int64_t d) {
  T sums[1];
  row_sums<T, 1>(d, sums, [=](int64_t i, T(&out)[1]) __attribute__((always_inline)) {
    g[i] -= c * mu[i];
    out[0] = g[i] * g[i];
  });
  return sums[0];
}
SIMD_CLONES float remove_component(float *g, float c, const float *mu, int64_t d) {
  return remove_component_of(g, c, mu, d);
}
SIMD_CLONES double remove_component(double *g, double c, const double *mu, int64_t d) {
  return remove_component_of(g, c, mu, d);
}

// out = a u + b v; out may be u or v
template <class T>
HD_INLINE void combine_of(T a, const T *u, T b, const T *v, int64_t d, T *out) {
  for (int64_t i = 0; i < d; ++i)
    out[i] = a * u[i] + b * v[i];
}
SIMD_CLONES void combine(float a, const float *u, float b, const float *v, int64_t d, float *out) {
  combine_of(a, u, b, v, d, out);
}
SIMD_CLONES void combine(double a, const double *u, double b, const double *v, int64_t d,
                         double *out) {
  combine_of(a, u, b, v, d, out);
}

template <class T>
HD_INLINE void backward_sums_of(const T *x, const T *mu, const T *grad, int64_t d,
                                T (&sums)[kSampleSums]) {
  row_sums<T, kSampleSums>(d, sums, [=](int64_t i, T(&out)[kSampleSums])
                                        __attribute__((always_inline)) {
    const T minus = mu[i] - x[i], plus = mu[i] + x[i];
    out[kMinus] = minus * minus;
    out[kPlus] = plus * plus;
    out[kMuMu] = mu[i] * mu[i];
    out[kGradMu] = grad[i] * mu[i];
    out[kGradMuMinusX] = grad[i] * minus;
    out[kGradX] = grad[i] * x[i];
  });
}
SIMD_CLONES void backward_sums(const float *x, const float *mu, const float *grad, int64_t d,
                               float (&sums)[kSampleSums]) {
  backward_sums_of(x, mu, grad, d, sums);
}
SIMD_CLONES void backward_sums(const double *x, const double *mu, const double *grad, int64_t d,
                               double (&sums)[kSampleSums]) {
  backward_sums_of(x, mu, grad, d, sums);
}

// Below this dimension |g'| can be so small that the rounding of g - (g . m) m is not small beside it:
// a second pass makes g' orthogonal to rounding of its own.
constexpr int64_t kReorthogonalised = 16;

void rsample(StableIValue *stack, uint64_t, uint64_t) {
  Tensor mu = Tensor(stack[0]).with_dense_rows(), kappa(stack[1]), state(stack[2]);
  check_same_kind("rsample", mu, {&kappa});
  if (state.dtype() != aoti_torch_dtype_int64() || state.dim() != 1 || state.size(0) != 2)
    fail("rsample: rng_state must be int64 of shape (2,): seed and offset");
  std::vector<int64_t> shape;
  const auto rows =
      broadcast_rows<2>("rsample", {{"mu", mu, true}, {"kappa", kappa, false}}, shape);
  Tensor result = mu.empty(with_event(shape, rows.d));
  const int64_t *pstate = state.in<int64_t>();
  const uint64_t seed = static_cast<uint64_t>(pstate[0]);
  const uint64_t offset = static_cast<uint64_t>(pstate[state.stride(0)]);
  dispatch_float("rsample", mu, [&](auto zero) {
    using T = decltype(zero);
    const Dim<T> dim = make_dim<T>(rows.d);
    const T *pmu = mu.in<T>(), *pkappa = kappa.in<T>();
    T *out = result.out<T>();
    dispatch_family("rsample", static_cast<int64_t>(stack[3]), [&](auto family) {
      using Family = decltype(family);
      parallel_for(rows.n, row_grain(4 * rows.d), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const RowStream stream{seed, offset + static_cast<uint64_t>(i)};
          const T *row_mu = pmu + rows.offset(0, i);
          T *x = out + i * rows.d;
          fill_normals(stream, rows.d, x);
          T sums[2];
          dots(x, row_mu, rows.d, sums);
          const T length = std::sqrt(sums[1]), p = sums[0] / length;
          T squared = remove_component(x, sums[0] / sums[1], row_mu, rows.d);
          if (rows.d < kReorthogonalised) {
            dots(x, row_mu, rows.d, sums);
            squared = remove_component(x, sums[0] / sums[1], row_mu, rows.d);
          }
          const Polar<T> polar = sample_polar<Family>(pkappa[rows.offset(1, i)], dim, p,
                                                      T(0.5) * squared, stream);
          combine(polar.t / length, row_mu, polar.r, x, rows.d, x);
        }
      });
    });
  });
  stack[0] = result.release();
}

// The rotation-field gradient (numerics F4): dx = t dmu - mu (x . dmu) + pathwise (mu - t x) dkappa.
void rsample_backward(StableIValue *stack, uint64_t, uint64_t) {
  Tensor grad = Tensor(stack[0]).with_dense_rows(), x = Tensor(stack[1]).with_dense_rows();
  Tensor mu = Tensor(stack[2]).with_dense_rows(), kappa(stack[3]);
  const int64_t wanted = static_cast<int64_t>(stack[5]);
  const bool want_mu = wanted & 2, want_kappa = wanted & 4;
  check_same_kind("rsample_backward", x, {&grad, &mu, &kappa});
  std::vector<int64_t> shape;
  const auto rows = broadcast_rows<4>(
      "rsample_backward",
      {{"grad", grad, true}, {"sample", x, true}, {"mu", mu, true}, {"kappa", kappa, false}},
      shape);
  const std::vector<int64_t> vectors = with_event(shape, rows.d), none = {0};
  Tensor grad_mu = x.empty(want_mu ? vectors : none);
  Tensor grad_kappa = x.empty(want_kappa ? shape : none);
  dispatch_float("rsample_backward", x, [&](auto zero) {
    using T = decltype(zero);
    const Dim<T> dim = make_dim<T>(rows.d);
    const T *pgrad = grad.in<T>(), *px = x.in<T>(), *pmu = mu.in<T>(), *pkappa = kappa.in<T>();
    T *out_mu = grad_mu.out<T>(), *out_kappa = grad_kappa.out<T>();
    dispatch_family("rsample_backward", static_cast<int64_t>(stack[4]), [&](auto family) {
      using Family = decltype(family);
      parallel_for(rows.n, row_grain(rows.d), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const T *g = pgrad + rows.offset(0, i), *row_x = px + rows.offset(1, i);
          T sums[kSampleSums];
          backward_sums(row_x, pmu + rows.offset(2, i), g, rows.d, sums);
          const auto c = sample_gradient<Family>(pkappa[rows.offset(3, i)], dim, sums, want_kappa);
          if (want_mu)
            combine(c.along_grad, g, c.along_x, row_x, rows.d, out_mu + i * rows.d);
          if (want_kappa)
            out_kappa[i] = c.kappa;
        }
      });
    });
  });
  stack[0] = grad_mu.release();
  stack[1] = grad_kappa.release();
}

const int registered = [] {
  Implementations("CPU").op("rsample", rsample).op("rsample_backward", rsample_backward);
  return 0;
}();
} // namespace
