// The backend with codes: dense rows, dense layers and retrieval in one mixed batch.
#pragma once

#include <memory>

#include "attention/backend.h"

namespace spotlight {

std::unique_ptr<Backend> make_spotlight_backend();

}  // namespace spotlight
