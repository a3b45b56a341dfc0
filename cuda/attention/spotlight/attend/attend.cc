#include "attention/spotlight/attend/attend.h"

#include <algorithm>

#include "attention/flash/row_list.h"
#include "attention/spotlight/tail/tail.h"

namespace spotlight {

void attend_selected(const AttendOp& op) {
  const KvArena& arena = *op.arena;
  RowList tokens(op.q, op.group, arena.head_dim, arena.k_block(op.layer, 0, op.head),
                 arena.v_block(op.layer, 0, op.head), op.state, op.scratch);
  const int32_t closed = std::min(op.context / kBlockSize, op.last_block);
  for (int32_t entry = op.first_block; entry < op.last_block; entry++) {
    // The open block is read whole: it has no summary yet.
    const uint64_t read =
        entry < closed ? op.selected[entry - op.first_block] : block_mask(entry, 0, op.context);
    tokens.add_block(static_cast<uint32_t>(op.block_table[entry]) * arena.kv_heads * kBlockSize,
                     read);
  }
  tokens.flush();
  if (!op.tail || closed <= op.first_block) return;
  attend_tail({op.arena, op.layer, op.head, op.block_table + op.first_block, op.selected,
               closed - op.first_block, op.q, op.group, op.state, op.scratch});
}

}  // namespace spotlight
