// One step as it is asked for and as it is answered, in plain structs. Batches cross from JS as one
// Int32Array (pack.ts has the same layout), since a napi call a field would cost more than the
// step's bookkeeping.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "attention/backend.h"
#include "sampling/sampling.h"

namespace spotlight {

inline constexpr int32_t kLastSample = -1;
inline constexpr int32_t kMaxStepsInFlight = 2;

struct BatchRow {
  int32_t sequence = 0;
  int32_t position = 0;
  bool generated = false;
  bool sample = false;
  bool prompt_logprobs = false;
  bool trace = false;
  bool quality = false;
  int32_t quality_layer = -1, quality_kv_head = -1;  // -1: all
  int32_t top_prompt_logprobs = 0;
  int32_t next_token = -1;
  std::vector<int32_t> tokens;
  std::vector<int32_t> append_blocks;
};

struct Batch {
  std::vector<BatchRow> rows;
  std::vector<std::pair<int32_t, int32_t>> copies;  // from, to
  std::vector<int32_t> close;
};

// Layout: rows, copies, closes; then a row each: sequence, position, flags, tokens, appended, top
// prompt logprobs, next token, layer and KV head of the quality wanted if any is, the tokens, the
// appended blocks; then from, to of each copy; then the closed sequences. Throws INTERNAL when
// lengths disagree.
enum RowFlag : int32_t {
  kRowGenerated = 1,
  kRowSample = 2,
  kRowPromptLogprobs = 4,
  kRowTrace = 8,
  kRowQuality = 16
};
Batch unpack_batch(const int32_t* packed, size_t size);

struct LayerQuality {
  int32_t layer = 0, kv_head = 0;
  Quality quality;
};

struct RowResult {
  int32_t sequence = 0;
  int32_t token = -1;      // -1: nothing drawn
  bool corrupted = false;  // the logits held nothing finite, so nothing was drawn
  std::optional<TokenLogprobs> logprobs;
  std::vector<TokenLogprobs> prompt_logprobs;
  bool has_prompt_logprobs = false;
  std::vector<std::vector<int32_t>> trace;  // [layers * kv_heads], empty unless asked for
  std::vector<LayerQuality> quality;
};

struct StepResult {
  int32_t step = 0;
  double seconds = 0;
  std::vector<RowResult> rows;
};

// A result as two flat arrays (pack.ts unpacks them): a row each: sequence, token, flags, then what
// the flags say there is.
enum ResultFlag : int32_t {
  kResultLogprobs = 1,
  kResultPromptLogprobs = 2,
  kResultTrace = 4,
  kResultCorrupted = 8,
  kResultQuality = 16
};
struct PackedResult {
  std::vector<int32_t> ints;
  std::vector<float> floats;
};
PackedResult pack_result(const StepResult& result);

}  // namespace spotlight
