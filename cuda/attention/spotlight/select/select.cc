#include "attention/spotlight/select/select.h"

#include <algorithm>
#include <numeric>

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

void sum_strides(uint32_t* histogram, int32_t bins) {
  uint32_t* sums = histogram + strides(bins) * kStride;
  for (int32_t s = 0; s < strides(bins); s++)
    sums[s] = std::accumulate(histogram + s * kStride, histogram + (s + 1) * kStride, 0u);
}

Threshold find_threshold(const uint32_t* histograms, int32_t parts, int32_t bins, int32_t wanted) {
  const auto count = [&](int32_t word) {
    uint32_t sum = 0;
    for (int32_t p = 0; p < parts; p++)
      sum += histograms[int64_t{p} * histogram_words(bins) + word];
    return static_cast<int32_t>(sum);
  };
  if (wanted <= 0) return {bins, 0};
  // By strides from the top, then by single bins within the one that has enough.
  int32_t left = wanted, stride = strides(bins) - 1;
  for (int32_t here; (here = count(strides(bins) * kStride + stride)) < left; stride--)
    left -= here;
  Threshold found{(stride + 1) * kStride, 0};
  while (left > 0) {
    found.score--;
    const int32_t here = count(found.score);
    found.ties = std::min(here, left);
    left -= here;
  }
  return found;
}

int32_t ties_left_out(const uint32_t* histograms, int32_t parts, int32_t bins, int32_t part,
                      Threshold threshold) {
  if (threshold.ties == 0) return 0;
  const auto ties_of = [&](int32_t p) {
    return static_cast<int32_t>(histograms[int64_t{p} * histogram_words(bins) + threshold.score]);
  };
  int32_t left = threshold.ties;
  for (int32_t p = parts - 1; p > part; p--) left -= std::min(left, ties_of(p));
  return std::max(ties_of(part) - left, 0);
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
