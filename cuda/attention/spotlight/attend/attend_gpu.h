// Attention of queries on the GPU: select (exact, ties to the newest), gather the selected tokens'
// K and V, the open block and the tail, softmax and output, in one launch after score(). Dense
// queries take the same way with every token selected. What a query selects is the CPU's choice
// bit for bit; which CTA reads which rows follows from that alone, so outputs are the same every
// run.
#pragma once

#include "attention/gpu/retrieval.h"

struct CUstream_st;
typedef struct CUstream_st* cudaStream_t;

namespace spotlight::gpu {

template <typename T>
struct AttendOp {
  Cache<T> cache;
  const int32_t* tables = nullptr;  // as in Tokens
  int32_t table_stride = 0;
  Queries queries;
  const T* q = nullptr;  // [tokens, query_heads, head_dim] post-RoPE, 16-byte aligned
  T* out = nullptr;      // alike
  int64_t q_stride = 0, out_stride = 0;  // elements from one token to the next, multiples of 8
  // null, or [B] (see Workspace): the selected tokens of every block of every sparse query and
  // virtual head, one bit a token; the open block's tokens that are only read besides are not among
  // them.
  uint64_t* trace = nullptr;
  bool scored = true;  // score() is the launch before; false: every query is dense
  Workspace workspace;
};

// T: __nv_bfloat16 or __half. One launch, with programmatic dependent launch where the device has
// it, right after score() on the same stream with the same queries and workspace. q, K, V,
// summaries and tables must have been written before score() was allowed to read.
template <typename T>
void attend(cudaStream_t stream, const AttendOp<T>& op);
// The same by the obvious kernel, after score_naive: one CTA a query and virtual head, thresholds
// by counting down, token after token. For tests and to compare with.
template <typename T>
void attend_naive(cudaStream_t stream, const AttendOp<T>& op);

}  // namespace spotlight::gpu
