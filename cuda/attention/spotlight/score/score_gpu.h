// Scores on the GPU: every candidate of every sparse query against the query's code, counted and
// kept. Keeping only what lies above a guess of the threshold (the last step's) writes less, but a
// guess that is too high has to be paid for by scoring again, and that cost more than it saved.
#pragma once

#include "attention/gpu/retrieval.h"

struct CUstream_st;
typedef struct CUstream_st* cudaStream_t;

namespace spotlight::gpu {

struct ScoreOp {
  const uint32_t* codes[kPlanes] = {};  // as in Cache
  int32_t code_words = 0;
  const int32_t* tables = nullptr;  // as in Tokens
  int32_t table_stride = 0;
  Queries queries;
  // [queries, kv_heads, selections, planes, words], see view.h; 16-byte aligned.
  const uint32_t* query_codes = nullptr;
  Workspace workspace;
};

// One launch, with programmatic dependent launch where the device has it. queries, tables and
// query_codes' address must be in place before the launch before this one began, and so must codes,
// but for those of each query's newest token; what that launch writes is waited for.
void score(cudaStream_t stream, const ScoreOp& op);
// The same by the obvious kernel: one thread a token. For tests and to compare
// with.
void score_naive(cudaStream_t stream, const ScoreOp& op);

}  // namespace spotlight::gpu
