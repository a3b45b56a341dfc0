// What a retrieval method of the literature decides: which cached tokens a query reads, and with
// what weights. Selectors are for evaluation: rules written as their papers state them, over the
// stored keys, with one generic path (selected_attention) that gathers and attends. A selector is
// immutable and shared; what it keeps of a sequence is a SelectorState a layer and KV head.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "attention/backend.h"
#include "attention/exact/exact.h"

namespace spotlight {

class SelectorState {
 public:
  virtual ~SelectorState() = default;
};

// One query token of one KV head; with selections a query head, of some of its query heads.
struct Query {
  KeyView keys;
  const LayerPolicy* policy = nullptr;
  int32_t seen = 0;                   // tokens it may read, itself the last
  int32_t k = 0;                      // its budget, the policy's sink and recent tokens included
  const float* q = nullptr;           // [heads, head_dim], scaled as scale_query does
  int32_t first_head = 0, heads = 1;  // among the model's query heads
};

struct Selection {
  std::vector<int32_t> positions;  // ascending, all below the query's `seen`, never empty
  std::vector<float> bias;         // [positions] added to the logits, log2 units; empty: none
  void clear() {
    positions.clear();
    bias.clear();
  }
};

// Memory of one thread.
struct SelectorScratch {
  Exact exact;
  TopPositions top;
  std::vector<float> floats;
  std::vector<int32_t> integers;
  std::vector<uint16_t> words;
};

struct SelectorInfo {
  const char* name;
  const char* paper;
  // Bits of index a token and KV head beside K and V, as of head_dim d: constant + per_dim * d.
  // What reads every key counts the key.
  double index_bits, index_bits_per_dim;
  // Whether unselected tokens may take part as block means. Not where they are gone, or where
  // weights speak for them already.
  bool tail;
  // One selection a query head instead of one a KV head.
  bool per_query_head;
  // Tokens of a sequence are shown in order, prompts included, since what a query reads depends on
  // the queries before it.
  bool in_order;
  const char* rule;  // a sentence
};

class Selector {
 public:
  virtual ~Selector() = default;
  virtual const SelectorInfo& info() const = 0;
  // Null: it keeps nothing.
  virtual std::unique_ptr<SelectorState> make_state() const { return nullptr; }
  // Takes in the keys stored so far, `stored` tokens, before the queries of a step. `dense`: tokens
  // that attended densely before the sequence's first query that selects. Alone with the state.
  virtual void index(SelectorState*, const KeyView&, int32_t /*stored*/, int32_t /*dense*/) const {}
  // In order only: a query that attends densely.
  virtual void observe(SelectorState*, const Query&, SelectorScratch&) const {}
  // A query that selects. Several at once, unless in order: then alone with the state, which it may
  // change.
  virtual void select(SelectorState* state, const Query& query, SelectorScratch& scratch,
                      Selection& out) const = 0;
};

// Null for a name that is none of them.
const Selector* find_selector(const std::string& name);
// In the order of tables.
const std::vector<const Selector*>& all_selectors();

const Selector& oracle_selector();
const Selector& oracle_head_selector();
const Selector& window_selector();
const Selector& lsh_selector();
const Selector& lsh_head_selector();
const Selector& quest_selector();
const Selector& magicpig_selector();
const Selector& vattention_selector();
const Selector& h2o_selector();
const Selector& snapkv_selector();
const Selector& fastgen_selector();

}  // namespace spotlight
