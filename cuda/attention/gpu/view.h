// What attention kernels on a GPU are given: raw device pointers and plain numbers, no owner and no
// stream. Kernels work on queries, not on rows of a batch: a query is one token with its own causal
// limit, so a decode step, a recompute of many generated tokens and sparse_rows are one case. All
// that depends on lengths is read from device memory and grids are fixed by `count` alone, so that
// a captured graph serves every context.
#pragma once

#include <cstdint>

#include "attention/backend.h"

namespace spotlight::gpu {

// The block pool of one layer. T is a 16-bit float: bf16, or fp16 when selected.
template <typename T>
struct Cache {
  T* k = nullptr;       // [blocks, kv_heads, 64, head_dim], post-RoPE
  T* v = nullptr;       // [blocks, kv_heads, 64, head_dim]
  T* mean_k = nullptr;  // [blocks, kv_heads, head_dim], written when a block's last token arrives
  T* mean_v = nullptr;  // [blocks, kv_heads, head_dim]
  uint32_t* codes[kPlanes] = {};  // [blocks, kv_heads, 64, code_words], as KvArena has them
  int32_t kv_heads = 0, query_heads = 0, head_dim = 0, code_words = 0;
};

// The packed tokens of a step. Padding of a graph's bucket has seat -1 and is left alone.
struct Tokens {
  const int32_t* position = nullptr;  // [count] absolute
  const int32_t* seat = nullptr;      // [count] row of `tables`, -1: padding
  const int32_t* tables = nullptr;    // [seats, table_stride]; entry p / 64 holds position p
  int32_t table_stride = 0;
  int32_t count = 0;
};

enum QueryMode : int32_t { kQueryNone = 0, kQueryDense = 1, kQuerySparse = 2, kQueryTail = 3 };

// How one query attends in one layer: its policy resolved for its context by the host
// (attention/policy.h, spotlight/select/select.h), so that both devices count alike.
struct alignas(16) Query {
  int32_t token = 0;  // index into the step's packed tokens; q and out are indexed by it
  int32_t mode = kQueryNone;
  int32_t context = 0;  // tokens it sees, itself included
  int32_t k = 0;  // tokens selected a KV head, sink and recent among them; < context if sparse
  int32_t sink = 0, recent = 0;
  int32_t plane = 0;
  int32_t seat = -1;
};

// How the work of a query is cut into pieces: of the score kernel for CTAs, of the attend kernel
// for teams of CTAs; made on the host by plan_queries (gpu/retrieval.h). Pieces are counted a
// virtual head: a KV head and selection.
struct alignas(16) QueryShare {
  int32_t score_start = 0, score_pieces = 0;  // pieces of the queries before; own
  // Blocks of a stretch, which a piece of the score kernel counts by itself; stretches of a piece.
  int32_t stretch = 0, stretches = 0;
  int32_t score_slot = 0;                       // stretches before that are one of several
  int32_t attend_start = 0, attend_pieces = 0;  // as for score
  int32_t attend_slot = 0;                      // pieces before that are one of several
};

// The queries of one layer that the Spotlight kernels serve.
struct Queries {
  const Query* list = nullptr;  // [count], padding has mode kQueryNone
  int32_t count = 0;
  // Blocks of the queries before query i, [count + 1]: a fixed grid finds its share of the work by
  // it. Query i spans block_start[i + 1] - block_start[i] = ceil(context / 64) blocks; padding 0.
  const int32_t* block_start = nullptr;
  const QueryShare* shares = nullptr;  // [count + 1], the last has the sums
};

// One linear-asym artifact's weights of one layer, bf16 (what an artifact has in more bits is
// rounded when it is loaded), 16-byte aligned, as the artifact orders them. mlp has a struct of its
// own.
struct LinearAsymWeights {
  const void* key = nullptr;    // [kv_heads, head_dim, bits]
  const void* query = nullptr;  // [query_heads, head_dim, bits]
  int32_t bits = 0;
};
struct MlpWeights {
  const void* w1 = nullptr;   // [query_heads, head_dim, hidden]
  const float* b1 = nullptr;  // [query_heads, hidden]
  const void* w2 = nullptr;   // [query_heads, hidden, bits]
  const float* b2 = nullptr;  // [query_heads, bits]
  int32_t bits = 0, hidden = 0;
};
enum EncoderKind : int32_t { kNoEncoder = 0, kLinearAsym = 1, kMlp = 2 };
// What a code plane carries in one layer; read from device memory (the slot table), so that a flip
// or a load changes no captured graph.
struct LayerEncoder {
  int32_t kind = kNoEncoder;  // kNoEncoder: no artifact, or it has no codes of this layer
  LinearAsymWeights linear;
  MlpWeights mlp;
};

// A query's code as the score kernel reads it. linear-asym: one selection a KV head, planes sign,
// then magnitude bits of weight 1, 2, 4 of the quantised group sum. mlp: one selection a query
// head, one plane (sign). Words of one plane are contiguous: [queries, kv_heads, selections,
// planes, words].
inline constexpr int32_t kLinearAsymPlanes = 4;
inline constexpr int32_t kMlpPlanes = 1;

}  // namespace spotlight::gpu
