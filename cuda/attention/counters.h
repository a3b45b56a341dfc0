// What attention did since the engine started; summed by the step's threads with relaxed atomics.
#pragma once

#include <atomic>
#include <cstdint>

namespace spotlight {

struct AttentionCounters {
  std::atomic<int64_t> selected_tokens{
      0};  // over sparse layers, selections (KV heads; query heads with mlp) and query tokens
  std::atomic<int64_t> context_tokens{0};  // tokens those selections chose from
  // Rows of the generated phase, each counted once a step: by what its first non-dense layer did
  // with the row's last token.
  std::atomic<int64_t> dense_fallback_rows{0};
  std::atomic<int64_t> sparse_rows{0};
};

}  // namespace spotlight
