// The shape of every append: which tokens of which block and KV head a thread stores.
#pragma once

#include "attention/backend.h"

namespace spotlight {

// Consecutive new tokens of one block, for one KV head. A block is never shared by two rows of a
// step.
struct BlockSlice {
  const float* k;  // first token, strides as in LayerIo
  const float* v;
  int32_t block, head;
  int32_t slot;  // of the first token in the block
  int32_t tokens;
  bool closes() const { return slot + tokens == kBlockSize; }
};

void store_keys(const AttentionContext& context, const LayerIo& io, const BlockSlice& slice);
void store_values(const AttentionContext& context, const LayerIo& io, const BlockSlice& slice);

// Calls visit(slice, half) for this thread's share of all (slice, half in {0, 1}); halves let one
// token with few KV heads feed more threads.
template <typename Visit>
void for_each_slice(const AttentionContext& context, const LayerIo& io, const RowView* rows,
                    int32_t row_count, const Team& team, Visit visit) {
  const auto blocks_of = [](const RowView& row) {
    return row.tokens == 0
               ? 0
               : (row.position + row.tokens - 1) / kBlockSize - row.position / kBlockSize + 1;
  };
  const int32_t heads = context.arena->kv_heads, dim = context.arena->head_dim;
  int64_t total = 0;
  for (int32_t i = 0; i < row_count; i++) total += blocks_of(rows[i]) * 2 * heads;
  const int64_t from = total * team.ith / team.nth, to = total * (team.ith + 1) / team.nth;
  int64_t start = 0;
  for (int32_t i = 0; i < row_count && start < to; i++) {
    const RowView& row = rows[i];
    const int64_t count = int64_t{blocks_of(row)} * 2 * heads;
    for (int64_t piece = from > start ? from - start : 0; piece < count && start + piece < to;
         piece++) {
      const auto entry = static_cast<int32_t>(row.position / kBlockSize + piece / (2 * heads));
      const auto head = static_cast<int32_t>(piece / 2 % heads);
      const int32_t first = entry * kBlockSize > row.position ? entry * kBlockSize : row.position;
      const int32_t end = (entry + 1) * kBlockSize < row.position + row.tokens
                              ? (entry + 1) * kBlockSize
                              : row.position + row.tokens;
      const int64_t token = row.first + (first - row.position);
      visit(BlockSlice{io.k + token * io.k_stride + head * dim,
                       io.v + token * io.v_stride + head * dim, row.block_table[entry], head,
                       first - entry * kBlockSize, end - first},
            static_cast<int32_t>(piece % 2));
    }
    start += count;
  }
}

}  // namespace spotlight
