// IEEE binary16 in portable C++, bit for bit what F16C does (round to nearest, ties to even; NaN
// stays NaN, quietened). Internal linkage on purpose: see simd/portable.h.
#pragma once

#include <cstdint>
#include <cstring>

namespace spotlight {
namespace {

inline float half_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t exponent = (h >> 10) & 0x1fu, mantissa = h & 0x3ffu;
  uint32_t bits;
  float f;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24
    f = static_cast<float>(mantissa) * 5.9604644775390625e-8f;
    std::memcpy(&bits, &f, sizeof bits);
    bits |= sign;
  } else if (exponent == 31) {
    bits = sign | 0x7f800000u | (mantissa << 13) | (mantissa ? 0x400000u : 0u);
  } else {
    bits = sign | ((exponent + 112u) << 23) | (mantissa << 13);
  }
  std::memcpy(&f, &bits, sizeof f);
  return f;
}

inline uint16_t float_to_half(float f) {
  uint32_t bits;
  std::memcpy(&bits, &f, sizeof bits);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  bits &= 0x7fffffffu;
  uint32_t h;
  if (bits > 0x7f800000u) {
    h = 0x7e00u | ((bits >> 13) & 0x3ffu);
  } else if (bits >= 0x477ff000u) {  // 65520 and above round to infinity
    h = 0x7c00u;
  } else if (bits >= 0x38800000u) {  // normal
    h = (bits + 0xfffu + ((bits >> 13) & 1u)) >> 13;
    h -= 112u << 10;
  } else {  // subnormal: adding 0.5 shifts the mantissa into place and rounds
    float magnitude;
    std::memcpy(&magnitude, &bits, sizeof magnitude);
    magnitude += 0.5f;
    std::memcpy(&h, &magnitude, sizeof h);
    h -= 0x3f000000u;
  }
  return static_cast<uint16_t>(sign | h);
}

}  // namespace
}  // namespace spotlight
