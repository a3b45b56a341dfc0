// What one loaded instance of the addon keeps for its JS environment.
#pragma once

#include <napi.h>

#include <memory>
#include <vector>

#include "binding/trainer_object.h"
#include "engine/engine.h"

namespace spotlight {

struct AddonData {
  Napi::FunctionReference engine_class;
  // Every engine made; those that are gone are dropped when the next one comes.
  std::vector<std::weak_ptr<Engine>> engines;
  Napi::FunctionReference trainer_class;
  std::vector<std::weak_ptr<RunningTrainer>> trainers;  // alike
};

}  // namespace spotlight
