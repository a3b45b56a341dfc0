// The backend of an evaluation engine: rows that ask for a selector take the generic path, all
// others what the spotlight backend gives them.
#pragma once

#include <memory>

#include "attention/backend.h"

namespace spotlight {

std::unique_ptr<Backend> make_selector_backend();

}  // namespace spotlight
