// The ranking loss (Bradley-Terry): softplus of how far each token to be found scores behind each
// other token, with its gradient by every score. Loss and gradient come as sums; the layer divides
// both by the sum of all its weights.
#pragma once

#include <cstdint>

namespace spotlight::train {

struct PairSums {
  double loss = 0, weight = 0;
};

// top [tops], weight [tops], other [others] scores; d_top and d_other are overwritten. others <=
// 1024.
PairSums pair_loss(const float* top, const float* weight, int32_t tops, const float* other,
                   int32_t others, float* d_top, float* d_other);

}  // namespace spotlight::train
