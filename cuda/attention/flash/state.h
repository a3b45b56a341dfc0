// The running state of one query token's softmax for a group of heads, and how partial states
// become an output. Partials of a split context are merged in the order of their ranges, so the
// result does not depend on who finished first.
#pragma once

#include <cstddef>
#include <cstdint>

namespace spotlight {

// Floats of one state: max [group], sum [group], acc [group, dim].
constexpr size_t state_floats(int32_t group, int32_t dim) {
  return static_cast<size_t>(group) * (dim + 2);
}

struct SoftmaxState {
  float* max;
  float* sum;
  float* acc;
  SoftmaxState(float* memory, int32_t group)
      : max(memory), sum(memory + group), acc(memory + 2 * group) {}
};

void reset_state(float* state, int32_t group, int32_t dim);
// out[head * dim + j] of `count` states, `stride` floats apart. States that saw nothing are
// skipped; at least one saw something.
void merge_states(const float* states, size_t stride, int32_t count, int32_t group, int32_t dim,
                  float* out);

}  // namespace spotlight
