// Attention over what selectors choose: the one path that serves them all. A query token of a KV
// head is a piece of work: choose, gather, attend, and with the tail add the block means of what
// was left out. Selectors that go in order take a row's tokens one after another, a KV head a
// thread; the others index a row's keys first and then choose for all its tokens at once.
#pragma once

#include <memory>
#include <vector>

#include "attention/plan.h"
#include "attention/selectors/selector.h"
#include "attention/team.h"

namespace spotlight {

// What selectors keep of the open sequences, by seat. A sequence's first row empties its seat.
class SelectorMemory {
 public:
  struct Entry {  // of a layer and KV head
    const Selector* selector = nullptr;
    std::unique_ptr<SelectorState> state;
    int32_t dense = -1;  // tokens before the first query that selects; -1: none has
  };
  // By one thread, before others use entries of these rows in this layer.
  void prepare(const AttentionContext& context, int32_t layer, const RowView* rows,
               int32_t row_count);
  Entry& entry(const RowView& row, int32_t layer, int32_t head, const KvArena& arena) {
    return seats_[static_cast<size_t>(row.seat)]
                 [static_cast<size_t>(layer) * arena.kv_heads + head];
  }

 private:
  std::vector<std::vector<Entry>> seats_;  // [seats][layers * kv_heads]
};

class SelectedAttention {
 public:
  SelectedAttention(const AttentionContext& context, const LayerIo& io, const RowView* rows,
                    int32_t row_count, const Plan& plan, SelectorMemory& memory);
  // By all threads, a barrier between the two.
  void index(const Team& team);
  void attend(const Team& team);

 private:
  void in_order(const RowView& row, int32_t head);
  Query query(const RowView& row, int32_t head, int32_t token, int32_t selection,
              int32_t selections);
  void attend_token(const RowView& row, int32_t head, int32_t token);
  void gather(const Query& query, const Selector& selector, float* out);

  const AttentionContext& context_;
  const LayerIo& io_;
  const RowView* rows_;
  int32_t row_count_;
  const Plan& plan_;
  SelectorMemory& memory_;
  int32_t group_, dim_;
  SelectorScratch scratch_;
  Selection selection_;
  std::vector<float> q_, state_, rows_scratch_;
  std::vector<int32_t> united_;
  std::vector<uint64_t> masks_;
};

}  // namespace spotlight
