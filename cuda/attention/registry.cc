// Backends by name.
#include "attention/backend.h"
#include "attention/dense/dense_backend.h"
#include "attention/selectors/selector_backend.h"
#include "attention/spotlight/spotlight_backend.h"
#include "error.h"

namespace spotlight {

std::unique_ptr<Backend> make_backend(const std::string& name, bool selectors) {
  if (selectors) return make_selector_backend();
  if (name == "dense") return make_dense_backend();
  if (name == "spotlight") return make_spotlight_backend();
  throw Error(kInvalidArgument,
              "attention backend must be dense or spotlight, not \"" + name + "\"");
}

}  // namespace spotlight
