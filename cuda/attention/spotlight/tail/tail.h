// The tail: every closed block enters the softmax as one pseudo-token for its n unselected tokens,
// with logit q.meanK / sqrt(d) + ln(n) and value meanV. The means are those of the whole block; a
// block selected entirely drops out.
#pragma once

#include "attention/backend.h"

namespace spotlight {

struct TailOp {
  const KvArena* arena;
  int32_t layer, head;
  const int32_t* block_table;  // [blocks]
  const uint64_t* selected;    // [blocks]
  int32_t blocks;              // all closed
  const float* q;              // [group, head_dim], scaled
  int32_t group;
  float* state;    // in and out
  float* scratch;  // rows_scratch(group) floats
};

void attend_tail(const TailOp& op);

}  // namespace spotlight
