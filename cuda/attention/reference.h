// Whole attention by definition, one query at a time: what the kernels are tested against. Softmax
// in double; codes and scores in the arithmetic that every instruction set shares, so that selected
// positions can be compared exactly.
#pragma once

#include <cstdint>
#include <vector>

#include "attention/backend.h"

namespace spotlight {

// One sequence's keys and values of one layer as the cache holds them (already rounded to
// binary16).
struct ReferenceCache {
  int32_t tokens = 0, kv_heads = 0, query_heads = 0, head_dim = 0;
  std::vector<float> k, v;  // [tokens, kv_heads, head_dim]
  const float* key(int32_t t, int32_t head) const {
    return k.data() + (static_cast<int64_t>(t) * kv_heads + head) * head_dim;
  }
  const float* value(int32_t t, int32_t head) const {
    return v.data() + (static_cast<int64_t>(t) * kv_heads + head) * head_dim;
  }
};

struct ReferenceResult {
  std::vector<float> out;                      // [query_heads, head_dim]
  std::vector<std::vector<int32_t>> selected;  // [kv_heads], ascending, united over the query heads
                                               // of an mlp code; empty where dense
};

// The query at `position` (q [query_heads, head_dim]) attends to everything up to itself.
ReferenceResult reference_dense(const ReferenceCache& cache, const float* q, int32_t position);
// ... or as a generated token under `policy` with the layer's codes.
ReferenceResult reference_sparse(const ReferenceCache& cache, const Artifact& artifact,
                                 int32_t layer, const LayerPolicy& policy, const float* q,
                                 int32_t position);
// Code of one key (mlp: of one query head), bits as +1/-1.
std::vector<int8_t> reference_key_code(const Artifact& artifact, int32_t layer, int32_t query_head,
                                       int32_t kv_head, const float* key);

}  // namespace spotlight
