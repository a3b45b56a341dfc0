// AdamW as PyTorch computes it, one run of parameters at a time.
#pragma once

#include <cstdint>

#include "train/recipe.h"

namespace spotlight::train {

struct AdamWStep {
  float learning_rate = 0, beta1 = 0, beta2 = 0, epsilon = 0, weight_decay = 0;
  float correction1 = 1, correction2_root = 1;  // 1 - beta1^t, sqrt(1 - beta2^t)
};

// The constants of update number `update` (0 is the first).
AdamWStep adamw_step(const Recipe& recipe, int32_t update);

void adamw(const AdamWStep& step, const float* gradient, int64_t count, float* weights,
           float* first, float* second);

}  // namespace spotlight::train
