// What every scalar header needs to compile for host and device alike. Torch-free.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

// HD: a scalar function for host and device. HD_INLINE: the same, and so small or so hot (once per
// element) that the host compiler must inline it into the vectorised loop around it.
#ifdef __CUDACC__
#define HD __host__ __device__ inline
#define HD_INLINE __host__ __device__ __forceinline__
#else
#define HD inline
#define HD_INLINE inline __attribute__((always_inline))
#endif

// Full unrolling, so that small arrays indexed by the loop variable live in registers.
#ifdef __CUDACC__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

namespace spherical {

// Terms of a sum over quadrature nodes that are added up apart: on the host enough for vectors.
#ifdef __CUDA_ARCH__
constexpr int kTermLanes = 1;
#else
constexpr int kTermLanes = 16;
#endif

constexpr long double kPi = 3.14159265358979323846264338327950288L;

template <class T> constexpr bool is_float32 = std::is_same<T, float>::value;

HD_INLINE float from_bits(uint32_t x) {
  float f;
  memcpy(&f, &x, sizeof f);
  return f;
}
HD_INLINE uint32_t to_bits(float f) {
  uint32_t x;
  memcpy(&x, &f, sizeof x);
  return x;
}
HD_INLINE double from_bits(uint64_t x) {
  double f;
  memcpy(&f, &x, sizeof f);
  return f;
}
HD_INLINE uint64_t to_bits(double f) {
  uint64_t x;
  memcpy(&x, &f, sizeof x);
  return x;
}

// The dimension d of the ambient space of S^{d-1}, with what follows from it. Made on the host in
// long double, so that no kernel evaluates lgamma(d/2), and so that its terms, which cancel near
// d = 20, leave a log_area that is right to the last digit of double.
template <class T> struct Dim {
  T d;
  T b;        // (d - 1) / 2
  T log_area; // log surface area of S^{d-1} = log(2 pi^{d/2} / Gamma(d/2))
};

template <class T> Dim<T> make_dim(int64_t d) {
  const long double half = 0.5L * static_cast<long double>(d);
  const long double log_area = std::log(2.0L) + half * std::log(kPi) - std::lgamma(half);
  return {static_cast<T>(d), static_cast<T>(half - 0.5L), static_cast<T>(log_area)};
}

template <class T> HD Dim<T> convert_dim(const Dim<double> &dim) {
  return {static_cast<T>(dim.d), static_cast<T>(dim.b), static_cast<T>(dim.log_area)};
}

// Position of x relative to mu, t = mu . x, as the two fractions that keep their relative accuracy
// at either pole (Kahan, "How futile are mindless assessments of roundoff", angle from chords):
//   sin2 = (1 - t) / 2 = |x - mu|^2 / S,  cos2 = (1 + t) / 2 = |x + mu|^2 / S,  S = |x - mu|^2 + |x
//   + mu|^2
template <class T> struct HalfAngle {
  T sin2;
  T cos2;
};

// A sample as the sampler of a family returns it: x = t mu + r g', where g' is the part of a
// standard normal vector g orthogonal to mu. The sampler is given s = |g'|^2 / 2 ~ Gamma(b) and p =
// g . mu, a standard normal independent of g'; t^2 + 2 s r^2 = 1.
template <class T> struct SampleCoefficients {
  T t;
  T r;
};

} // namespace spherical
