// Queries on the GPU: RoPE on every token's q in place, and the codes of the queries that select.
// For any number of tokens; decode steps take hash/ instead, which gives the same bits.
#pragma once

#include <cstdint>

#include "attention/gpu/view.h"

struct CUstream_st;
typedef struct CUstream_st* cudaStream_t;

namespace spotlight::gpu {

// Where a query's code for KV head h begins: codes + (query * kv_heads + h) * stride; there its
// [selections, planes, words] lie densely as view.h says. stride is fixed by the host, so that the
// device table may change under a captured graph: at least kLinearAsymPlanes * bits / 32 words and
// query heads a KV head * bits / 32 words for the encoders that may come.
struct QueryCodes {
  uint32_t* words = nullptr;
  int32_t stride = 0;
};

// T: __nv_bfloat16 or __half. q, angles 16-byte aligned, q_stride a multiple of 8; head_dim a
// multiple of 16 up to 256.
template <typename T>
struct QueryOp {
  int32_t query_heads = 0, kv_heads = 0, head_dim = 0;
  T* q = nullptr;  // [count, query_heads, head_dim]: before RoPE, and after it when this is done
  int64_t q_stride = 0;
  const float* angles = nullptr;  // [count, head_dim], of make_angles
  Tokens tokens;
  Queries
      queries;  // of modes kQuerySparse and kQueryTail, codes are made; others' stay as they are
  const LayerEncoder* encoders = nullptr;  // [kPlanes] in device memory
  QueryCodes codes;
};
// Two launches: one turns, the other (where there are queries) encodes.
template <typename T>
void encode_queries(cudaStream_t stream, const QueryOp<T>& op);

}  // namespace spotlight::gpu
