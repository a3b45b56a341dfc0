// Hash: append and query codes of a decode step in one launch a layer, for few tokens of which no
// two are of one row of the batch. The same bits as append/ and query/ together; on sm_90 a
// cluster a KV head, so that every query head's weights stream through a multiprocessor of their
// own and the group's sum never leaves the chip.
#pragma once

#include <cstdint>

#include "attention/spotlight/append/append.h"
#include "attention/spotlight/query/query_code.h"

namespace spotlight::gpu {

// Preconditions as in AppendOp and QueryOp, and: at most one token a seat, at most one query a
// token.
template <typename T>
struct HashOp {
  Cache<T> cache;
  Tokens tokens;
  Queries queries;
  T* q = nullptr;  // [count, query_heads, head_dim]: before RoPE, and after it when this is done
  const T* k = nullptr;  // [count, kv_heads, head_dim] before RoPE
  const T* v = nullptr;  // [count, kv_heads, head_dim]
  int64_t q_stride = 0, k_stride = 0, v_stride = 0;
  const float* angles = nullptr;           // [count, head_dim], of make_angles
  const LayerEncoder* encoders = nullptr;  // [kPlanes] in device memory
  QueryCodes codes;
};

// programmatic: this launch may begin before the one in front of it in `stream` has ended (it reads
// q, k, v and angles, and writes, only after that end), and lets the next one begin early. What it
// reads before: tokens, queries, encoders and weights, which thus must have been written before the
// launch in front began. Before sm_90 it means nothing.
template <typename T>
void hash(cudaStream_t stream, const HashOp<T>& op, bool programmatic);

}  // namespace spotlight::gpu
