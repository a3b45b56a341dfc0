// Exact top-k of one query over its context: sink and newest tokens always, then the best scores by
// counting, ties to the newest. Scores are small integers, so a histogram finds the threshold and
// one pass of compares finds the set, as one 64-bit mask a block.
#pragma once

#include <cstdint>

#include "attention/backend.h"

namespace spotlight {

// What one query may select: `k` of `context` tokens, the first `sink` and the newest `recent`
// among them.
struct SelectionRule {
  int32_t context = 0, k = 0, sink = 0, recent = 0;
  // Candidates are the positions [from, to) that are not selected anyway.
  int32_t from() const { return sink; }
  int32_t to() const { return context - recent; }
  int32_t wanted() const { return k - sink - recent; }
  int32_t blocks() const { return (context + kBlockSize - 1) / kBlockSize; }
};

// k is the policy's budget, at least sink + recent. With k >= context there is nothing to select:
// attend densely.
SelectionRule selection_rule(const LayerPolicy& policy, int32_t context);

// Bits of block `block` for positions [from, to).
uint64_t block_mask(int32_t block, int32_t from, int32_t to);

// Counts of a range's scores: [bins], then the sums of every kStride of them, so that who reads
// another thread's counts fetches a few cache lines only. Rounded up to whole lines.
inline constexpr int32_t kStride = 32;
constexpr int32_t strides(int32_t bins) { return (bins + kStride - 1) / kStride; }
constexpr int32_t histogram_words(int32_t bins) {
  return (strides(bins) * (kStride + 1) + 15) / 16 * 16;
}
// Adds the scores of a block's masked tokens.
void count_scores(const int16_t* scores, uint64_t mask, uint32_t* histogram);
// Once all are counted.
void sum_strides(uint32_t* histogram, int32_t bins);

// Every candidate above `score` is selected, and the newest `ties` of those equal to it.
struct Threshold {
  int32_t score = 0, ties = 0;
};
// Over the sum of `parts` histograms, histogram_words(bins) apart.
Threshold find_threshold(const uint32_t* histograms, int32_t parts, int32_t bins, int32_t wanted);
// How many of its oldest ties the `part`-th of them, in order of age, leaves out.
int32_t ties_left_out(const uint32_t* histograms, int32_t parts, int32_t bins, int32_t part,
                      Threshold threshold);

struct SelectOp {
  SelectionRule rule;
  Threshold threshold;
  int32_t first_block, last_block;  // [first, last)
  const int16_t* scores;  // of first_block's first token on; read where there are candidates
  int32_t skip_ties;      // this many of the range's oldest ties are left out
  uint64_t* selected;     // [last_block - first_block]
};
void select_blocks(const SelectOp& op);

}  // namespace spotlight
