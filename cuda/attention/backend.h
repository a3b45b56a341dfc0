// Attention backends as plugins: what one caches per block, and how it appends, attends and
// rehashes on a device. This is the seam between the step (engine, device) and the kernels. A
// backend is called by every thread of a team at once (one ggml custom op a layer), divides the
// work by itself and may use the team's barrier: splitting a layer into several graph nodes would
// cost more than the attention does at decode.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "artifact/artifact.h"
#include "attention/team.h"

namespace spotlight {

inline constexpr int kBlockSize = 64;
inline constexpr int kPlanes = 2;
using half_bits = uint16_t;  // IEEE binary16

// Arenas of the block pool in host memory. A block id indexes every arena alike; planes are arenas
// of their own.
struct KvArena {
  int32_t layers = 0, blocks = 0, kv_heads = 0, head_dim = 0;
  int32_t code_words = 0;  // 32-bit words of one token's code for one KV head
  half_bits* k = nullptr;  // [layers, blocks, kv_heads, 64, head_dim]
  half_bits* v = nullptr;  // [layers, blocks, kv_heads, 64, head_dim]
  half_bits* mean_k =
      nullptr;  // [layers, blocks, kv_heads, head_dim], written when the block's last token arrives
  half_bits* mean_v = nullptr;  // [layers, blocks, kv_heads, head_dim]
  uint32_t* codes[kPlanes] =
      {};  // [layers, blocks, kv_heads, 64, code_words]; bit j of word w is z[32 w + j] > 0

