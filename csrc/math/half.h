// bfloat16 and float16 as torch stores them: converted to float when read, rounded to nearest even
// when written. In integers, so that loops over them vectorise for every instruction set.
#pragma once
#include "portable.h"
#ifdef __CUDACC__
#include <cuda_fp16.h>
#endif

namespace spherical {

template <class To, class From> HD_INLINE To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From), "the same bits");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

// The upper half of a float.
struct BFloat16 {
  uint16_t bits;

  BFloat16() = default;
  HD_INLINE explicit BFloat16(float x) {
    const uint32_t u = bits_as<uint32_t>(x);
    const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    bits = static_cast<uint16_t>((u & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
  }
  HD_INLINE operator float() const { return bits_as<float>(static_cast<uint32_t>(bits) << 16); }
};

// 1 sign, 5 exponent and 10 fraction bits.
struct Float16 {
  uint16_t bits;

  Float16() = default;
  HD_INLINE explicit Float16(float x) {
#ifdef __CUDA_ARCH__
    bits = __half_as_ushort(__float2half_rn(x));
#else
    const uint32_t u = bits_as<uint32_t>(x), a = u & 0x7fffffffu;
    // 2^-24, the spacing of subnormals, is that of floats near 1/2
    const uint32_t subnormal = bits_as<uint32_t>(bits_as<float>(a) + 0.5f) - 0x3f000000u;
    const uint32_t normal = (a + 0xfffu + ((a >> 13) & 1u) - (112u << 23)) >> 13;
    const uint32_t overflow = a > 0x7f800000u ? 0x7e00u : 0x7c00u;
    const uint32_t finite = a < 0x38800000u ? subnormal : normal; // below 2^-14
    bits = static_cast<uint16_t>((u >> 16 & 0x8000u) | (a >= 0x47800000u ? overflow : finite));
#endif
  }
  HD_INLINE operator float() const {
#ifdef __CUDA_ARCH__
    return __half2float(__ushort_as_half(bits));
#else
    const uint32_t u = bits, exponent = u & 0x7c00u, magnitude = u & 0x7fffu;
    const uint32_t normal = (magnitude << 13) + (exponent == 0x7c00u ? 224u << 23 : 112u << 23);
    // below 2^-14: an integer times 2^-24
    const float subnormal = static_cast<float>(static_cast<int32_t>(magnitude)) * 0x1p-24f;
    const uint32_t value = exponent == 0 ? bits_as<uint32_t>(subnormal) : normal;
    return bits_as<float>(value | (u & 0x8000u) << 16);
#endif
  }
};

// What sums over elements of type T, and scalars beside them, are made of.
template <class T> using Accumulator = std::conditional_t<sizeof(T) == 2, float, T>;

} // namespace spherical
