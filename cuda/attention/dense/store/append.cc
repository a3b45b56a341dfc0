#include "attention/dense/store/append.h"

#include "attention/kernels.h"

namespace spotlight {

void store_keys(const AttentionContext& context, const LayerIo& io, const BlockSlice& slice) {
  const KvArena& arena = *context.arena;
  kernels().store_rows(
      {slice.k, io.k_stride, slice.tokens, arena.head_dim,
       arena.k_block(io.layer, slice.block, slice.head) + slice.slot * arena.head_dim});
}

void store_values(const AttentionContext& context, const LayerIo& io, const BlockSlice& slice) {
  const KvArena& arena = *context.arena;
  kernels().store_rows(
      {slice.v, io.v_stride, slice.tokens, arena.head_dim,
       arena.v_block(io.layer, slice.block, slice.head) + slice.slot * arena.head_dim});
}

}  // namespace spotlight
