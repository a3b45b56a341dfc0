// Which weights a config needs, with their shapes and their names in each file format: the one list
// that both file loaders fill, the dummy generates and nothing else repeats.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/config.h"

namespace spotlight {

enum class WeightKind { kMatrix, kNorm, kBias };

struct PlannedWeight {
  std::string name;          // the project's
  std::string gguf;          // the tensor's name in a GGUF file
  std::string hugging_face;  // and in a Hugging Face folder
  WeightKind kind = WeightKind::kMatrix;
  int64_t rows = 0;  // 1 for a vector
  int64_t cols = 0;
};

// In the order of the forward pass. The config must have passed validate().
std::vector<PlannedWeight> plan_weights(const ModelConfig& config);

}  // namespace spotlight
