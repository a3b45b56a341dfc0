// The backend without codes: stores K and V, attends to everything.
#pragma once

#include <memory>

#include "attention/backend.h"

namespace spotlight {

std::unique_ptr<Backend> make_dense_backend();

}  // namespace spotlight
