#include "train/pair_loss.h"

#include <algorithm>
#include <cmath>

#include "sampling/exact.h"

namespace spotlight::train {
namespace {

constexpr int kLanes = 16;
constexpr int32_t kMostOthers = 1024;
constexpr float kNever = -1e30f;  // a score that no token lies behind

}  // namespace

PairSums pair_loss(const float* top, const float* weight, int32_t tops, const float* other,
                   int32_t others, float* d_top, float* d_other) {
  PairSums sums;
  alignas(64) float scores[kMostOthers], gradient[kMostOthers];
  const int32_t padded = (others + kLanes - 1) / kLanes * kLanes;
  std::copy_n(other, others, scores);
  std::fill(scores + others, scores + padded, kNever);
  std::fill_n(gradient, padded, 0.f);
  for (int32_t t = 0; t < tops; t++) {
    // softplus(x) = max(x, 0) + ln(1 + e^-|x|). The logarithms of a lane are one of a product,
    // which at most 64 factors below 2 cannot overflow.
    alignas(64) float linear[kLanes] = {}, product[kLanes], slope[kLanes] = {};
    std::fill_n(product, kLanes, 1.f);
    for (int32_t o = 0; o < padded; o += kLanes) {
      for (int lane = 0; lane < kLanes; lane++) {
        const float x = scores[o + lane] - top[t];
        const float e = exact::exp_straight(x < 0 ? x : -x);
        const float larger = 1 / (1 + e);
        const float sigmoid = x < 0 ? e * larger : larger;
        linear[lane] += x < 0 ? 0 : x;
        product[lane] *= 1 + e;
        slope[lane] += sigmoid;
        gradient[o + lane] += weight[t] * sigmoid;
      }
    }
    double loss = 0, slopes = 0;
    for (int lane = 0; lane < kLanes; lane += 8) {
      double factors = 1;
      for (int i = lane; i < lane + 8; i++) factors *= product[i];
      loss += std::log(factors);
    }
    for (int lane = 0; lane < kLanes; lane++) {
      loss += linear[lane];
      slopes += slope[lane];
    }
    sums.loss += weight[t] * loss;
    sums.weight += double{weight[t]} * others;
    d_top[t] = static_cast<float>(-weight[t] * slopes);
  }
  std::copy_n(gradient, others, d_other);
  return sums;
}

}  // namespace spotlight::train
