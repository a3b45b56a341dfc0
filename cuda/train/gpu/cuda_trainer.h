// The trainer on a GPU. The model runs through the CUDA device in bf16; its keys are read where the
// cache keeps them.
#pragma once

#include <memory>

#include "train/trainer.h"

namespace spotlight::train {

// Throws DEVICE_UNAVAILABLE saying what is missing, OUT_OF_MEMORY.
std::unique_ptr<Trainer> make_cuda_trainer(std::unique_ptr<WeightFile> file, const Recipe& recipe,
                                           int32_t threads);

}  // namespace spotlight::train
