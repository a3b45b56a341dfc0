// What the draw of one row needs on a GPU: its parameters and its edits, made on the host from the
// same task that run_logits_task takes, uploaded with the step. Edits are the few logits that bias,
// bans and penalties change, sorted by token, so that a block finds those of its range.
#pragma once

#include <cstdint>
#include <vector>

#include "sampling/sampling.h"

namespace spotlight::gpu {

// One change of one logit. Several biases of one token stand side by side, in order; the last of
// them carries the rest.
struct alignas(16) LogitEdit {
  int32_t token = 0;
  float bias = 0.f;
  int32_t drawn = 0;  // times
  int32_t flags = 0;  // kEdit...
};
enum : int32_t { kEditBanned = 1, kEditRepeated = 2 };

struct alignas(16) DrawRow {
  uint64_t seed = 0;
  int64_t position = 0;  // of the drawn token
  uint32_t choice = 0;
  int32_t seat = -1;      // -1: nothing is drawn (padding, or a row scored only)
  float inverse = 1.f;    // 1 / temperature
  int32_t greedy = 0;     // temperature is 0
  float log_min_p = 0.f;  // of the cut below the greatest logit; 0 and min_p off: see has_min_p
  int32_t has_min_p = 0;
  int32_t top_k = 0;  // 0: off
  float top_p = 1.f;  // >= 1: off
  float repetition = 1.f, frequency = 0.f, presence = 0.f;
  int32_t edit_begin = 0, edit_end = 0;  // of the step's edits
  int32_t padding[3] = {};
};

// Appends the task's edits to `edits`. A task without params gives a row that draws nothing.
DrawRow make_draw_row(const LogitsTask& task, int32_t vocab, std::vector<LogitEdit>& edits);

}  // namespace spotlight::gpu
