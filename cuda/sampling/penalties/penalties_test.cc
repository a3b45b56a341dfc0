#include "sampling/penalties/penalties.h"

#include <cmath>

#include "test/check.h"

namespace spotlight {
namespace {

TEST(repetition_touches_prompt_and_drawn_once_each) {
  SamplingParams params;
  params.repetition_penalty = 2;
  TokenCounts counts;
  counts.prompt = {{0, 3}, {1, 1}};
  counts.drawn = {{1, 2}, {2, 1}};
  std::vector<float> x = {4, -4, 2, 1};
  apply_penalties(x.data(), params, &counts, 0);
  CHECK_CLOSE(x, (std::vector<float>{2, -8, 1, 1}), 0, 0);
}

TEST(frequency_counts_and_presence_does_not_and_neither_sees_the_prompt) {
  SamplingParams params;
  params.frequency_penalty = 0.5f;
  params.presence_penalty = 0.25f;
  TokenCounts counts;
  counts.prompt = {{0, 3}};
  counts.drawn = {{1, 3}, {2, 1}};
  std::vector<float> x = {1, 1, 1, 1};
  apply_penalties(x.data(), params, &counts, 0);
  CHECK_CLOSE(x, (std::vector<float>{1, 1 - 1.75f, 1 - .75f, 1}), 0, 0);
}

TEST(bias_comes_before_repetition) {
  SamplingParams params;
  params.repetition_penalty = 2;
  params.logit_bias = {{0, -3.f}};
  TokenCounts counts;
  counts.drawn = {{0, 1}};
  std::vector<float> x = {1};
  apply_penalties(x.data(), params, &counts, 0);
  CHECK_CLOSE(x, (std::vector<float>{-4}), 0, 0);
}

TEST(banned_until_its_position) {
  SamplingParams params;
  params.banned = {1};
  params.banned_until = 10;
  std::vector<float> x = {1, 1};
  apply_penalties(x.data(), params, nullptr, 10);
  CHECK_EQ(x[1], 1.f);
  apply_penalties(x.data(), params, nullptr, 9);
  CHECK(std::isinf(x[1]) && x[1] < 0);
}

}  // namespace
}  // namespace spotlight
