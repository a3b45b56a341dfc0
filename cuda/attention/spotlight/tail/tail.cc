#include "attention/spotlight/tail/tail.h"

#include <array>
#include <cmath>

#include "attention/flash/row_list.h"

namespace spotlight {
namespace {

const std::array<float, kBlockSize + 1>& log2_of_count() {
  static const std::array<float, kBlockSize + 1> table = [] {
    std::array<float, kBlockSize + 1> made{};
    for (int n = 1; n <= kBlockSize; n++) made[n] = std::log2(static_cast<float>(n));
    return made;
  }();
  return table;
}

}  // namespace

void attend_tail(const TailOp& op) {
  const KvArena& arena = *op.arena;
  const auto& bias = log2_of_count();
  RowList blocks(op.q, op.group, arena.head_dim, arena.mean_k_at(op.layer, 0, op.head),
                 arena.mean_v_at(op.layer, 0, op.head), op.state, op.scratch);
  for (int32_t i = 0; i < op.blocks; i++) {
    const int32_t unselected = kBlockSize - __builtin_popcountll(op.selected[i]);
    if (unselected > 0)
      blocks.add(static_cast<uint32_t>(op.block_table[i]) * arena.kv_heads, bias[unselected]);
  }
  blocks.flush();
}

}  // namespace spotlight
