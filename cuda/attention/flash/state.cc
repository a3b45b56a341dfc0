#include "attention/flash/state.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace spotlight {

void reset_state(float* state, int32_t group, int32_t dim) {
  std::fill_n(state, group, -std::numeric_limits<float>::infinity());
  std::fill_n(state + group, static_cast<size_t>(group) * (dim + 1), 0.0f);
}

void merge_states(const float* states, size_t stride, int32_t count, int32_t group, int32_t dim,
                  float* out) {
  for (int32_t h = 0; h < group; h++) {
    float top = -std::numeric_limits<float>::infinity();
    for (int32_t i = 0; i < count; i++) top = std::max(top, states[i * stride + h]);
    float* to = out + static_cast<size_t>(h) * dim;
    float total = 0.0f;
    bool first = true;
    for (int32_t i = 0; i < count; i++) {
      const float* state = states + i * stride;
      if (state[group + h] == 0.0f) continue;
      const float weight = std::exp2(state[h] - top);
      total += weight * state[group + h];
      const float* acc = state + 2 * group + static_cast<size_t>(h) * dim;
      for (int32_t j = 0; j < dim; j++) to[j] = first ? weight * acc[j] : to[j] + weight * acc[j];
      first = false;
    }
    const float inverse = 1.0f / total;
    for (int32_t j = 0; j < dim; j++) to[j] *= inverse;
  }
}

}  // namespace spotlight
