// What a caller leaves open, settled before an engine is made: the model's file, how many threads,
// how many blocks a number of bytes holds. Blocks may stay 0: the device then takes what it has.
#pragma once

#include <memory>

#include "engine/options.h"
#include "model/weights.h"

namespace spotlight {

// Throws any of the loaders' errors, INVALID_ARGUMENT for another kind.
std::unique_ptr<WeightFile> open_model(const ModelSource& source);

// Throws INVALID_ARGUMENT naming the option.
EngineOptions resolved(EngineOptions options, const ModelConfig& config);

}  // namespace spotlight
