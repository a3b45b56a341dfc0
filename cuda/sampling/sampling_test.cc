#include "sampling/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "sampling/philox/philox.h"
#include "test/check.h"

namespace spotlight {
namespace {

LogitsTask run(std::vector<float> x, const SamplingParams& params, int64_t position,
               const TokenCounts* counts = nullptr) {
  static SamplingScratch scratch;
  LogitsTask task;
  task.params = &params;
  task.counts = counts;
  task.position = position;
  run_logits_task(x.data(), static_cast<int32_t>(x.size()), task, scratch);
  return task;
}

TEST(greedy_takes_the_best_and_the_lowest_id_on_ties) {
  SamplingParams params;
  params.temperature = 0;
  CHECK_EQ(run({0, 3, 1, 3}, params, 0).token, 1);
  CHECK_EQ(run({-5}, params, 0).token, 0);
}

TEST(draws_follow_the_distribution) {
  const std::vector<float> p = {.5f, .25f, .15f, .07f, .03f};
  std::vector<float> x;
  for (const float value : p) x.push_back(std::log(value));
  constexpr int kDraws = 20000;
  for (const float temperature : {1.f, 0.5f}) {
    SamplingParams params;
    params.seed = 7;
    params.temperature = temperature;
    std::vector<double> expected;
    for (const float value : p) expected.push_back(std::pow(double{value}, 1 / temperature));
    const double total = std::accumulate(expected.begin(), expected.end(), 0.0);
    std::vector<int> counts(p.size());
    for (int position = 0; position < kDraws; position++) counts[run(x, params, position).token]++;
    double chi = 0;
    for (size_t i = 0; i < p.size(); i++) {
      const double e = expected[i] / total * kDraws;
      chi += (counts[i] - e) * (counts[i] - e) / e;
    }
    CHECK(chi < 18.5);  // 4 degrees of freedom, probability 0.999
  }
}

// The plain way: sort everything, filter, renormalise, walk the ids.
int32_t naive(std::vector<float> x, const SamplingParams& params, int64_t position) {
  const int n = static_cast<int>(x.size());
  for (float& value : x) value *= 1.f / params.temperature;
  std::vector<int> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return x[a] > x[b]; });
  const double max = x[order[0]];
  std::vector<double> weight(n);
  for (int i = 0; i < n; i++) weight[i] = std::exp(x[i] - max);
  std::vector<int> keep;
  for (const int i : order)
    if (params.min_p <= 0 || weight[i] >= params.min_p) keep.push_back(i);
  if (params.top_k > 0 && static_cast<int>(keep.size()) > params.top_k) keep.resize(params.top_k);
  double total = 0, sum = 0;
  for (const int i : keep) total += weight[i];
  size_t count = 0;
  while (count < keep.size() && (count == 0 || sum < params.top_p * total))
    sum += weight[keep[count++]];
  keep.resize(count);
  std::sort(keep.begin(), keep.end());
  total = 0;
  for (const int i : keep) total += weight[i];
  const double target = philox_uniform(params.seed, params.choice, position) * total;
  sum = 0;
  for (const int i : keep) {
    sum += weight[i];
    if (sum > target) return i;
  }
  return keep.back();
}

TEST(every_filter_combination_draws_what_the_plain_way_draws) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0, 3);
  int compared = 0;
  for (int round = 0; round < 40; round++) {
    std::vector<float> x(5000);
    for (float& value : x) value = round % 2 ? normal(random) : std::round(normal(random) * 2) / 2;
    for (const int top_k : {0, 1, 7, 300}) {
      for (const float top_p : {1.f, 0.9f, 0.2f}) {
        for (const float min_p : {0.f, 0.07f}) {
          SamplingParams params;
          params.seed = round;
          params.choice = top_k;
          params.temperature = 0.8f;
          params.top_k = top_k;
          params.top_p = top_p;
          params.min_p = min_p;
          CHECK_EQ(run(x, params, round * 100).token, naive(x, params, round * 100));
          compared++;
        }
      }
    }
  }
  CHECK_EQ(compared, 40 * 24);
}

TEST(the_draw_depends_on_seed_choice_and_position_only) {
  std::vector<float> x(1000, 0.f);
  SamplingParams params;
  params.seed = 99;
  const int32_t token = run(x, params, 5).token;
  CHECK_EQ(run(x, params, 5).token, token);
  CHECK(run(x, params, 6).token != token);
  SamplingParams other = params;
  other.choice = 1;
  CHECK(run(x, other, 5).token != token);
}

TEST(logprobs_are_of_the_raw_logits) {
  SamplingParams params;
  params.temperature = 0;
  params.logprobs = 2;
  params.logit_bias = {{2, 100.f}};
  const LogitsTask task = run({std::log(.5f), std::log(.3f), std::log(.2f)}, params, 0);
  CHECK_EQ(task.token, 2);
  CHECK_EQ(task.logprobs.token, 2);
  CHECK(std::fabs(task.logprobs.logprob - std::log(.2f)) < 1e-6);
  CHECK((task.logprobs.top_tokens == std::vector<int32_t>{0, 1}));
  CHECK_CLOSE(task.logprobs.top_logprobs, (std::vector<float>{std::log(.5f), std::log(.3f)}), 1e-6,
              0);
}

TEST(a_target_is_scored_without_a_draw) {
  SamplingScratch scratch;
  std::vector<float> x = {std::log(.5f), std::log(.3f), std::log(.2f)};
  LogitsTask task;
  task.target = 1;
  task.target_top = 1;
  run_logits_task(x.data(), 3, task, scratch);
  CHECK_EQ(task.token, -1);
  CHECK(std::fabs(task.target_logprobs.logprob - std::log(.3f)) < 1e-6);
  CHECK((task.target_logprobs.top_tokens == std::vector<int32_t>{0}));
}

TEST(rows_without_a_finite_logit_draw_nothing) {
  SamplingParams params;
  const float inf = std::numeric_limits<float>::infinity();
  CHECK(!run({-inf, -inf}, params, 0).finite);
  CHECK(!run({NAN, NAN}, params, 0).finite);
  CHECK(!run({1, NAN, 2}, params, 0).finite);
  params.temperature = 0;
  CHECK(!run({1, NAN, 2}, params, 0).finite);
  params.banned = {0, 1};
  params.banned_until = 9;
  CHECK(!run({1, 2}, params, 3).finite);
}

TEST(masked_tokens_are_never_drawn) {
  SamplingParams params;
  params.banned = {0, 2};
  params.banned_until = 1000;
  for (int position = 0; position < 300; position++) {
    const int32_t token = run({5, 0, 5, 1}, params, position).token;
    CHECK(token == 1 || token == 3);
  }
}

}  // namespace
}  // namespace spotlight
