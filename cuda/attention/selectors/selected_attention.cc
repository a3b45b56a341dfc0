#include "attention/selectors/selected_attention.h"

#include <algorithm>

#include "attention/counters.h"
#include "attention/flash/row_list.h"
#include "attention/flash/state.h"
#include "attention/spotlight/tail/tail.h"

namespace spotlight {

void SelectorMemory::prepare(const AttentionContext& context, int32_t layer, const RowView* rows,
                             int32_t row_count) {
  const KvArena& arena = *context.arena;
  for (int32_t i = 0; i < row_count; i++) {
    const RowView& row = rows[i];
    const LayerPolicy& policy = row.policies[layer];
    if (!policy.selector || policy.mode == LayerMode::kDense) continue;
    if (static_cast<size_t>(row.seat) >= seats_.size())
      seats_.resize(static_cast<size_t>(row.seat) + 1);
    auto& entries = seats_[static_cast<size_t>(row.seat)];
    if (entries.empty()) entries.resize(static_cast<size_t>(arena.layers) * arena.kv_heads);
    for (int32_t head = 0; head < arena.kv_heads; head++) {
      Entry& one = entry(row, layer, head, arena);
      if (row.seated && one.selector == policy.selector) continue;
      one.selector = policy.selector;
      one.state = policy.selector->make_state();
      one.dense = -1;
    }
  }
}

SelectedAttention::SelectedAttention(const AttentionContext& context, const LayerIo& io,
                                     const RowView* rows, int32_t row_count, const Plan& plan,
                                     SelectorMemory& memory)
    : context_(context),
      io_(io),
      rows_(rows),
      row_count_(row_count),
      plan_(plan),
      memory_(memory),
      group_(context.query_heads / context.arena->kv_heads),
      dim_(context.arena->head_dim),
      q_(static_cast<size_t>(group_) * dim_),
      state_(state_floats(group_, dim_)),
      rows_scratch_(static_cast<size_t>(rows_scratch(group_))) {}

void SelectedAttention::index(const Team& team) {
  const KvArena& arena = *context_.arena;
  int32_t piece = 0;
  for (const Segment& segment : plan_.selected) {
    const RowView& row = *segment.row;
    const Selector& selector = *row.policies[io_.layer].selector;
    for (int32_t head = 0; head < arena.kv_heads; head++) {
      if (piece++ % team.nth != team.ith) continue;
      SelectorMemory::Entry& entry = memory_.entry(row, io_.layer, head, arena);
      if (entry.dense < 0) entry.dense = segment.position;
      if (!selector.info().in_order)
        selector.index(entry.state.get(), {&arena, row.block_table, io_.layer, head},
                       row.position + row.tokens, entry.dense);
    }
  }
}

void SelectedAttention::attend(const Team& team) {
  const KvArena& arena = *context_.arena;
  int32_t piece = 0;
  for (int32_t i = 0; i < row_count_; i++) {
    const RowView& row = rows_[i];
    const LayerPolicy& policy = row.policies[io_.layer];
    if (!policy.selector || policy.mode == LayerMode::kDense || !policy.selector->info().in_order)
      continue;
    for (int32_t head = 0; head < arena.kv_heads; head++)
      if (piece++ % team.nth == team.ith) in_order(row, head);
  }
  for (const Segment& segment : plan_.selected) {
    const RowView& row = *segment.row;
    if (row.policies[io_.layer].selector->info().in_order) continue;
    const int32_t first = segment.position - row.position;
    for (int32_t t = first; t < first + segment.tokens; t++)
      for (int32_t head = 0; head < arena.kv_heads; head++)
        if (piece++ % team.nth == team.ith) attend_token(row, head, t);
  }
}

Query SelectedAttention::query(const RowView& row, int32_t head, int32_t token, int32_t selection,
                               int32_t selections) {
  const int32_t heads = group_ / selections, first = head * group_ + selection * heads;
  scale_query(
      io_.q + (int64_t{row.first} + token) * io_.q_stride + static_cast<int64_t>(first) * dim_,
      heads, dim_, q_.data());
  Query made;
  made.keys = {context_.arena, row.block_table, io_.layer, head};
  made.policy = &row.policies[io_.layer];
  made.seen = row.position + token + 1;
  made.k = std::max(budget(*made.policy, made.seen), 1);
  made.q = q_.data();
  made.first_head = first;
  made.heads = heads;
  return made;
}

void SelectedAttention::in_order(const RowView& row, int32_t head) {
  const Selector& selector = *row.policies[io_.layer].selector;
  SelectorState* state = memory_.entry(row, io_.layer, head, *context_.arena).state.get();
  int32_t dense = row.tokens;  // of the row, those before what it selects
  for (const Segment& segment : plan_.selected)
    if (segment.row == &row) dense = segment.position - row.position;
  for (int32_t t = 0; t < row.tokens; t++) {
    if (t >= dense)
      attend_token(row, head, t);
    else
      selector.observe(state, query(row, head, t, 0, 1), scratch_);
  }
}

void SelectedAttention::attend_token(const RowView& row, int32_t head, int32_t token) {
  const Selector& selector = *row.policies[io_.layer].selector;
  const int32_t selections = selector.info().per_query_head ? group_ : 1;
  SelectorState* state = memory_.entry(row, io_.layer, head, *context_.arena).state.get();
  united_.clear();
  int32_t seen = 0;
  for (int32_t s = 0; s < selections; s++) {
    const Query now = query(row, head, token, s, selections);
    seen = now.seen;
    selection_.clear();
    selector.select(state, now, scratch_, selection_);
    united_.insert(united_.end(), selection_.positions.begin(), selection_.positions.end());
    gather(now, selector,
           io_.out + (int64_t{row.first} + token) * io_.out_stride +
               static_cast<int64_t>(now.first_head) * dim_);
  }
  if (selections > 1) {
    std::sort(united_.begin(), united_.end());
    united_.erase(std::unique(united_.begin(), united_.end()), united_.end());
  }
  if (context_.counters) {
    const auto rows = static_cast<int64_t>(united_.size());
    context_.counters->selected_tokens.fetch_add(rows, std::memory_order_relaxed);
    context_.counters->context_tokens.fetch_add(seen, std::memory_order_relaxed);
  }
  if (row.trace && token + 1 == row.tokens)
    row.trace[io_.layer * context_.arena->kv_heads + head] = united_;
}

// Attends to the selection, to the open block whole where the tail stands for the closed ones.
void SelectedAttention::gather(const Query& query, const Selector& selector, float* out) {
  const KvArena& arena = *context_.arena;
  reset_state(state_.data(), query.heads, dim_);
  RowList list(query.q, query.heads, dim_, query.keys.keys(), query.keys.values(), state_.data(),
               rows_scratch_.data());
  const bool tail = query.policy->mode == LayerMode::kSparseTail && selector.info().tail;
  const int32_t closed = query.seen / kBlockSize;
  masks_.assign(static_cast<size_t>(closed), 0);
  const std::vector<int32_t>& positions = selection_.positions;
  for (size_t i = 0; i < positions.size(); i++) {
    const int32_t t = positions[i];
    if (tail && t >= closed * kBlockSize) break;
    if (selection_.bias.empty())
      list.add(query.keys.row(t));
    else
      list.add(query.keys.row(t), selection_.bias[i]);
    if (tail) masks_[static_cast<size_t>(t / kBlockSize)] |= uint64_t{1} << (t % kBlockSize);
  }
  if (tail)
    for (int32_t t = closed * kBlockSize; t < query.seen; t++) list.add(query.keys.row(t));
  list.flush();
  if (tail)
    attend_tail({&arena, query.keys.layer, query.keys.head, query.keys.block_table, masks_.data(),
                 closed, query.q, query.heads, state_.data(), rows_scratch_.data()});
  merge_states(state_.data(), 0, 1, query.heads, dim_, out);
}

}  // namespace spotlight
