#include "train/adamw.h"

#include <cmath>

namespace spotlight::train {

AdamWStep adamw_step(const Recipe& recipe, int32_t update) {
  AdamWStep s;
  s.learning_rate = learning_rate(recipe, update);
  s.beta1 = recipe.beta1;
  s.beta2 = recipe.beta2;
  s.epsilon = recipe.epsilon;
  s.weight_decay = recipe.weight_decay;
  s.correction1 = static_cast<float>(1 - std::pow(double{recipe.beta1}, update + 1));
  s.correction2_root =
      static_cast<float>(std::sqrt(1 - std::pow(double{recipe.beta2}, update + 1)));
  return s;
}

void adamw(const AdamWStep& s, const float* __restrict gradient, int64_t count,
           float* __restrict weights, float* __restrict first, float* __restrict second) {
  const float decay = 1 - s.learning_rate * s.weight_decay;
  const float rate = s.learning_rate / s.correction1;
  for (int64_t i = 0; i < count; i++) {
    const float g = gradient[i];
    first[i] = s.beta1 * first[i] + (1 - s.beta1) * g;
    second[i] = s.beta2 * second[i] + (1 - s.beta2) * g * g;
    weights[i] = weights[i] * decay -
                 rate * first[i] / (std::sqrt(second[i]) / s.correction2_root + s.epsilon);
  }
}

}  // namespace spotlight::train
