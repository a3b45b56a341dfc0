#include "sampling/cut/cut.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <set>

#include "sampling/softmax/softmax.h"
#include "test/check.h"

namespace spotlight {
namespace {

// Logits with many ties, as quantised models have.
std::vector<float> logits(int count, uint32_t seed, bool ties) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> x(count);
  for (float& value : x) value = ties ? std::round(normal(random) * 4) / 4 : normal(random);
  return x;
}

std::vector<int32_t> sorted(const std::vector<float>& x) {
  std::vector<int32_t> order(x.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return x[a] > x[b]; });
  return order;
}

std::set<int32_t> kept(const std::vector<float>& x, const Cut& cut) {
  std::set<int32_t> result;
  for (size_t i = 0; i < x.size(); i++)
    if (cut.keeps(x[i], static_cast<int32_t>(i))) result.insert(static_cast<int32_t>(i));
  return result;
}

TEST(top_tokens_equal_a_full_sort) {
  std::vector<int32_t> tokens;
  std::vector<float> scratch;
  for (uint32_t seed = 0; seed < 20; seed++) {
    for (int count : {1, 5, 64, 1000, 49152}) {
      const std::vector<float> x = logits(count, seed, seed % 2 == 0);
      std::vector<int32_t> order = sorted(x);
      for (int k : {1, 2, 20, 200}) {
        top_tokens(x.data(), count, k, tokens, scratch);
        CHECK_EQ(tokens.size(), static_cast<size_t>(std::min(k, count)));
        CHECK(std::equal(tokens.begin(), tokens.end(), order.begin()));
      }
      if (count == 49152 && seed > 1) break;
    }
  }
}

TEST(top_k_keeps_exactly_k_and_prefers_low_ids) {
  std::vector<int32_t> tokens;
  std::vector<float> scratch;
  const std::vector<float> x = {1, 3, 3, 3, 0};
  Cut cut;
  cut_top_k(x.data(), 5, 2, cut, tokens, scratch);
  CHECK((kept(x, cut) == std::set<int32_t>{1, 2}));
  Cut all;
  cut_top_k(x.data(), 5, 0, all, tokens, scratch);
  cut_top_k(x.data(), 5, 5, all, tokens, scratch);
  CHECK_EQ(kept(x, all).size(), size_t{5});
}

TEST(min_p_keeps_what_is_likely_enough) {
  const std::vector<float> x = {0, std::log(0.5f), std::log(0.2f), std::log(0.05f)};
  for (const auto& [min_p, count] :
       std::vector<std::pair<float, size_t>>{{0.f, 4}, {0.1f, 3}, {0.4f, 2}, {1.f, 1}}) {
    Cut cut;
    cut_min_p(0, min_p, cut);
    CHECK_EQ(kept(x, cut).size(), count);
  }
}

TEST(top_p_equals_the_sorted_cumulative_sum) {
  std::vector<int32_t> tokens;
  std::vector<float> scratch;
  for (uint32_t seed = 0; seed < 30; seed++) {
    const std::vector<float> x = logits(3000, seed, seed % 2 == 0);
    const std::vector<int32_t> order = sorted(x);
    const float max = max_of(x.data(), 3000);
    std::vector<float> weights(3000);
    exp_weights(x.data(), 3000, max, weights.data());
    for (const float p : {0.01f, 0.3f, 0.9f, 0.99f, 0.999f}) {
      for (const int k : {0, 50}) {
        const int limit = k == 0 ? 3000 : k;
        double total = 0, sum = 0;
        for (int i = 0; i < limit; i++) total += weights[order[i]];
        int count = 0;
        while (count < limit && (count == 0 || sum < p * total)) sum += weights[order[count++]];
        Cut cut;
        cut_top_k(x.data(), 3000, k, cut, tokens, scratch);
        cut_top_p(x.data(), weights.data(), 3000, max, p, cut, tokens);
        CHECK((kept(x, cut) == std::set<int32_t>(order.begin(), order.begin() + count)));
      }
    }
  }
}

TEST(top_p_zero_keeps_the_best_token_and_one_keeps_all) {
  std::vector<int32_t> tokens;
  const std::vector<float> x = {1, 2, 2, 0};
  std::vector<float> weights(4);
  exp_weights(x.data(), 4, 2, weights.data());
  Cut none, all;
  cut_top_p(x.data(), weights.data(), 4, 2, 0, none, tokens);
  CHECK((kept(x, none) == std::set<int32_t>{1}));
  cut_top_p(x.data(), weights.data(), 4, 2, 1, all, tokens);
  CHECK_EQ(kept(x, all).size(), size_t{4});
}

}  // namespace
}  // namespace spotlight
