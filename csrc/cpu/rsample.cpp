// rsample and its gradients. A sample is x = t mu + r g', see Polar in math/portable.h: no division
// by a norm that can vanish, no reflection, no clamp (numerics F3).
#include "../rsample.h"
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
template <class T> HD_INLINE void combine_of(T a, const T *u, T b, const T *v, int64_t d, T *out) {
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

// What a row of the upstream gradient holds: d values, or, uniform, one.
template <bool uniform, class T>
HD_INLINE void backward_sums_of(const T *grad, const T *x, const T *mu, int64_t d,
                                T (&sums)[kSampleSums]) {
  row_sums<T, kSampleSums>(d, sums,
                           [=](int64_t i, T(&out)[kSampleSums]) __attribute__((always_inline)) {
                             sample_terms(grad[uniform ? 0 : i], x[i], mu[i], out);
                           });
}
template <bool uniform, class T>
HD_INLINE void gradient_of(const SampleGradient<T> &g, const T *grad, const T *x, int64_t d,
                           T *out) {
  for (int64_t i = 0; i < d; ++i)
    out[i] = g.element(grad[uniform ? 0 : i], x[i]);
}
#define FOR_EACH_GRAD(T)                                                                           \
  SIMD_CLONES void backward_sums(bool uniform, const T *grad, const T *x, const T *mu, int64_t d,  \
                                 T(&sums)[kSampleSums]) {                                          \
    uniform ? backward_sums_of<true>(grad, x, mu, d, sums)                                         \
            : backward_sums_of<false>(grad, x, mu, d, sums);                                       \
  }                                                                                                \
  SIMD_CLONES void gradient(bool uniform, const SampleGradient<T> &g, const T *grad, const T *x,   \
                            int64_t d, T *out) {                                                   \
    uniform ? gradient_of<true>(g, grad, x, d, out) : gradient_of<false>(g, grad, x, d, out);      \
  }
FOR_EACH_GRAD(float)
FOR_EACH_GRAD(double)
#undef FOR_EACH_GRAD

template <class Family, class T> void forward(const RSample<T> &args) {
  const int64_t d = args.in.rows.d;
  parallel_for(args.in.rows.n, row_grain(4 * d), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const RowStream stream = args.stream(i);
      const T *mu = args.mu(i);
      T *x = args.out + i * d;
      fill_normals(stream, d, x);
      T sums[2];
      dots(x, mu, d, sums);
      const T length = std::sqrt(sums[1]), p = sums[0] / length;
      T squared = remove_component(x, sums[0] / sums[1], mu, d);
      if (d < kReorthogonalised) {
        dots(x, mu, d, sums);
        squared = remove_component(x, sums[0] / sums[1], mu, d);
      }
      const Polar<T> polar =
          sample_polar<Family>(args.kappa(i), args.dim, p, T(0.5) * squared, stream);
      combine(polar.t / length, mu, polar.r, x, d, x);
    }
  });
}

template <class Family, class T> void backward(const RSampleBackward<T> &args) {
  const int64_t d = args.in.rows.d;
  parallel_for(args.in.rows.n, row_grain(d), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T *grad = args.grad(i), *x = args.sample(i);
      T sums[kSampleSums];
      backward_sums(args.uniform_grad, grad, x, args.mu(i), d, sums);
      const auto g =
          sample_gradient<Family>(args.kappa(i), args.dim, sums, args.grad_kappa != nullptr);
      if (args.grad_mu)
        gradient(args.uniform_grad, g, grad, x, d, args.grad_mu + i * d);
      if (args.grad_kappa)
        args.grad_kappa[i] = g.kappa;
    }
  });
}

void rsample_cpu(StableIValue *stack, uint64_t, uint64_t) {
  rsample(stack, [](auto family, const auto &args) { forward<decltype(family)>(args); });
}

void rsample_backward_cpu(StableIValue *stack, uint64_t, uint64_t) {
  rsample_backward(stack, [](auto family, const auto &args) { backward<decltype(family)>(args); });
}

const int registered = [] {
  Implementations("CPU").op("rsample", rsample_cpu).op("rsample_backward", rsample_backward_cpu);
  return 0;
}();
} // namespace
