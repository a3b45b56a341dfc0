#include "attention/spotlight/select/select.h"

#include <algorithm>

#include "attention/kernels.h"

namespace spotlight {

SelectionRule selection_rule(const LayerPolicy& policy, int32_t context) {
  SelectionRule rule;
  rule.context = context;
  rule.sink = std::clamp(policy.sink, 0, context);
  rule.recent = std::clamp(policy.recent, 0, context - rule.sink);
  rule.k = std::max(budget(policy, context), rule.sink + rule.recent);
  return rule;
}

uint64_t block_mask(int32_t block, int32_t from, int32_t to) {
  const int32_t start = block * kBlockSize;
  const int32_t low = std::clamp(from - start, 0, kBlockSize);
  const int32_t high = std::clamp(to - start, 0, kBlockSize);
  if (low >= high) return 0;
  return (~uint64_t{0} >> (kBlockSize - (high - low))) << low;
}

void count_scores(const int16_t* scores, uint64_t mask, uint32_t* histogram) {
  if (mask == ~uint64_t{0}) {
    for (int i = 0; i < kBlockSize; i++) histogram[scores[i]]++;
    return;
  }
  for (; mask; mask &= mask - 1) histogram[scores[__builtin_ctzll(mask)]]++;
}

Threshold find_threshold(const uint32_t* histograms, int32_t parts, int32_t bins, int32_t wanted) {
  constexpr int32_t kStride = 32;
  const auto count = [&](int32_t from, int32_t to) {
    uint32_t sum = 0;
    for (int32_t p = 0; p < parts; p++) {
      const uint32_t* histogram = histograms + static_cast<int64_t>(p) * bins;
      for (int32_t bin = from; bin < to; bin++) sum += histogram[bin];
    }
    return static_cast<int32_t>(sum);
  };
  Threshold found{bins, 0};
  int32_t left = wanted;
  // By strides from the top, then by single bins within the one that has enough.
  while (left > 0 && found.score >= kStride) {
    const int32_t here = count(found.score - kStride, found.score);
    if (here >= left) break;
    found.score -= kStride;
    left -= here;
  }
  while (left > 0) {
    found.score--;
    const int32_t here = count(found.score, found.score + 1);
    found.ties = std::min(here, left);
    left -= here;
  }
  return found;
}

void select_blocks(const SelectOp& op) {
  const SelectionRule& rule = op.rule;
  const Kernels& kernel = kernels();
  int32_t skip = op.skip_ties;
  for (int32_t block = op.first_block; block < op.last_block; block++) {
    const int32_t at = block - op.first_block;
    const uint64_t candidates = block_mask(block, rule.from(), rule.to());
    uint64_t selected = block_mask(block, 0, rule.sink) |
                        block_mask(block, rule.context - rule.recent, rule.context);
    if (candidates) {
      uint64_t above, equal;
      kernel.compare_block({op.scores + static_cast<int64_t>(at) * kBlockSize,
                            static_cast<int16_t>(op.threshold.score), &above, &equal});
      equal &= candidates;
      for (; skip > 0 && equal; skip--) equal &= equal - 1;
      selected |= (above & candidates) | equal;
    }
    op.selected[at] = selected;
  }
}

}  // namespace spotlight
