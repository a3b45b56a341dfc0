// Attention of one query token and one selection over a range of blocks: the selected tokens, the
// open block, and the tail.
#pragma once

#include "attention/backend.h"
#include "attention/spotlight/select/select.h"

namespace spotlight {

struct AttendOp {
  const KvArena* arena;
  int32_t layer, head;  // KV head
  const int32_t* block_table;
  int32_t context;                  // tokens the query sees
  int32_t first_block, last_block;  // [first, last)
  const uint64_t* selected;         // [last - first] masks of selected tokens
  bool tail;                        // closed blocks stand in for their unselected tokens
  const float* q;                   // [group, head_dim], scaled
  int32_t group;                    // query heads that share the selection
  float* state;                     // state_floats(group, head_dim), in and out
  float* scratch;                   // rows_scratch(group) floats
};

void attend_selected(const AttendOp& op);

}  // namespace spotlight
