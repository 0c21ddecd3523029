// Conversion of bfloat16 and IEEE half precision, given as their bits. Without branches and without
// _Float16, which not every compiler has, so that loops over rows vectorise.
#pragma once
#include "portable.h"

namespace spherical {

// An element as a tensor stores it. Kernels compute in float or double.
struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

HD_INLINE float to_float(BFloat16 x) { return from_bits(static_cast<uint32_t>(x.bits) << 16); }

// A subnormal number is an integer times 2^-24. Putting that integer into the last digits of the
// mantissa of 2^-14, and subtracting 2^-14, gives its value.
HD_INLINE float to_float(Float16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16, size = x.bits & 0x7FFFu;
  const uint32_t shifted = size << 13; // the exponent is 112 too small
  const uint32_t normal = shifted + (size < 0x7C00u ? 0x38000000u : 0x70000000u);
  const uint32_t subnormal = to_bits(from_bits(shifted + 0x38800000u) - 0x1p-14f);
  return from_bits(sign | (size < 0x400u ? subnormal : normal));
}

// Both conversions round to the nearest, ties to even.
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

} // namespace spherical
