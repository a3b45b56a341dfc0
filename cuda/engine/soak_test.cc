// The soak on the CPU, as long as a test may take: its length is the GPU's (soak_cuda_test.cc).
#include "engine/soak.h"

namespace spotlight {
namespace {

constexpr int32_t kSteps = 1000;

TEST(random_load_leaves_nothing_behind) {
  EngineOptions options = soak::options();
  options.model.kind = "dummy";
  options.model.path = "tiny-llama";
  options.threads = 2;
  Engine engine(options);
  soak::load_artifact(engine);
  soak::Soak soak(engine);
  soak.run(kSteps);
  soak.finish();
  CHECK(soak.finished > kSteps / 50);
  CHECK(soak.cancelled > 0);
  CHECK(soak.preempted > kSteps / 200);
  CHECK(engine.stats().sparse_rows > kSteps / 10);
}

}  // namespace
}  // namespace spotlight
