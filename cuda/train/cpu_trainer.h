// The trainer on the CPU: for small models and tests.
#pragma once

#include <memory>

#include "train/trainer.h"

namespace spotlight::train {

std::unique_ptr<Trainer> make_cpu_trainer(std::unique_ptr<WeightFile> file, const Recipe& recipe,
                                          int32_t threads);

}  // namespace spotlight::train
