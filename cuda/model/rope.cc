#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "error.h"

namespace spotlight {
namespace {

constexpr double kPi = 3.14159265358979323846;

// llama3: long waves slow down by `factor`, short ones stay, those between are blended.
double llama3_inverse(const RopeConfig& rope, double inverse) {
  const double wavelength = 2 * kPi / inverse;
  const double low = rope.original_max_position / static_cast<double>(rope.low_freq_factor);
  const double high = rope.original_max_position / static_cast<double>(rope.high_freq_factor);
  if (wavelength < high) return inverse;
  if (wavelength > low) return inverse / rope.factor;
  const double smooth = (rope.original_max_position / wavelength - rope.low_freq_factor) /
                        (static_cast<double>(rope.high_freq_factor) - rope.low_freq_factor);
  return (1 - smooth) * inverse / rope.factor + smooth * inverse;
}

// The dimension whose wave turns `rotations` times within the original context.
double yarn_dimension(const RopeConfig& rope, double rotations, int32_t head_dim) {
  return head_dim * std::log(rope.original_max_position / (rotations * 2 * kPi)) /
         (2 * std::log(double{rope.theta}));
}

}  // namespace

RopeFrequencies rope_frequencies(const RopeConfig& rope, int32_t head_dim) {
  const int32_t half = head_dim / 2;
  RopeFrequencies result;
  result.inverse.resize(half);
  for (int32_t i = 0; i < half; i++)
    result.inverse[i] = std::pow(double{rope.theta}, -2.0 * i / head_dim);
  if (!rope.freq_factors.empty()) {
    if (static_cast<int32_t>(rope.freq_factors.size()) != half) {
      throw Error(kModelUnsupported, "rope freq_factors has " +
                                         std::to_string(rope.freq_factors.size()) +
                                         " entries, head_dim / 2 is " + std::to_string(half));
    }
    for (int32_t i = 0; i < half; i++) result.inverse[i] /= rope.freq_factors[i];
    return result;
  }
  switch (rope.scaling) {
    case RopeScaling::kNone:
      break;
    case RopeScaling::kLinear:
      for (double& inverse : result.inverse) inverse /= rope.factor;
      break;
    case RopeScaling::kLlama3:
      for (double& inverse : result.inverse) inverse = llama3_inverse(rope, inverse);
      break;
    case RopeScaling::kYarn: {
      const double low = std::max(std::floor(yarn_dimension(rope, rope.beta_fast, head_dim)), 0.0);
      const double high =
          std::min(std::ceil(yarn_dimension(rope, rope.beta_slow, head_dim)), head_dim - 1.0);
      const double span = low == high ? 0.001 : high - low;
      for (int32_t i = 0; i < half; i++) {
        const double interpolate = std::clamp((i - low) / span, 0.0, 1.0);
        const double plain = result.inverse[i];
        result.inverse[i] = plain / rope.factor * interpolate + plain * (1 - interpolate);
      }
      result.magnitude =
          rope.attention_factor > 0
              ? rope.attention_factor
              : static_cast<float>(rope.factor <= 1 ? 1.0
                                                    : 0.1 * std::log(double{rope.factor}) + 1.0);
      break;
    }
  }
  return result;
}

void rope_table(const RopeFrequencies& frequencies, const int32_t* positions, int32_t tokens,
                float* table) {
  const auto half = static_cast<int32_t>(frequencies.inverse.size());
  for (int32_t t = 0; t < tokens; t++) {
    float* row = table + static_cast<size_t>(t) * 2 * half;
    for (int32_t i = 0; i < half; i++) {
      const double angle = positions[t] * frequencies.inverse[i];
      row[i] = static_cast<float>(std::cos(angle)) * frequencies.magnitude;
      row[half + i] = static_cast<float>(std::sin(angle)) * frequencies.magnitude;
    }
  }
}

void rope_rotate(float* x, int32_t heads, int32_t head_dim, const float* angles) {
  const int32_t half = head_dim / 2;
  const float* __restrict cosine = angles;
  const float* __restrict sine = angles + half;
  for (int32_t h = 0; h < heads; h++) {
    float* __restrict low = x + static_cast<size_t>(h) * head_dim;
    float* __restrict high = low + half;
    for (int32_t i = 0; i < half; i++) {
      const float a = low[i], b = high[i];
      low[i] = a * cosine[i] - b * sine[i];
      high[i] = b * cosine[i] + a * sine[i];
    }
  }
}

}  // namespace spotlight
