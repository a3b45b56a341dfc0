// Pure functions of a layer's policy: how many tokens a query retrieves, and up to which context it
// reads everything.
#pragma once

#include "attention/backend.h"

namespace spotlight {

// Largest context at which a generated token attends to everything (crossover, or a budget that
// covers the context).
int32_t dense_until(const LayerPolicy& policy);

// Throws MODEL_UNSUPPORTED for a shape the kernels do not take, ARTIFACT_MISMATCH for codes wider
// than the plane.
void check_context(const AttentionContext& context);

}  // namespace spotlight
