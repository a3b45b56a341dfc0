// FlashInfer's FlashAttention 2 over pages with work of our own planning: rows lie anywhere in the
// step's tokens and block tables are read where the device keeps them. One kernel a head dimension
// and kind: FlashInfer's own launcher would compile four tile widths of each.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <flashinfer/attention/default_prefill_params.cuh>
#include <flashinfer/attention/prefill.cuh>
#include <flashinfer/attention/variants.cuh>

#include "attention/backend.h"
#include "attention/dense/gpu/launch.h"
#include "device/cuda/runtime/cuda_error.h"

namespace spotlight::gpu {
namespace {

// FlashInfer derives lengths from cumulative arrays, which would need rows side by side in one
// order; here each row says its own.
template <typename T, typename Out>
struct FlashParams : flashinfer::BatchPrefillPagedParams<T, T, Out, int32_t> {
  const int32_t* row_tokens = nullptr;  // null: one each
  const int32_t* row_context = nullptr;
  __host__ __device__ uint32_t get_qo_len(uint32_t row) const {
    return row_tokens == nullptr ? 1 : row_tokens[row];
  }
  __host__ __device__ uint32_t get_kv_len(uint32_t row) const { return row_context[row]; }
};

using FlashVariant = flashinfer::DefaultAttention</*custom_mask=*/false, /*sliding_window=*/false,
                                                  /*logits_soft_cap=*/false, /*alibi=*/false>;

template <typename T, typename Out, int D, int Tile, int KvTiles, flashinfer::MaskMode Mask>
using FlashTraits =
    flashinfer::KernelTraits<Mask, Tile, flashinfer::get_num_mma_q(Tile), KvTiles, D / 16, D / 16,
                             flashinfer::get_num_warps_q(Tile), flashinfer::get_num_warps_kv(Tile),
                             flashinfer::PosEncodingMode::kNone, T, T, Out, float, int32_t,
                             FlashVariant>;

template <typename T, typename Out, int D>
FlashParams<T, Out> flash_params(const DenseTensors<T>& tensors, int32_t rows,
                                 const int32_t* table) {
  FlashParams<T, Out> params;
  params.q = const_cast<T*>(tensors.q);
  params.paged_kv = flashinfer::paged_kv_t<T, int32_t>(
      tensors.kv_heads, kBlockSize, D, rows, flashinfer::QKVLayout::kHND, const_cast<T*>(tensors.k),
      const_cast<T*>(tensors.v), const_cast<int32_t*>(tensors.tables), const_cast<int32_t*>(table),
      /*last_page_len=*/nullptr);
  params.group_size = flashinfer::uint_fastdiv(tensors.query_heads / tensors.kv_heads);
  params.num_qo_heads = tensors.query_heads;
  params.q_stride_n = static_cast<int32_t>(tensors.q_stride);
  params.q_stride_h = D;
  params.window_left = -1;
  params.sm_scale = tensors.scale;
  return params;
}

template <typename Traits, typename Params>
void launch_flash(const Params& params, int32_t work, int32_t kv_heads, cudaStream_t stream) {
  static_assert(!Traits::IsInvalid(), "a tile FlashInfer has no registers for");
  constexpr size_t kShared = sizeof(typename Traits::SharedStorage);
  const auto kernel = flashinfer::BatchPrefillWithPagedKVCacheKernel<Traits, Params>;
  CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared));
  kernel<<<dim3(work, 1, kv_heads), dim3(32, Traits::NUM_WARPS_Q, Traits::NUM_WARPS_KV), kShared,
           stream>>>(params);
  CUDA_CHECK_LAUNCH("FlashInfer's paged prefill");
}

}  // namespace

template <typename T, int D>
void decode_pieces(const DenseTensors<T>& tensors, const DecodePieces& pieces,
                   cudaStream_t stream) {
  // Two blocks a multiprocessor of 164 KB and more hold K and V of 64 KB.
  constexpr int kTile = 16, kKvTiles = 256 / D;
  auto params = flash_params<T, float, D>(tensors, pieces.rows, pieces.table);
  params.row_context = pieces.context;
  params.q_indptr = const_cast<int32_t*>(pieces.token);
  params.o_indptr = const_cast<int32_t*>(pieces.part);
  params.request_indices = const_cast<int32_t*>(pieces.row);
  params.qo_tile_indices = const_cast<int32_t*>(pieces.zero);
  params.kv_tile_indices = const_cast<int32_t*>(pieces.chunk);
  params.block_valid_mask = reinterpret_cast<bool*>(const_cast<uint8_t*>(pieces.valid));
  params.kv_chunk_size_ptr = const_cast<int32_t*>(pieces.chunk_tokens);
  params.partition_kv = true;
  params.o = pieces.values;
  params.lse = pieces.lse;
  launch_flash<FlashTraits<T, float, D, kTile, kKvTiles, flashinfer::MaskMode::kNone>>(
      params, pieces.pieces, tensors.kv_heads, stream);
}

template <typename T, int D>
void prefill_ampere(const DenseTensors<T>& tensors, const PrefillTiles& tiles,
                    cudaStream_t stream) {
  constexpr int kTile = ampere_tile(D), kKvTiles = D == 256 ? 2 : 4;
  auto params = flash_params<T, T, D>(tensors, tiles.rows, tiles.table);
  params.row_tokens = tiles.tokens;
  params.row_context = tiles.context;
  params.q_indptr = const_cast<int32_t*>(tiles.first);
  params.o_indptr = const_cast<int32_t*>(tiles.first);
  params.request_indices = const_cast<int32_t*>(tiles.row);
  params.qo_tile_indices = const_cast<int32_t*>(tiles.tile);
  params.kv_tile_indices = const_cast<int32_t*>(tiles.zero);
  params.kv_chunk_size_ptr = const_cast<int32_t*>(tiles.zero);
  params.o = tensors.out;
  launch_flash<FlashTraits<T, T, D, kTile, kKvTiles, flashinfer::MaskMode::kCausal>>(
      params, tiles.tiles, tensors.kv_heads, stream);
}

}  // namespace spotlight::gpu
