// Drawing a token from a row of logits. Order of operations, as vLLM's (each step sees what the one
// before left):
//   1 log-probabilities are of the raw logits, before anything below
//   2 logit bias is added; banned tokens (min_tokens) become -inf
//   3 penalties: repetition over prompt and drawn tokens (x > 0 ? x / r : x * r), then frequency *
//   count, then presence 4 temperature 0: the greatest logit, lowest id on ties. Else logits /
//   temperature, then 5 min-p, top-k, top-p, each over what the one before kept, renormalised;
//   equal logits are kept by lower id 6 inverse CDF over the kept tokens in id order at u =
//   Philox(seed, choice, position)
#pragma once

#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

namespace spotlight {

struct SamplingParams {
  uint64_t seed = 0;
  uint32_t choice = 0;
  float temperature = 1.f;  // >= 0
  int32_t top_k = 0;        // 0 or less: off
  float top_p = 1.f;        // [0, 1]
  float min_p = 0.f;        // [0, 1]
  float presence_penalty = 0.f;
  float frequency_penalty = 0.f;
  float repetition_penalty = 1.f;  // > 0
  std::vector<std::pair<int32_t, float>> logit_bias;
  std::vector<int32_t> banned;  // cannot be drawn at a position below banned_until
  int64_t banned_until = 0;
  int32_t logprobs = -1;  // alternatives reported a drawn token; -1: no log-probabilities
  bool penalises() const {
    return presence_penalty != 0 || frequency_penalty != 0 || repetition_penalty != 1;
  }
};

// Tokens that penalties look at; kept only for sequences that penalise.
struct TokenCounts {
  std::unordered_map<int32_t, int32_t> drawn;
  std::unordered_map<int32_t, int32_t> prompt;
};

// Log-probability of one token and the most likely alternatives, best first.
struct TokenLogprobs {
  int32_t token = -1;
  float logprob = 0.f;
  std::vector<int32_t> top_tokens;
  std::vector<float> top_logprobs;
};

// What one row of logits is for: either or both, and the answers.
struct LogitsTask {
  // Draw (when params is set):
  const SamplingParams* params = nullptr;
  const TokenCounts* counts = nullptr;  // null: no penalty
  int64_t position = 0;                 // of the drawn token
  int32_t seat = 0;                     // of the sequence: where a device keeps its last draw
  int32_t token = -1;                   // out
  TokenLogprobs logprobs;               // out, when params->logprobs >= 0
  // Log-probability of a given token (when target >= 0):
  int32_t target = -1;
  int32_t target_top = 0;
  TokenLogprobs target_logprobs;  // out
  bool finite =
      true;  // out: false when the row held no finite logit or a NaN; nothing is drawn then
};

// Memory of one thread, reused between rows.
struct SamplingScratch {
  std::vector<float> weights, floats, raw;
  std::vector<int32_t> tokens;
};

// Does one task. logits: [vocab], overwritten when the parameters change them.
void run_logits_task(float* logits, int32_t vocab, LogitsTask& task, SamplingScratch& scratch);

}  // namespace spotlight
