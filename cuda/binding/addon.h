// What one loaded instance of the addon keeps for its JS environment.
#pragma once

#include <napi.h>

namespace spotlight {

struct AddonData {
  Napi::FunctionReference engine_class;
};

}  // namespace spotlight
