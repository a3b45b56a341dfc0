// Ten thousand steps of random load on a GPU (SPOTLIGHT_SOAK_STEPS: another number): memory of the
// card stays what it was, every answer is whole, and in the end nothing is held.
#include <cstdlib>

#include "device/cuda/runtime/device_memory.h"
#include "device/cuda/runtime/gpu_test.h"
#include "engine/soak.h"

namespace spotlight {
namespace {

constexpr int32_t kSteps = 10000;

TEST(random_load_leaves_nothing_behind) {
  check::need_gpu();
  const char* wanted = std::getenv("SPOTLIGHT_SOAK_STEPS");
  const int32_t steps = wanted != nullptr ? std::atoi(wanted) : kSteps;
  CHECK(steps >= 1000);  // fewer prove little
  EngineOptions options = soak::options();
  options.model.kind = "dummy";
  options.model.path = "smollm2-135m";
  options.model.layers = 4;
  options.device = "cuda";
  Engine engine(options);
  soak::load_artifact(engine);
  soak::Soak soak(engine);
  soak.run(steps / 10);  // by then every graph has been made
  const size_t before = free_device_bytes();
  soak.run(steps - steps / 10);
  const size_t after = free_device_bytes();
  soak.finish();
  std::printf("%d finished, %d cancelled, %d preempted, %lld sparse rows, %lld MiB taken\n",
              soak.finished, soak.cancelled, soak.preempted,
              static_cast<long long>(engine.stats().sparse_rows),
              (static_cast<long long>(before) - static_cast<long long>(after)) >> 20);
  CHECK(soak.finished > steps / 50);
  CHECK(soak.cancelled > steps / 200);
  CHECK(soak.preempted > steps / 200);
  CHECK(engine.stats().sparse_rows > steps / 10);
  CHECK(before < after + (size_t{64} << 20));
}

}  // namespace
}  // namespace spotlight
