// The arithmetic of a draw, step by step, as both the CPU and a GPU do it: compiled for both, no
// operation fused with another, so that the same logits give the same bits and thereby the same
// token on either.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define SPOTLIGHT_BOTH __host__ __device__ inline
#else
#define SPOTLIGHT_BOTH inline
#endif

namespace spotlight::exact {

#ifdef __CUDA_ARCH__
SPOTLIGHT_BOTH float add(float a, float b) { return __fadd_rn(a, b); }
SPOTLIGHT_BOTH float mul(float a, float b) { return __fmul_rn(a, b); }
SPOTLIGHT_BOTH float div(float a, float b) { return __fdiv_rn(a, b); }
SPOTLIGHT_BOTH double add(double a, double b) { return __dadd_rn(a, b); }
SPOTLIGHT_BOTH double mul(double a, double b) { return __dmul_rn(a, b); }
#else
SPOTLIGHT_BOTH float add(float a, float b) { return a + b; }
SPOTLIGHT_BOTH float mul(float a, float b) { return a * b; }
SPOTLIGHT_BOTH float div(float a, float b) { return a / b; }
SPOTLIGHT_BOTH double add(double a, double b) { return a + b; }
SPOTLIGHT_BOTH double mul(double a, double b) { return a * b; }
#endif

SPOTLIGHT_BOTH uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
SPOTLIGHT_BOTH float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

// exp(x) for x <= 0 within 2 units in the last place; below -87 it is 0. Cody-Waite reduction to
// [-ln2/2, ln2/2] and a degree-6 polynomial; straight-line code, so loops over it vectorise.
SPOTLIGHT_BOTH float exp_straight(float x) {
  const float clamped = x < -87.f ? -87.f : x;
  const float magic = 12582912.f;  // 1.5 * 2^23: adding it rounds to an integer
  const float shifted = add(mul(clamped, 1.44269504f), magic);
  const float n = add(shifted, -magic);
  const float r = add(add(clamped, -mul(n, 0.693359375f)), mul(n, 2.12194440e-4f));
  float p = 1.9875691500e-4f;
  p = add(mul(p, r), 1.3981999507e-3f);
  p = add(mul(p, r), 8.3334519073e-3f);
  p = add(mul(p, r), 4.1665795894e-2f);
  p = add(mul(p, r), 1.6666665459e-1f);
  p = add(mul(p, r), 5.0000001201e-1f);
  p = add(add(mul(mul(p, r), r), r), 1.f);
  const float scale = float_of((bits_of(shifted) + 127u) << 23);
  return x < -87.f ? 0.f : mul(p, scale);
}

// Penalties on one logit, for a token seen in prompt or output (repeated) and drawn so many times.
SPOTLIGHT_BOTH float repeat(float x, float repetition) {
  return x > 0 ? div(x, repetition) : mul(x, repetition);
}
SPOTLIGHT_BOTH float count_drawn(float x, float frequency, float presence, int32_t drawn) {
  return add(x, -add(mul(frequency, static_cast<float>(drawn)), presence));
}

// A weight as an integer, for sums that come out alike in any order: at most 2^44, so that a
// vocabulary of 2^19 fits 64 bits. What is below 2^-44 of the greatest weighs nothing.
SPOTLIGHT_BOTH uint64_t mass_of(float weight) {
  // By way of a signed number, which every CPU converts in one instruction.
  return static_cast<uint64_t>(static_cast<int64_t>(mul(weight, 17592186044416.f)));
}
// Whether a prefix of this mass reaches the share top_p of the total.
SPOTLIGHT_BOTH bool reaches(uint64_t mass, float top_p, uint64_t total) {
  return static_cast<double>(mass) >= mul(static_cast<double>(top_p), static_cast<double>(total));
}

}  // namespace spotlight::exact
