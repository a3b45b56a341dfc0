// What full attention would give each token of a context: the truth that quality and several
// selectors go by. One object a thread, whose memory grows to the longest context seen.
#pragma once

#include <cstdint>
#include <vector>

#include "attention/backend.h"

namespace spotlight {

// One KV head's cached keys of one sequence and layer.
struct KeyView {
  const KvArena* arena = nullptr;
  const int32_t* block_table = nullptr;
  int32_t layer = 0, head = 0;
  // Row of a position, counted in rows of head_dim from key(0)'s arena base.
  uint32_t row(int32_t position) const {
    return static_cast<uint32_t>(block_table[position / kBlockSize]) * arena->kv_heads *
               kBlockSize +
           static_cast<uint32_t>(position % kBlockSize);
  }
  const half_bits* keys() const { return arena->k_block(layer, 0, head); }
  const half_bits* values() const { return arena->v_block(layer, 0, head); }
  const half_bits* key(int32_t position) const {
    return keys() + static_cast<size_t>(row(position)) * arena->head_dim;
  }
};

class Exact {
 public:
  // Logits, in log2 units, of `heads` query heads (q [heads, head_dim] as scale_query leaves it)
  // over the first `seen` positions, or over the positions named.
  void logits(const KeyView& view, int32_t seen, const float* q, int32_t heads);
  void logits(const KeyView& view, const std::vector<int32_t>& positions, const float* q,
              int32_t heads);
  // Turns every head's logits into its softmax, and sums them over the heads into mass().
  void softmax();

  int32_t count() const { return count_; }
  const float* head(int32_t h) const { return logits_.data() + h * stride_; }
  const float* mass() const { return mass_.data(); }

 private:
  void start(int32_t count, int32_t heads);
  void chunk(const KeyView& view, const uint32_t* rows, int32_t from, int32_t count,
             const float* q);

  int32_t heads_ = 0, count_ = 0;
  int64_t stride_ = 0;
  std::vector<float> logits_, mass_, scratch_;
};

// The k best of [from, to) by score, ties to the newest, appended in ascending order of position.
// One object a thread.
class TopPositions {
 public:
  void find(const float* scores, int32_t from, int32_t to, int32_t k, std::vector<int32_t>& out);

 private:
  std::vector<uint32_t> keys_, counts_, rest_;
};

}  // namespace spotlight
