// Retrieval attention of a layer's generated tokens in two phases with a barrier between them:
//   encode (queries -> u) | attend (codes -> scores -> select -> gather-attend -> tail).
// An item is one query token, KV head and selection. Many items are pieces that threads take as
// they come. Few items (decode at batch 1) are shared out beforehand, so that three KV heads keep
// any number of threads busy: a thread scores its blocks of the items it has in common with others
// first and attends to them last, and what it has whole stands between, so that nobody waits. What
// is selected lies unevenly, so those last pieces are anyone's who has finished his own.
#pragma once

#include "attention/plan.h"
#include "attention/spotlight/encode/encoder.h"
#include "attention/spotlight/select/select.h"
#include "attention/spotlight/shares.h"

namespace spotlight {

class SparseAttention {
 public:
  SparseAttention(const AttentionContext& context, const LayerIo& io,
                  const std::vector<Segment>& segments, int32_t threads, Carver& shared);
  // By one thread, before the barrier that ends the encode phase.
  void reset();

  int32_t encode_pieces() const { return encode_pieces_; }
  void encode(int32_t piece, std::byte* scratch) const;
  // This thread's share of the items, where they are shared out.
  void attend_share(const Team& team) const;
  // All else.
  int32_t attend_pieces() const { return (shared_out_ ? 0 : items_) + trace_pieces_; }
  void attend(int32_t piece, std::byte* scratch) const;

  static size_t thread_scratch(const AttentionContext& context, int32_t max_context);
  static size_t team_scratch(const AttentionContext& context, int32_t max_tokens,
                             int32_t max_context);

 private:
  struct Batch {  // segments next to each other in the packed tokens that share an encoder, encoded
                  // together
    const CodeEncoder* encoder;
    int32_t first, tokens, ordinal, pieces;
  };
  struct Item {
    const Segment* segment;
    const LayerPolicy* policy;
    const CodeEncoder* encoder;
    int32_t token;    // in the step's packed tokens
    int32_t ordinal;  // among the sparse tokens
    int32_t head, selection;
    SelectionRule rule;
  };
  // How far the threads that have an item in common are, and how far one of them is.
  struct alignas(64) Progress {
    std::atomic<int32_t> unscored, unfinished;
  };
  struct alignas(64) Part {
    std::atomic<bool> selected;
    std::atomic<int32_t> taken;  // pieces
  };

  Item item_at(int32_t index) const;
  void score_range(const Item& item, int32_t from, int32_t to, int16_t* scores, uint32_t* histogram,
                   uint32_t* prepared) const;
  void attend_range(const Item& item, int32_t from, int32_t to, const uint64_t* selected,
                    float* state, Carver& own) const;
  float* output(const Item& item) const;
  int32_t heads_sharing(const CodeEncoder& encoder) const { return group_ / encoder.selections(); }
  void attend_whole(const Item& item, std::byte* scratch) const;
  void score_part(int32_t index, int32_t thread, std::byte* scratch) const;
  void select_part(int32_t index, const Team& team) const;
  void attend_parts(int32_t index, const Team& team) const;
  void attend_piece(int32_t index, int32_t thread, int32_t piece, std::byte* scratch) const;
  void trace(int32_t piece, std::byte* scratch) const;

  const AttentionContext& context_;
  const LayerIo& io_;
  const std::vector<Segment>& segments_;
  int32_t group_, dim_;
  std::vector<Batch> batches_;
  std::vector<int32_t> first_item_;     // of each segment, and one past the last
  std::vector<int32_t> first_ordinal_;  // of each segment
  std::vector<int32_t> traced_;         // segments whose last token is traced
  int32_t encode_pieces_ = 0, items_ = 0, trace_pieces_ = 0;
  int32_t query_words_ = 0, bins_ = 0, most_blocks_ = 0;
  uint32_t* queries_ = nullptr;  // [sparse tokens, kv_heads, query_words_]
  bool shared_out_ = false;
  Shares shares_;                   // what follows is for items shared out
  int16_t* scores_ = nullptr;       // [items, most_blocks_, 64]
  uint64_t* selected_ = nullptr;    // [items, most_blocks_]
  uint32_t* histograms_ = nullptr;  // [units, histogram_words(bins_)]
  float* states_ = nullptr;         // [units, pieces, state]
  Progress* progress_ = nullptr;    // [items]
  Part* parts_ = nullptr;           // [units]
};

}  // namespace spotlight
