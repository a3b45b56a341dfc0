// What the score kernel and the attend kernel share: the shape they are made for, the plan that
// cuts a step's queries into pieces of work, and the memory between them. The plan is made on the
// host from numbers alone, so that a kernel finds its piece with one look-up and a captured graph
// serves every plan. at_least and arrived are left as
// they were found: zeroed once, they serve every later launch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "attention/gpu/view.h"

namespace spotlight::gpu {

struct RetrievalShape {
  int32_t query_heads = 0, kv_heads = 0, head_dim = 0;
  EncoderKind encoder = kNoEncoder;  // kNoEncoder: every query is dense
  int32_t bits = 0;                  // of one selection's code, a multiple of 32
  int32_t max_queries = 0;           // most queries of one launch, padding included
  int32_t max_blocks = 0;            // most blocks of one launch, over all its queries
  int32_t multiprocessors = 0;       // of the device
  int32_t capability = 0;            // of the device, 10 * major + minor

  // constexpr: device code calls them, too.
  constexpr int32_t selections() const { return encoder == kMlp ? query_heads / kv_heads : 1; }
  constexpr int32_t virtual_heads() const { return kv_heads * selections(); }
  constexpr int32_t shared_heads() const {
    return query_heads / virtual_heads();
  }  // of one selection
  constexpr int32_t words() const { return bits / 32; }
  constexpr int32_t magnitudes() const { return encoder == kMlp ? 0 : 3; }
  // Words of a query's code for one selection.
  constexpr int32_t query_words() const { return (1 + magnitudes()) * words(); }
  // Scores lie in [0, bins).
  constexpr int32_t bins() const { return (encoder == kMlp ? 1 : 7) * bits + 1; }
  // Counters a histogram takes, whole 16 bytes, the last one always 0.
  constexpr int32_t histogram() const { return (bins() + 4) & ~3; }
  // Most stretches of the score kernel and most pieces of the attend kernel that are one of
  // several, over all virtual heads.
  constexpr int32_t stretch_slots() const { return 16 * multiprocessors; }
  constexpr int32_t slots() const { return 4 * multiprocessors; }
};

// Device memory of a shape. B is a block's place among those of all queries and virtual heads:
// virtual_heads * block_start[i] + virtual_head * blocks of query i + block. A unit is a query and
// virtual head, i * virtual_heads + virtual_head.
struct Workspace {
  RetrievalShape shape;
  // [B, 32] scores of a block's tokens i (low half) and i + 32, whatever is no candidate included.
  uint32_t* scores = nullptr;
  uint32_t* at_least = nullptr;     // [units, histogram()] candidates with at least that score
  uint32_t* at_least_of = nullptr;  // [stretch_slots(), histogram()] the same of one stretch
  uint32_t* arrived = nullptr;      // [units] pieces that are through
  float* partials = nullptr;        // [slots(), 32 + shared_heads * head_dim]
};

// Bytes of the memory behind a workspace, which is zeroed once by its owner. Throws
// MODEL_UNSUPPORTED for a shape the kernels do not take.
size_t workspace_bytes(const RetrievalShape& shape);
Workspace make_workspace(const RetrievalShape& shape, void* memory);

// The first stretch of piece `within` of all virtual heads' in Workspace::at_least_of.
constexpr int64_t stretch_slot(const QueryShare& share, int32_t heads, int32_t within) {
  return int64_t{heads} * share.score_slot + int64_t{within} * share.stretches;
}

// Fills block_start and shares [count + 1 each] for `count` queries. Throws INVALID_ARGUMENT for
// more queries or blocks than the shape has room for: the caller runs them in slices.
void plan_queries(const RetrievalShape& shape, const Query* list, int32_t count,
                  int32_t* block_start, QueryShare* shares);

}  // namespace spotlight::gpu
