// Conversion of bfloat16 and IEEE half precision, given as their bits. Without branches and without
// _Float16, which not every compiler has, so that loops over rows vectorise.
#pragma once
#include "portable.h"

namespace spherical {

// Elements that a tensor stores; kernels compute in float or double.
struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

HD_INLINE float to_float(BFloat16 x) { return from_bits(static_cast<uint32_t>(x.bits) << 16); }

// A subnormal number is its integer times 2^-24: what 2^-14 gains when that integer is put into the
// last digits of its mantissa.
HD_INLINE float to_float(Float16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16, size = x.bits & 0x7FFFu;
  const uint32_t shifted = size << 13; // the exponent is 112 too small
  const uint32_t normal = shifted + (size < 0x7C00u ? 0x38000000u : 0x70000000u);
  const uint32_t subnormal = to_bits(from_bits(shifted + 0x38800000u) - 0x1p-14f);
  return from_bits(sign | (size < 0x400u ? subnormal : normal));
}

// Both round to the nearest, ties to even.
HD_INLINE void convert(float from, BFloat16 &to) {
  const uint32_t x = to_bits(from), rounded = (x + 0x7FFFu + ((x >> 16) & 1u)) >> 16;
  to.bits = static_cast<uint16_t>(from == from ? rounded : 0x7FC0u);
}

// Adding 1/2 to a number below 2^-14 rounds it to a multiple of 2^-24 in the last digits.
HD_INLINE void convert(float from, Float16 &to) {
  const uint32_t x = to_bits(from), sign = (x >> 16) & 0x8000u, size = x & 0x7FFFFFFFu;
  const uint32_t subnormal = to_bits(from_bits(size) + 0.5f) - 0x3F000000u;
  const uint32_t normal = (size - 0x38000000u + 0xFFFu + ((size >> 13) & 1u)) >> 13;
  const uint32_t special = from == from ? 0x7C00u : 0x7E00u;
  const uint32_t rounded = size < 0x38800000u ? subnormal : size < 0x47800000u ? normal : special;
  to.bits = static_cast<uint16_t>(sign | rounded);
}

// What sums over elements of type T, and scalars beside them, are made of.
template <class T> using Accumulator = std::conditional_t<sizeof(T) == 2, float, T>;

template <class T> HD_INLINE Accumulator<T> widened(T x) {
  if constexpr (sizeof(T) == 2)
    return to_float(x);
  else
    return x;
}
template <class T> HD_INLINE T narrowed(Accumulator<T> x) {
  if constexpr (sizeof(T) == 2) {
    T result;
    convert(x, result);
    return result;
  } else {
    return x;
  }
}

} // namespace spherical
