// A Hugging Face folder's config.json (and generation_config.json) as the project's ModelConfig.
// Defaults are those of the transformers library for each architecture; what the forward pass lacks
// is refused by name.
#pragma once

#include <string>

#include "model/config.h"

namespace spotlight {

// Throws MODEL_NOT_FOUND, MODEL_CORRUPT or MODEL_UNSUPPORTED naming file and field. The result has
// passed validate().
ModelConfig read_hugging_face_config(const std::string& folder);

}  // namespace spotlight
