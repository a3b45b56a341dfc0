// Scores on the GPU: every candidate of every sparse query against the query's code, counted
// exactly and kept where they may matter. Scores below a guess of the threshold (a little under the
// last step's) are counted but not kept: at a 2% budget that saves nine tenths of the writes and
// all but a few of the reads of the attend kernel, which scores again what it misses when a guess
// was too high. So the guess decides how fast a step is, never what it selects.
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
  // [seats, virtual_heads] of this layer: the last threshold in units of the query code's norm, 0:
  // none yet. Zeroed once by its owner; any value is right. Null: no guess, everything is kept.
  const float* carried = nullptr;
  Workspace workspace;
};

// One launch, with programmatic dependent launch where the device has it. queries, tables and
// query_codes' address must be in place before the launch before this one began; what that launch
// writes (query codes, codes of new tokens) is waited for.
void score(cudaStream_t stream, const ScoreOp& op);
// The same by the obvious kernel: every score kept, one thread a token. For tests and to compare
// with.
void score_naive(cudaStream_t stream, const ScoreOp& op);

}  // namespace spotlight::gpu
