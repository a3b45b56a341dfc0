// FlashInfer's FlashAttention 3 over pages, causal, every tile with its own row: K and V are
// gathered page by page through the block table while Q comes by the bulk copy engine.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <flashinfer/attention/hopper/prefill_sm90.cuh>
#include <flashinfer/attention/hopper/variants.cuh>
#include <flashinfer/attention/mask.cuh>
#include <flashinfer/cutlass_utils.cuh>

#include "attention/backend.h"
#include "attention/dense/gpu/launch.h"
#include "device/cuda/runtime/cuda_error.h"

namespace spotlight::gpu {
namespace {

// The fields FlashInfer reads of its BatchPrefillPagedParams, under a name of our own: its two
// generations of kernels have different structs of one name.
template <typename T, typename Element>
struct HopperParams {
  using DTypeQ = Element;
  using DTypeKV = Element;
  using DTypeO = Element;
  using IdType = int32_t;
  Element *q_ptr, *k_ptr, *v_ptr, *o_ptr;
  float* lse_ptr;
  int32_t *qo_tile_indices, *qo_indptr, *kv_indptr, *kv_indices, *qo_lens, *kv_lens, *head_indices,
      *work_indptr, *batch_indices;
  struct AdditionalParams {
    float logits_soft_cap;
    float sm_scale;
  } additional_params;
  int64_t q_stride_n, k_stride_n, v_stride_n, o_stride_n;
  int64_t q_stride_h, k_stride_h, v_stride_h, o_stride_h;
  int64_t nnz_qo;
  int64_t k_page_stride, v_page_stride;
  int num_qo_heads, num_kv_heads, group_size, page_size, window_left;
  bool causal;
};

template <typename T>
struct CutlassType;
template <>
struct CutlassType<__nv_bfloat16> {
  using type = cutlass::bfloat16_t;
};
template <>
struct CutlassType<__half> {
  using type = cutlass::half_t;
};

}  // namespace

template <typename T, int D>
void prefill_hopper(const DenseTensors<T>& tensors, const PrefillWork& work, cudaStream_t stream) {
  using Element = typename CutlassType<T>::type;
  const auto element = [](const T* pointer) {
    return reinterpret_cast<Element*>(const_cast<T*>(pointer));
  };
  const auto list = [](const int32_t* pointer) { return const_cast<int32_t*>(pointer); };
  HopperParams<T, Element> params{};
  params.q_ptr = element(tensors.q);
  params.k_ptr = element(tensors.k);
  params.v_ptr = element(tensors.v);
  params.o_ptr = element(tensors.out);
  params.qo_tile_indices = list(work.tile);
  params.qo_indptr = list(work.first);
  params.kv_indptr = list(work.table);
  params.kv_indices = list(tensors.tables);
  params.qo_lens = list(work.tokens);
  params.kv_lens = list(work.context);
  params.head_indices = list(work.head);
  params.work_indptr = list(work.work_start);
  params.batch_indices = list(work.row);
  params.additional_params.sm_scale = tensors.scale;
  params.q_stride_n = tensors.q_stride;
  params.q_stride_h = D;
  params.o_stride_n = int64_t{tensors.query_heads} * D;
  params.o_stride_h = D;
  params.k_stride_n = params.v_stride_n = D;
  params.k_stride_h = params.v_stride_h = int64_t{kBlockSize} * D;
  params.k_page_stride = params.v_page_stride = int64_t{tensors.kv_heads} * kBlockSize * D;
  params.nnz_qo = tensors.tokens;
  params.num_qo_heads = tensors.query_heads;
  params.num_kv_heads = tensors.kv_heads;
  params.group_size = tensors.query_heads / tensors.kv_heads;
  params.page_size = kBlockSize;
  params.window_left = -1;
  params.causal = true;
  CUDA_CHECK((flashinfer::BatchPrefillWithPagedKVCacheDispatched<
              D, D, flashinfer::MaskMode::kCausal, /*LEFT_SLIDING_WINDOW=*/false,
              /*SAME_SCHEDULE_FOR_ALL_HEADS=*/false, flashinfer::StandardAttention>(
      params, /*enable_pdl=*/false, stream)));
}

}  // namespace spotlight::gpu
