#include "sampling/softmax/softmax.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "sampling/exact.h"

namespace spotlight {
namespace {

constexpr int kLanes = 16;
constexpr int kRun = 1024;

}  // namespace

float exp_negative(float x) { return exact::exp_straight(x); }

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

bool has_nan(const float* x, int32_t count) {
  uint32_t any = 0;
  for (int32_t i = 0; i < count; i++) any |= x[i] != x[i];
  return any != 0;
}

void exp_weights(const float* __restrict x, int32_t count, float max, float* __restrict weights) {
  for (int32_t i = 0; i < count; i++) weights[i] = exact::exp_straight(x[i] - max);
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
