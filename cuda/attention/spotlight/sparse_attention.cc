#include "attention/spotlight/sparse_attention.h"

#include <algorithm>
#include <new>

#include "attention/counters.h"
#include "attention/flash/row_list.h"
#include "attention/flash/state.h"
#include "attention/kernels.h"
#include "attention/spotlight/attend/attend.h"

namespace spotlight {
namespace {

// From so many items a thread on they are handed out whole.
constexpr int32_t kManyItems = 4;
// Pieces of a thread's part of an item.
constexpr int32_t kPieces = 4;
// Codes are asked for from memory so many blocks before they are scored.
constexpr int32_t kBlocksAhead = 8;

int32_t blocks_of(int32_t context) { return (context + kBlockSize - 1) / kBlockSize; }

}  // namespace

SparseAttention::SparseAttention(const AttentionContext& context, const LayerIo& io,
                                 const std::vector<Segment>& segments, int32_t threads,
                                 Carver& shared)
    : context_(context),
      io_(io),
      segments_(segments),
      group_(context.query_heads / context.arena->kv_heads),
      dim_(context.arena->head_dim) {
  if (segments.empty()) return;
  const int32_t heads = context.arena->kv_heads;
  int32_t ordinal = 0;
  for (size_t i = 0; i < segments.size(); i++) {
    const Segment& segment = segments[i];
    const CodeEncoder* encoder = code_encoder(context.encoders[segment.row->plane]);
    first_item_.push_back(items_);
    first_ordinal_.push_back(ordinal);
    items_ += segment.tokens * heads * encoder->selections();
    query_words_ = std::max(query_words_, encoder->query_words());
    bins_ = std::max(bins_, encoder->bins());
    most_blocks_ = std::max(most_blocks_, blocks_of(segment.position + segment.tokens));
    if (segment.row->trace &&
        segment.first + segment.tokens == segment.row->first + segment.row->tokens)
      traced_.push_back(static_cast<int32_t>(i));
    if (!batches_.empty() && batches_.back().encoder == encoder &&
        batches_.back().first + batches_.back().tokens == segment.first)
      batches_.back().tokens += segment.tokens;
    else
      batches_.push_back({encoder, segment.first, segment.tokens, ordinal, 0});
    ordinal += segment.tokens;
  }
  first_item_.push_back(items_);
  trace_pieces_ = static_cast<int32_t>(traced_.size()) * heads;
  for (Batch& batch : batches_) {
    const int32_t tiles = (batch.tokens + kEncodeTile - 1) / kEncodeTile;
    batch.pieces = tiles * heads * batch.encoder->parts();
    encode_pieces_ += batch.pieces;
  }
  queries_ = shared.take<uint32_t>(static_cast<size_t>(ordinal) * heads * query_words_);
  shared_out_ = items_ <= Shares::kMostItems && threads > 1 && items_ < kManyItems * threads;
  if (!shared_out_) return;
  for (int32_t i = 0; i < items_; i++) {
    const SelectionRule rule = item_at(i).rule;
    const int32_t newest = rule.recent + rule.context % kBlockSize;
    shares_.add(rule.blocks(), rule.k - rule.recent, newest);
  }
  shares_.share(threads);
  scores_ = shared.take<int16_t>(static_cast<size_t>(items_) * most_blocks_ * kBlockSize);
  selected_ = shared.take<uint64_t>(static_cast<size_t>(items_) * most_blocks_);
  histograms_ = shared.take<uint32_t>(size_t{Shares::kMostUnits} * histogram_words(bins_));
  states_ = shared.take<float>(Shares::kMostUnits * kPieces * state_floats(group_, dim_));
  progress_ = shared.take<Progress>(items_);
  parts_ = shared.take<Part>(Shares::kMostUnits);
}

void SparseAttention::reset() {
  if (!shared_out_) return;
  for (int32_t i = 0; i < items_; i++) {
    const Shares::Threads threads = shares_.threads_of(i);
    auto* progress = new (progress_ + i) Progress;
    progress->unscored.store(threads.last - threads.first, std::memory_order_relaxed);
    progress->unfinished.store(kPieces * (threads.last - threads.first), std::memory_order_relaxed);
    for (int32_t t = threads.first; t < threads.last; t++) {
      auto* part = new (parts_ + Shares::unit(i, t)) Part;
      part->selected.store(false, std::memory_order_relaxed);
      part->taken.store(0, std::memory_order_relaxed);
    }
  }
}

void SparseAttention::encode(int32_t piece, std::byte* scratch) const {
  const int32_t heads = context_.arena->kv_heads;
  size_t i = 0;
  for (; piece >= batches_[i].pieces; i++) piece -= batches_[i].pieces;
  const Batch& batch = batches_[i];
  // Head by head, so that a thread's consecutive tiles find the weights in its cache.
  const int32_t tiles = (batch.tokens + kEncodeTile - 1) / kEncodeTile;
  const int32_t tile = piece % tiles, part = piece / tiles % batch.encoder->parts();
  const int32_t head = piece / tiles / batch.encoder->parts();
  const int32_t first = tile * kEncodeTile;
  const int64_t out_stride = int64_t{heads} * query_words_;
  batch.encoder->encode_queries(
      io_.layer, head, part, io_.q + (batch.first + first) * io_.q_stride + head * group_ * dim_,
      io_.q_stride, std::min(kEncodeTile, batch.tokens - first),
      queries_ + (batch.ordinal + first) * out_stride + head * query_words_, out_stride,
      reinterpret_cast<float*>(scratch));
}

SparseAttention::Item SparseAttention::item_at(int32_t index) const {
  const auto after = std::upper_bound(first_item_.begin(), first_item_.end(), index);
  const auto i = static_cast<size_t>(after - first_item_.begin()) - 1;
  Item item;
  item.segment = &segments_[i];
  const RowView& row = *item.segment->row;
  item.policy = &row.policies[io_.layer];
  item.encoder = code_encoder(context_.encoders[row.plane]);
  const int32_t within = index - first_item_[i];
  const int32_t t = within % item.segment->tokens, unit = within / item.segment->tokens;
  item.token = item.segment->first + t;
  item.ordinal = first_ordinal_[i] + t;
  item.head = unit / item.encoder->selections();
  item.selection = unit % item.encoder->selections();
  item.rule = selection_rule(*item.policy, item.segment->position + t + 1);
  return item;
}

void SparseAttention::score_range(const Item& item, int32_t from, int32_t to, int16_t* scores,
                                  uint32_t* histogram, uint32_t* prepared) const {
  const KvArena& arena = *context_.arena;
  std::fill_n(histogram, histogram_words(bins_), 0u);
  item.encoder->prepare(
      queries_ + (static_cast<int64_t>(item.ordinal) * arena.kv_heads + item.head) * query_words_,
      item.selection, prepared);
  const auto codes_of = [&](int32_t entry) {
    const RowView& row = *item.segment->row;
    return arena.codes_block(row.plane, io_.layer, row.block_table[entry], item.head);
  };
  // Inlined by force: a call that only prefetches counts as without effect and is left out.
  const auto ask_for = [&](int32_t entry) __attribute__((always_inline)) {
    const uint32_t* codes = codes_of(entry);
    for (int32_t w = 0; w < kBlockSize * arena.code_words; w += 16) __builtin_prefetch(codes + w);
  };
  for (int32_t entry = from; entry < std::min(from + kBlocksAhead, to); entry++) ask_for(entry);
  for (int32_t entry = from; entry < to; entry++) {
    const uint64_t candidates = block_mask(entry, item.rule.from(), item.rule.to());
    if (!candidates) continue;
    if (entry + kBlocksAhead < to) ask_for(entry + kBlocksAhead);
    int16_t* block_scores = scores + static_cast<int64_t>(entry - from) * kBlockSize;
    item.encoder->score(codes_of(entry), arena.code_words, item.selection, prepared, block_scores);
    count_scores(block_scores, candidates, histogram);
  }
  sum_strides(histogram, bins_);
}

float* SparseAttention::output(const Item& item) const {
  const int32_t shared = heads_sharing(*item.encoder);
  return io_.out + item.token * io_.out_stride +
         static_cast<int64_t>(item.head * group_ + item.selection * shared) * dim_;
}

void SparseAttention::attend_range(const Item& item, int32_t from, int32_t to,
                                   const uint64_t* selected, float* state, Carver& own) const {
  const int32_t shared = heads_sharing(*item.encoder);
  float* q = own.take<float>(static_cast<size_t>(shared) * dim_);
  float* rows = own.take<float>(rows_scratch(shared));
  scale_query(io_.q + item.token * io_.q_stride +
                  static_cast<int64_t>(item.head * group_ + item.selection * shared) * dim_,
              shared, dim_, q);
  reset_state(state, shared, dim_);
  attend_selected({context_.arena, io_.layer, item.head, item.segment->row->block_table,
                   item.rule.context, from, to, selected,
                   item.policy->mode == LayerMode::kSparseTail, q, shared, state, rows});
}

void SparseAttention::attend_whole(const Item& item, std::byte* scratch) const {
  const int32_t blocks = item.rule.blocks(), shared = heads_sharing(*item.encoder);
  Carver own(scratch);
  auto* scores = own.take<int16_t>(static_cast<size_t>(blocks) * kBlockSize);
  auto* histogram = own.take<uint32_t>(histogram_words(bins_));
  auto* prepared = own.take<uint32_t>(item.encoder->prepared_words());
  auto* selected = own.take<uint64_t>(blocks);
  auto* state = own.take<float>(state_floats(shared, dim_));
  score_range(item, 0, blocks, scores, histogram, prepared);
  const Threshold threshold = find_threshold(histogram, 1, bins_, item.rule.wanted());
  const int32_t skip = ties_left_out(histogram, 1, bins_, 0, threshold);
  select_blocks({item.rule, threshold, 0, blocks, scores, skip, selected});
  attend_range(item, 0, blocks, selected, state, own);
  merge_states(state, 0, 1, shared, dim_, output(item));
}

void SparseAttention::score_part(int32_t index, int32_t thread, std::byte* scratch) const {
  const Item item = item_at(index);
  const int32_t from = shares_.first_block(index, thread);
  const int32_t to = shares_.first_block(index, thread + 1);
  Carver own(scratch);
  score_range(item, from, to,
              scores_ + (static_cast<int64_t>(index) * most_blocks_ + from) * kBlockSize,
              histograms_ + int64_t{Shares::unit(index, thread)} * histogram_words(bins_),
              own.take<uint32_t>(item.encoder->prepared_words()));
  progress_[index].unscored.fetch_sub(1, std::memory_order_release);
}

void SparseAttention::select_part(int32_t index, const Team& team) const {
  const Item item = item_at(index);
  const int32_t from = shares_.first_block(index, team.ith);
  const int32_t to = shares_.first_block(index, team.ith + 1);
  const Shares::Threads threads = shares_.threads_of(index);
  const int32_t parts = threads.last - threads.first;
  team.wait_until([&] { return progress_[index].unscored.load(std::memory_order_acquire) == 0; });
  const uint32_t* histograms =
      histograms_ + int64_t{Shares::unit(index, threads.first)} * histogram_words(bins_);
  const Threshold threshold = find_threshold(histograms, parts, bins_, item.rule.wanted());
  const int64_t first = static_cast<int64_t>(index) * most_blocks_ + from;
  select_blocks({item.rule, threshold, from, to, scores_ + first * kBlockSize,
                 ties_left_out(histograms, parts, bins_, team.ith - threads.first, threshold),
                 selected_ + first});
  parts_[Shares::unit(index, team.ith)].selected.store(true, std::memory_order_release);
}

void SparseAttention::attend_piece(int32_t index, int32_t thread, int32_t piece,
                                   std::byte* scratch) const {
  const Item item = item_at(index);
  const int32_t from = shares_.first_block(index, thread);
  const int32_t to = shares_.first_block(index, thread + 1);
  const uint64_t* selected = selected_ + static_cast<int64_t>(index) * most_blocks_;
  // Like numbers of rows: those selected, and a summary a block.
  int32_t rows = 0;
  for (int32_t b = from; b < to; b++) rows += 1 + __builtin_popcountll(selected[b]);
  int32_t edges[2] = {to, to}, before = 0;
  for (int32_t b = from, e = 0; b < to && e < 2; b++) {
    for (; e < 2 && before * kPieces >= rows * (piece + e); e++) edges[e] = b;
    before += 1 + __builtin_popcountll(selected[b]);
  }
  const Shares::Threads threads = shares_.threads_of(index);
  const int32_t sharing = heads_sharing(*item.encoder);
  const size_t stride = state_floats(group_, dim_);
  float* states = states_ + size_t{1} * Shares::unit(index, threads.first) * kPieces * stride;
  Carver own(scratch);
  attend_range(item, edges[0], edges[1], selected + edges[0],
               states + ((thread - threads.first) * kPieces + piece) * stride, own);
  if (progress_[index].unfinished.fetch_sub(1, std::memory_order_acq_rel) == 1)
    merge_states(states, stride, (threads.last - threads.first) * kPieces, sharing, dim_,
                 output(item));
}

// This thread's own part first, then what its neighbours have left.
void SparseAttention::attend_parts(int32_t index, const Team& team) const {
  const Shares::Threads threads = shares_.threads_of(index);
  const int32_t parts = threads.last - threads.first;
  for (int32_t i = 0; i < parts; i++) {
    const int32_t thread = threads.first + (team.ith - threads.first + i) % parts;
    Part& part = parts_[Shares::unit(index, thread)];
    team.wait_until([&] { return part.selected.load(std::memory_order_acquire); });
    for (int32_t piece; (piece = part.taken.fetch_add(1, std::memory_order_relaxed)) < kPieces;)
      attend_piece(index, thread, piece, team.scratch);
  }
}

void SparseAttention::attend_share(const Team& team) const {
  if (!shared_out_) return;
  enum class Have { kNothing, kPart, kWhole };
  const auto have = [&](int32_t index) {
    const int32_t from = shares_.first_block(index, team.ith);
    const int32_t to = shares_.first_block(index, team.ith + 1);
    if (from == to) return Have::kNothing;
    return from == 0 && to == shares_.blocks(index) ? Have::kWhole : Have::kPart;
  };
  for (int32_t i = 0; i < items_; i++)
    if (have(i) == Have::kPart) score_part(i, team.ith, team.scratch);
  for (int32_t i = 0; i < items_; i++)
    if (have(i) == Have::kWhole) attend_whole(item_at(i), team.scratch);
  for (int32_t i = 0; i < items_; i++)
    if (have(i) == Have::kPart) select_part(i, team);
  for (int32_t i = 0; i < items_; i++)
    if (have(i) == Have::kPart) attend_parts(i, team);
}

// The selection of a row's last token over again, united over the head's selections: traced rows
// are samples, so their cost is too.
void SparseAttention::trace(int32_t piece, std::byte* scratch) const {
  const int32_t heads = context_.arena->kv_heads;
  const auto i = static_cast<size_t>(traced_[piece / heads]);
  const Segment& segment = segments_[i];
  const int32_t head = piece % heads;
  const int32_t selections = code_encoder(context_.encoders[segment.row->plane])->selections();
  const int32_t blocks = blocks_of(segment.position + segment.tokens);
  Carver own(scratch);
  auto* scores = own.take<int16_t>(static_cast<size_t>(blocks) * kBlockSize);
  auto* histogram = own.take<uint32_t>(histogram_words(bins_));
  auto* selected = own.take<uint64_t>(blocks);
  auto* united = own.take<uint64_t>(blocks);
  std::fill_n(united, blocks, uint64_t{0});
  uint32_t* prepared = nullptr;
  for (int32_t s = 0; s < selections; s++) {
    const Item item = item_at(first_item_[i] + (head * selections + s + 1) * segment.tokens - 1);
    if (!prepared) prepared = own.take<uint32_t>(item.encoder->prepared_words());
    score_range(item, 0, blocks, scores, histogram, prepared);
    const Threshold threshold = find_threshold(histogram, 1, bins_, item.rule.wanted());
    const int32_t skip = ties_left_out(histogram, 1, bins_, 0, threshold);
    select_blocks({item.rule, threshold, 0, blocks, scores, skip, selected});
    for (int32_t b = 0; b < blocks; b++) united[b] |= selected[b];
  }
  std::vector<int32_t>& out = segment.row->trace[io_.layer * heads + head];
  out.clear();
  for (int32_t b = 0; b < blocks; b++)
    for (uint64_t mask = united[b]; mask; mask &= mask - 1)
      out.push_back(b * kBlockSize + __builtin_ctzll(mask));
}

void SparseAttention::attend(int32_t piece, std::byte* scratch) const {
  if (piece < trace_pieces_) return trace(piece, scratch);
  attend_whole(item_at(piece - trace_pieces_), scratch);
}

size_t SparseAttention::thread_scratch(const AttentionContext& context, int32_t max_context) {
  const int32_t group = context.query_heads / context.arena->kv_heads;
  const int32_t blocks = blocks_of(max_context);
  Carver own(nullptr);
  int32_t bins = 0, prepared = 0, encode = 0;
  for (const Encoder* any : context.encoders) {
    if (!any) continue;
    const CodeEncoder& encoder = *code_encoder(any);
    bins = std::max(bins, encoder.bins());
    prepared = std::max(prepared, encoder.prepared_words());
    encode = std::max(encode, encoder.scratch_floats());
  }
  own.take<int16_t>(static_cast<size_t>(blocks) * kBlockSize);
  own.take<uint32_t>(histogram_words(bins));
  own.take<uint32_t>(prepared);
  own.take<uint64_t>(blocks);
  own.take<uint64_t>(blocks);
  own.take<float>(state_floats(group, context.arena->head_dim));
  own.take<float>(static_cast<size_t>(group) * context.arena->head_dim);
  own.take<float>(rows_scratch(group));
  return std::max(own.used(), encode * sizeof(float));
}

size_t SparseAttention::team_scratch(const AttentionContext& context, int32_t max_tokens,
                                     int32_t max_context) {
  const int32_t heads = context.arena->kv_heads, group = context.query_heads / heads;
  int32_t bins = 0, words = 0;
  for (const Encoder* any : context.encoders) {
    if (!any) continue;
    bins = std::max(bins, code_encoder(any)->bins());
    words = std::max(words, code_encoder(any)->query_words());
  }
  Carver shared(nullptr);
  shared.take<uint32_t>(static_cast<size_t>(max_tokens) * heads * words);
  shared.take<int16_t>(static_cast<size_t>(Shares::kMostItems) * blocks_of(max_context) *
                       kBlockSize);
  shared.take<uint64_t>(static_cast<size_t>(Shares::kMostItems) * blocks_of(max_context));
  shared.take<uint32_t>(size_t{Shares::kMostUnits} * histogram_words(bins));
  shared.take<float>(Shares::kMostUnits * kPieces * state_floats(group, context.arena->head_dim));
  shared.take<Progress>(Shares::kMostItems);
  shared.take<Part>(Shares::kMostUnits);
  return shared.used();
}

}  // namespace spotlight
