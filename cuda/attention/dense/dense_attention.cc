#include "attention/dense/dense_attention.h"

#include <algorithm>
#include <new>

#include "attention/flash/row_list.h"
#include "attention/flash/state.h"
#include "attention/kernels.h"

namespace spotlight {
namespace {

// Segments of fewer tokens are taken token by token: converting a block for a tile of them would
// not pay.
constexpr int32_t kLeastTileTokens = 8;
// Query rows of a tile: enough that packing a block of K and V costs a few percent, few enough that
// the tile stays in L2.
constexpr int32_t kTileRowsWanted = 192;
constexpr int32_t kTilePiecesAThread = 3;

int32_t most_tile_tokens(int32_t group) {
  return std::max(kLeastTileTokens, kTileRowsWanted / group);
}

}  // namespace

DenseAttention::DenseAttention(const AttentionContext& context, const LayerIo& io,
                               const std::vector<Segment>& segments, int32_t threads,
                               Carver& shared)
    : context_(context),
      io_(io),
      group_(context.query_heads / context.arena->kv_heads),
      dim_(context.arena->head_dim) {
  const int32_t heads = context.arena->kv_heads;
  int32_t blocks = 1, tiled = 0;
  for (const Segment& segment : segments) {
    if (segment.tokens >= kLeastTileTokens) {
      tiled += segment.tokens;
      tiles_.push_back({&segment, 0, 0});
      continue;
    }
    for (int32_t t = 0; t < segment.tokens; t++) {
      singles_.push_back({&segment, t});
      blocks = std::max(blocks, (segment.position + t) / kBlockSize + 1);
    }
  }
  tile_tokens_ = most_tile_tokens(group_);
  while (tile_tokens_ > 2 * kLeastTileTokens &&
         tiled * heads < kTilePiecesAThread * threads * tile_tokens_)
    tile_tokens_ /= 2;
  for (Tiles& tiles : tiles_) {
    tiles.begin = tile_pieces_;
    tiles.count = (tiles.segment->tokens + tile_tokens_ - 1) / tile_tokens_ * heads;
    tile_pieces_ += tiles.count;
  }
  const auto items = static_cast<int32_t>(singles_.size()) * heads;
  if (items == 0) return;
  ranges_ = split_ranges(items, threads, blocks);
  units_ = items * ranges_;
  if (ranges_ > 1) {
    states_ = shared.take<float>(units_ * state_floats(group_, dim_));
    pending_ = shared.take<std::atomic<int32_t>>(items);
  }
}

void DenseAttention::reset() {
  if (ranges_ > 1)
    for (int32_t i = 0; i < units_ / ranges_; i++) new (pending_ + i) std::atomic<int32_t>(ranges_);
}

void DenseAttention::run(int32_t piece, std::byte* scratch) const {
  if (piece < tile_pieces_)
    run_tile(piece, scratch);
  else
    run_unit(piece - tile_pieces_, scratch);
}

void DenseAttention::run_tile(int32_t piece, std::byte* scratch) const {
  const KvArena& arena = *context_.arena;
  size_t i = 0;
  while (piece >= tiles_[i].begin + tiles_[i].count) i++;
  const Tiles& tiles = tiles_[i];
  const Segment& segment = *tiles.segment;
  const int32_t within = tiles.begin + tiles.count - 1 - piece;  // the longest contexts first
  const int32_t head = within % arena.kv_heads;
  const int32_t first = within / arena.kv_heads * tile_tokens_;
  const int64_t token = segment.first + first;
  const int64_t at = static_cast<int64_t>(head) * group_ * dim_;
  kernels().attend_tile(
      {io_.q + token * io_.q_stride + at, io_.q_stride,
       std::min(tile_tokens_, segment.tokens - first), group_, dim_, segment.position + first,
       arena.k_block(io_.layer, 0, head), arena.v_block(io_.layer, 0, head),
       int64_t{arena.kv_heads} * kBlockSize * dim_, segment.row->block_table,
       io_.out + token * io_.out_stride + at, io_.out_stride, reinterpret_cast<float*>(scratch)});
}

void DenseAttention::run_unit(int32_t unit, std::byte* scratch) const {
  const KvArena& arena = *context_.arena;
  const int32_t item = unit / ranges_, range = unit % ranges_;
  const Single& single = singles_[item / arena.kv_heads];
  const int32_t head = item % arena.kv_heads;
  const int32_t context = single.segment->position + single.token + 1;
  const int32_t blocks = (context + kBlockSize - 1) / kBlockSize;
  const int32_t from = static_cast<int32_t>(int64_t{blocks} * range / ranges_);
  const int32_t to = static_cast<int32_t>(int64_t{blocks} * (range + 1) / ranges_);
  const int64_t token = single.segment->first + single.token;
  const int64_t at = static_cast<int64_t>(head) * group_ * dim_;

  Carver own(scratch);
  float* q = own.take<float>(static_cast<size_t>(group_) * dim_);
  const size_t state_size = state_floats(group_, dim_);
  float* state = own.take<float>(state_size);
  float* rows_memory = own.take<float>(rows_scratch(group_));
  if (ranges_ > 1) state = states_ + unit * state_size;
  scale_query(io_.q + token * io_.q_stride + at, group_, dim_, q);
  reset_state(state, group_, dim_);
  RowList list(q, group_, dim_, arena.k_block(io_.layer, 0, head),
               arena.v_block(io_.layer, 0, head), state, rows_memory);
  for (int32_t entry = from; entry < to; entry++) {
    const uint32_t row = static_cast<uint32_t>(single.segment->row->block_table[entry]) *
                         arena.kv_heads * kBlockSize;
    const int32_t count = std::min(kBlockSize, context - entry * kBlockSize);
    for (int32_t i = 0; i < count; i++) list.add(row + i);
  }
  list.flush();
  float* out = io_.out + token * io_.out_stride + at;
  if (ranges_ == 1) {
    merge_states(state, state_size, 1, group_, dim_, out);
  } else if (pending_[item].fetch_sub(1, std::memory_order_acq_rel) == 1) {
    merge_states(states_ + item * ranges_ * state_size, state_size, ranges_, group_, dim_, out);
  }
}

size_t DenseAttention::thread_scratch(const AttentionContext& context) {
  const int32_t group = context.query_heads / context.arena->kv_heads;
  const int32_t dim = context.arena->head_dim;
  Carver unit(nullptr);
  unit.take<float>(static_cast<size_t>(group) * dim);
  unit.take<float>(state_floats(group, dim));
  unit.take<float>(rows_scratch(group));
  return std::max(unit.used(), tile_scratch(most_tile_tokens(group) * group, dim) * sizeof(float));
}

size_t DenseAttention::team_scratch(const AttentionContext& context) {
  const int32_t group = context.query_heads / context.arena->kv_heads;
  Carver shared(nullptr);
  shared.take<float>(kMaxUnits * state_floats(group, context.arena->head_dim));
  shared.take<std::atomic<int32_t>>(kMaxUnits);
  return shared.used();
}

}  // namespace spotlight
