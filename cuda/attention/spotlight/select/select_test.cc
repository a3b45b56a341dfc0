// Selection by counting against sorting.
#include "attention/spotlight/select/select.h"

#include <algorithm>
#include <climits>
#include <numeric>
#include <random>
#include <vector>

#include "attention/kernels.h"
#include "attention/policy.h"
#include "attention/test_world.h"
#include "test/check.h"

namespace spotlight {
namespace {

constexpr int32_t kBins = 897;

std::vector<int32_t> by_sorting(const std::vector<int16_t>& scores, const SelectionRule& rule) {
  std::vector<int32_t> order(rule.context);
  std::iota(order.begin(), order.end(), 0);
  const auto value = [&](int32_t t) {
    return t < rule.sink || t >= rule.context - rule.recent ? INT_MAX : scores[t];
  };
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return value(a) != value(b) ? value(a) > value(b) : a > b;
  });
  order.resize(rule.k);
  std::sort(order.begin(), order.end());
  return order;
}

// As split items do it: a histogram a range, ties to the newest range first.
std::vector<int32_t> by_counting(const std::vector<int16_t>& scores, const SelectionRule& rule,
                                 int32_t ranges) {
  const int32_t words = histogram_words(kBins);
  std::vector<uint32_t> histograms(static_cast<size_t>(ranges) * words);
  const auto edge = [&](int32_t r) { return rule.blocks() * r / ranges; };
  for (int32_t r = 0; r < ranges; r++) {
    for (int32_t b = edge(r); b < edge(r + 1); b++)
      count_scores(scores.data() + b * kBlockSize, block_mask(b, rule.from(), rule.to()),
                   histograms.data() + r * words);
    sum_strides(histograms.data() + r * words, kBins);
  }
  const Threshold threshold = find_threshold(histograms.data(), ranges, kBins, rule.wanted());
  std::vector<int32_t> positions;
  for (int32_t r = 0; r < ranges; r++) {
    const int32_t skip = ties_left_out(histograms.data(), ranges, kBins, r, threshold);
    std::vector<uint64_t> masks(edge(r + 1) - edge(r));
    select_blocks({rule, threshold, edge(r), edge(r + 1), scores.data() + edge(r) * kBlockSize,
                   skip, masks.data()});
    for (size_t b = 0; b < masks.size(); b++)
      for (int32_t i = 0; i < kBlockSize; i++)
        if (masks[b] >> i & 1)
          positions.push_back((edge(r) + static_cast<int32_t>(b)) * kBlockSize + i);
  }
  return positions;
}

TEST(counting_selects_what_sorting_selects) {
  std::mt19937 random(5);
  for (const std::string& isa : available_isas()) {
    select_isa(isa);
    for (int32_t round = 0; round < 600; round++) {
      LayerPolicy policy;
      policy.mode = LayerMode::kSparse;
      policy.fraction = round % 3 ? 0.02f : 0.3f;
      policy.sink = static_cast<int32_t>(random() % 6);
      policy.recent = static_cast<int32_t>(random() % 100);
      policy.min_tokens = 1 + static_cast<int32_t>(random() % 120);
      const int32_t context = policy.sink + policy.recent + 2 +
                              static_cast<int32_t>(random() % (round % 10 ? 500 : 9000));
      const SelectionRule rule = selection_rule(policy, context);
      if (rule.k >= context) continue;
      const int32_t levels = round % 4 == 0   ? 1
                             : round % 4 == 1 ? 3
                                              : kBins;  // all ties, many ties, few
      std::vector<int16_t> scores(static_cast<size_t>(rule.blocks()) * kBlockSize);
      for (int16_t& s : scores)
        s = static_cast<int16_t>(random() % levels + (levels == 1 ? kBins - 1 : 0));
      for (const int32_t ranges : {1, 2, 3, 7})
        CHECK(by_counting(scores, rule, ranges) == by_sorting(scores, rule));
    }
  }
  select_isa("auto");
}

TEST(forced_tokens_count_inside_the_budget_and_are_never_lost) {
  LayerPolicy policy;
  policy.min_tokens = 20;
  policy.sink = 4;
  policy.recent = 64;
  const SelectionRule rule = selection_rule(policy, 500);
  CHECK_EQ(rule.k, 68);  // more is always selected than the budget says
  CHECK_EQ(rule.wanted(), 0);
  std::vector<int16_t> scores(512, 5);
  const std::vector<int32_t> positions = by_counting(scores, rule, 3);
  CHECK_EQ(positions.size(), size_t{68});
  CHECK_EQ(positions[3], 3);
  CHECK_EQ(positions[4], 436);
}

TEST(masks_of_ranges) {
  CHECK_EQ(block_mask(0, 0, 64), ~uint64_t{0});
  CHECK_EQ(block_mask(1, 0, 64), uint64_t{0});
  CHECK_EQ(block_mask(1, 70, 72), uint64_t{0xc0});
  CHECK_EQ(block_mask(1, 0, 65), uint64_t{1});
  CHECK_EQ(block_mask(1, 127, 1000), uint64_t{1} << 63);
  CHECK_EQ(block_mask(1, 80, 70), uint64_t{0});
}

TEST(budgets_and_the_dense_limit) {
  LayerPolicy policy;
  policy.fraction = 0.02f;
  policy.min_tokens = 10;
  CHECK_EQ(budget(policy, 50), 10);
  CHECK_EQ(budget(policy, 5), 5);
  CHECK_EQ(budget(policy, 8150), 163);
  for (int32_t context = 500; context < 200000; context += 50)
    CHECK_EQ(budget(policy, context), context / 50);
  policy.crossover = 1000;
  CHECK_EQ(dense_until(policy), 999);
  policy.crossover = 0;
  CHECK_EQ(dense_until(policy), 68);  // sink and recent cover it
  policy.min_tokens = 256;
  CHECK_EQ(dense_until(policy), 256);
  policy.fraction = 1.0f;
  CHECK_EQ(dense_until(policy), INT_MAX);
}

}  // namespace
}  // namespace spotlight