  size_t head_block(int layer, int block, int head) const {
    return (static_cast<size_t>(layer) * blocks + block) * kv_heads + head;
  }
  half_bits* k_block(int layer, int block, int head) const {
    return k + head_block(layer, block, head) * kBlockSize * head_dim;
  }
  half_bits* v_block(int layer, int block, int head) const {
    return v + head_block(layer, block, head) * kBlockSize * head_dim;
  }
  half_bits* mean_k_at(int layer, int block, int head) const {
    return mean_k + head_block(layer, block, head) * head_dim;
  }
  half_bits* mean_v_at(int layer, int block, int head) const {
    return mean_v + head_block(layer, block, head) * head_dim;
  }
  uint32_t* codes_block(int plane, int layer, int block, int head) const {
    return codes[plane] + head_block(layer, block, head) * kBlockSize * code_words;
  }
};

enum class LayerMode : uint8_t { kDense, kSparse, kSparseTail };

// One layer's resolved settings for one sequence (deployment, artifact and request overrides
// already merged).
struct LayerPolicy {
  LayerMode mode = LayerMode::kDense;
  float fraction = 0.02f;    // of the context, a KV head
  int32_t min_tokens = 256;  // k = max(min_tokens, floor(fraction * context)), at most context
  int32_t sink = 4;          // first tokens, always selected, inside k
  int32_t recent = 64;  // newest tokens, always selected, inside k; the open block is read besides
  int32_t crossover = 0;  // contexts shorter than this attend densely
  // An evaluation method (selectors/selector.h) that chooses instead of the plane's codes; null:
  // the codes.
  const class Selector* selector = nullptr;
};

// Tokens retrieved a KV head for a query that sees `context` tokens (itself included).
int32_t budget(const LayerPolicy& policy, int32_t context);

// How a selection compares with the exact top-k of as many tokens. A layer that attends densely has
// 1s.
struct Quality {
  float iou = 0;        // |selected and best| / |selected or best|
  float kept_mass = 0;  // softmax mass of full attention on what was selected, mean over the group
  float best_mass = 0;  // ... on the best as many tokens
};

// A wish for the quality of a row's last token: of one layer and KV head, or (-1) of all.
struct QualityProbe {
  int32_t layer = -1, kv_head = -1;
  std::vector<Quality> results;  // [layers * kv_heads], those asked for are written
  bool wants(int32_t l, int32_t head) const {
    return (layer < 0 || layer == l) && (kv_head < 0 || kv_head == head);
  }
};

// Some consecutive tokens of one sequence in a step.
struct RowView {
  const int32_t* block_table = nullptr;  // block ids; entry p / 64 holds position p
  int32_t blocks = 0;                    // entries of block_table
  int32_t seat = 0;    // of the sequence: where a device keeps what outlives the step
  bool seated = true;  // false: the sequence's first row, the seat holds another's remains
  int32_t first = 0;   // the row's first token in the step's packed tokens
  int32_t tokens = 0;
  int32_t position = 0;    // absolute position of the first token
  bool generated = false;  // phase: false attends densely, true by policy, each token with its own
                           // causal limit and block closure
  int32_t plane = 0;       // the code plane this row scores with
  const LayerPolicy* policies = nullptr;  // [layers]
  std::vector<int32_t>* trace = nullptr;  // [layers * kv_heads] or null: ascending positions
                                          // selected for the row's last token
  QualityProbe* quality = nullptr;        // or null; a row that has one has a trace, too
};

// One layer of one step. Tokens of all rows are packed; strides are in floats.
struct LayerIo {
  int32_t layer = 0;
  const float* q = nullptr;  // [tokens, query_heads, head_dim] post-RoPE
  const float* k = nullptr;  // [tokens, kv_heads, head_dim] post-RoPE
  const float* v = nullptr;  // [tokens, kv_heads, head_dim]
  float* out = nullptr;      // [tokens, query_heads, head_dim]
  int64_t q_stride = 0, k_stride = 0, v_stride = 0, out_stride = 0;  // a token
};

// Counters of a step, summed over layers, KV heads and rows; relaxed atomics inside.
struct AttentionCounters;

// What an attention step needs besides the rows: one per engine, reused every step.
struct AttentionContext {
  KvArena* arena = nullptr;
  int32_t query_heads = 0;
  const class Encoder* encoders[kPlanes] = {};  // null: the plane carries no artifact
  AttentionCounters* counters = nullptr;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual const char* name() const = 0;
  // Bytes of scratch each thread of a team needs for steps of up to max_tokens tokens over contexts
  // of up to max_context, and bytes the team shares.
  virtual size_t thread_scratch(const AttentionContext& context, int32_t max_context) const = 0;
  virtual size_t team_scratch(const AttentionContext& context, int32_t max_tokens,
                              int32_t max_context) const = 0;
  // Stores K and V of all rows, summaries of blocks that close, and codes in every plane that has
  // an encoder. Codes derive from the stored (rounded) K, so that a rehash gives the same bits.
  // Called by all threads, after a barrier; attend() stands the one that makes it visible to all.
  virtual void append(const AttentionContext& context, const LayerIo& io, const RowView* rows,
                      int32_t row_count, Team& team) = 0;
  // Attention of all rows over what append stored. Called by all threads.
  virtual void attend(const AttentionContext& context, const LayerIo& io, const RowView* rows,
                      int32_t row_count, Team& team) = 0;
};

// Turns keys and queries into codes for one artifact; immutable and shared by all threads.
class Encoder {
 public:
  virtual ~Encoder() = default;
  virtual bool has_layer(int32_t layer) const = 0;
  virtual int32_t plane_words() const = 0;  // 32-bit words a token and KV head
  virtual int32_t selections() const = 0;   // a KV head's: 1, or one a query head
};
std::unique_ptr<Encoder> make_encoder(const Artifact& artifact, int32_t layers);

// Codes of filled[i] tokens of blocks[i] in every layer, anew from the stored K.
void rehash_blocks(const AttentionContext& context, int32_t plane, const int32_t* blocks,
                   const int32_t* filled, int32_t count, Team& team);

// "dense" stores no codes; "spotlight" serves dense rows, too, so an engine with an artifact runs
// one backend for a mixed batch. With `selectors` it serves rows whose policies name one, besides.
// Throws INVALID_ARGUMENT with the names there are.
std::unique_ptr<Backend> make_backend(const std::string& name, bool selectors = false);

// Instruction sets of the kernels, best first among those this CPU has; "auto" takes the best.
// Throws INVALID_ARGUMENT for one it lacks. Returns the name in force ("avx512", "avx2",
// "portable").
const char* select_isa(const std::string& isa);

}  // namespace spotlight
