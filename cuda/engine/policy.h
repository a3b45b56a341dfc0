// How each layer attends for one sequence: the deployment's settings, a layer's own, then the
// request's, then what the artifact can do. Pure functions of their inputs.
#pragma once

#include <vector>

#include "attention/backend.h"
#include "engine/options.h"

namespace spotlight {

// Throws INVALID_ARGUMENT naming the field. layers: the model's.
// selectors: whether the engine has them.
void validate(const AttentionSettings& settings, int32_t layers, bool selectors = false);
void validate(const AttentionOverride& request, const AttentionSettings& settings, int32_t layers,
              bool selectors = false);
// What the request leaves of the deployment's settings.
AttentionSettings merged(const AttentionSettings& settings, const AttentionOverride& request);

// [layers]. The crossover is settled by then. A layer the encoder has no codes for (or no encoder
// at all) attends densely.
std::vector<LayerPolicy> resolve_policies(const AttentionSettings& settings,
                                          const AttentionOverride& request, int32_t layers,
                                          const Encoder* encoder);

}  // namespace spotlight
