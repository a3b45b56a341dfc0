// How long a step of training takes on a GPU, and how much of its memory: a model's shape with
// random weights, texts of random tokens. One JSON object a run; memory is what the device has less
// than before, so nothing else may use it meanwhile.
//
// train_gpu_train_cuda_bench [--model qwen2.5-7b] [--seq 8192] [--steps 3] [--updates 1]
//                            [--encoder linear-asym | mlp]
#include <cuda_runtime_api.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "train/trainer.h"

namespace spotlight::train {
namespace {

double used_gigabytes(size_t before) {
  size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  return static_cast<double>(before - free) / 1e9;
}

int run(int argc, char** argv) {
  TrainerOptions options;
  options.model.kind = "dummy";
  options.model.path = "qwen2.5-7b";
  options.device = "cuda";
  options.recipe.steps = 1000;
  int steps = 3;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    if (flag == "--model") options.model.path = argv[i + 1];
    if (flag == "--seq") options.recipe.sequence = std::atoi(argv[i + 1]);
    if (flag == "--steps") steps = std::atoi(argv[i + 1]);
    if (flag == "--updates") options.recipe.updates = std::atoi(argv[i + 1]);
    if (flag == "--encoder" && argv[i + 1] == std::string("mlp")) {
      options.recipe.encoder = CodeKind::kMlp;
      options.recipe.query_gamma = 64;
    }
  }
  options.model.max_model_len = options.recipe.sequence;
  cudaFree(nullptr);  // the context's own memory is there before and after
  size_t before = 0, total = 0;
  cudaMemGetInfo(&before, &total);
  const auto trainer = make_trainer(options);
  std::vector<int32_t> tokens(static_cast<size_t>(options.recipe.sequence));
  uint64_t state = 1;
  double seconds = 0, capture = 0;
  for (int s = 0; s <= steps; s++) {  // the first loads kernels and learns the order of weights
    for (int32_t& token : tokens) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      token = static_cast<int32_t>((state >> 33) %
                                   static_cast<uint64_t>(trainer->file().config().vocab));
    }
    const auto start = std::chrono::steady_clock::now();
    const auto report = trainer->step(tokens);
    if (s == 0) continue;
    seconds +=
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / steps;
    capture += report->capture_seconds / steps;
  }
  const bool mlp = options.recipe.encoder == CodeKind::kMlp;
  std::printf(
      "{\"model\": \"%s\", \"device\": \"%s\", \"encoder\": \"%s\", \"tokens\": %d, "
      "\"updates\": %d, \"seconds_a_step\": %.4f, \"capture_seconds\": %.4f, "
      "\"gigabytes\": %.2f}\n",
      options.model.path.c_str(), trainer->device_name().c_str(), mlp ? "mlp" : "linear-asym",
      options.recipe.sequence, options.recipe.updates, seconds, capture, used_gigabytes(before));
  return 0;
}

}  // namespace
}  // namespace spotlight::train

int main(int argc, char** argv) {
  try {
    return spotlight::train::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
