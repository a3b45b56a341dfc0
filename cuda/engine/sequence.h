// Native state of one sequence. It has two owners that never touch each other's fields: the
// caller's thread plans (what the sequence will hold once all submitted steps have run), the engine
// thread holds (what it holds now).
#pragma once

#include <cstdint>
#include <vector>

#include "attention/backend.h"
#include "engine/options.h"
#include "sampling/sampling.h"

namespace spotlight {

struct Sequence {
  // Fixed at open.
  int32_t id = 0;
  SamplingParams sampling;
  AttentionOverride attention;
  int32_t slot = 0;
  int32_t seat = 0;  // unique among open sequences

  // The caller's thread: the plan.
  bool started = false;
  bool will_have_sample = false;
  int32_t planned_tokens = 0;
  int32_t planned_blocks = 0;

  // The engine thread: the state.
  std::vector<int32_t> block_table;
  size_t given_blocks = 0;  // filled before the first row; their codes may be another artifact's
  std::vector<LayerPolicy> policies;  // [layers], resolved by the first row
  TokenCounts counts;                 // only when the sampling penalises
  int32_t last_token = -1;
  bool seated = false;  // a step of it has been launched
};

}  // namespace spotlight
