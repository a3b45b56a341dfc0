#include "sampling/softmax/softmax.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace spotlight {
namespace {

constexpr int kLanes = 16;
constexpr int kRun = 1024;

// Cody-Waite reduction to [-ln2/2, ln2/2] and a degree-6 polynomial; straight-line code, so loops
// over it vectorise.
inline float exp_straight(float x) {
  const float clamped = x < -87.f ? -87.f : x;
  const float magic = 12582912.f;  // 1.5 * 2^23: adding it rounds to an integer
  const float shifted = clamped * 1.44269504f + magic;
  const float n = shifted - magic;
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.f;
  int32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  const auto scale_bits = static_cast<int32_t>((static_cast<uint32_t>(bits) + 127u) << 23);
  float scale;
  std::memcpy(&scale, &scale_bits, sizeof scale);
  return x < -87.f ? 0.f : p * scale;
}

}  // namespace

float exp_negative(float x) { return exp_straight(x); }

float max_of(const float* x, int32_t count) {
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, -std::numeric_limits<float>::infinity());
  int32_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; lane++)
      lanes[lane] = x[i + lane] > lanes[lane] ? x[i + lane] : lanes[lane];
  }
  for (; i < count; i++) lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
  return *std::max_element(lanes, lanes + kLanes);
}

void exp_weights(const float* __restrict x, int32_t count, float max, float* __restrict weights) {
  for (int32_t i = 0; i < count; i++) weights[i] = exp_straight(x[i] - max);
}

double sum_of(const float* weights, int32_t count) {
  double total = 0;
  for (int32_t run = 0; run < count; run += kRun) {
    const int32_t end = std::min(count, run + kRun);
    float lanes[kLanes] = {};
    int32_t i = run;
    for (; i + kLanes <= end; i += kLanes) {
      for (int lane = 0; lane < kLanes; lane++) lanes[lane] += weights[i + lane];
    }
    for (; i < end; i++) lanes[0] += weights[i];
    for (const float lane : lanes) total += lane;
  }
  return total;
}

double log_sum_exp(const float* x, int32_t count) {
  const float max = max_of(x, count);
  if (!std::isfinite(max)) return max;
  double total = 0;
  float weights[kRun];
  for (int32_t run = 0; run < count; run += kRun) {
    const int32_t size = std::min(kRun, count - run);
    exp_weights(x + run, size, max, weights);
    total += sum_of(weights, size);
  }
  return max + std::log(total);
}

}  // namespace spotlight
