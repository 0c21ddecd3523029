// Compiler macros, and access to the bits of a number, for host and device. Torch-free.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

// HD marks a scalar function for host and device. HD_INLINE marks one that is so small or so hot
// (once per element) that the host compiler must inline it into the vectorised loop around it.
#ifdef __CUDACC__
#define HD __host__ __device__ inline
#define HD_INLINE __host__ __device__ __forceinline__
#else
#define HD inline
#define HD_INLINE inline __attribute__((always_inline))
#endif

// UNROLL unrolls a loop fully, so that small arrays indexed by its variable live in registers.
#ifdef __CUDACC__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

namespace spherical {

// A sum over quadrature nodes has this many accumulators: on the host enough to fill vectors.
#ifdef __CUDA_ARCH__
constexpr int kNodeAccumulators = 1;
#else
constexpr int kNodeAccumulators = 16;
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

} // namespace spherical
