// A kernel that traps: the step's end throws with the call's name and CUDA's text, and so does
// everything after it; nothing hangs. A process of its own, since its context is lost.
#include <cstdlib>

#include "device/cuda/cuda_device.h"
#include "device/cuda/runtime/gpu_test.h"
#include "device/test_model.h"
#include "test/check.h"

namespace spotlight {
namespace {

TEST(an_injected_fault_ends_the_device_with_its_name) {
  check::need_gpu();
  setenv("SPOTLIGHT_CUDA_FAULT_AFTER", "2", 1);
  const ModelConfig config = check::small("llama");
  const check::RandomWeights weights(config, check::Rounding::kBf16);
  DeviceOptions options;
  options.config = config;
  options.backend = "dense";
  options.max_tokens = 64;
  options.max_sequences = 4;
  const std::unique_ptr<Device> device = make_cuda_device(options);
  const Transformer model(weights, *device);
  device->open_pool(4);
  const std::vector<int32_t> tokens = {1, 2, 3, 4, 5, 6, 7, 8};
  const std::vector<int32_t> table = {2};
  const auto run = [&](int32_t from) {
    return check::step(*device, model, {{&tokens, from, 1, table}}, false, config.vocab);
  };
  run(0);
  run(1);
  CHECK_THROWS(run(2), "INTERNAL", "cudaError");
  CHECK_THROWS(run(3), "INTERNAL", "cudaError");
}

}  // namespace
}  // namespace spotlight
