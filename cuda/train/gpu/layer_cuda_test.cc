// The GPU's layer against the CPU's, on the same keys, queries, draws and weights: loss, gradient
// and the update that follows; odd sizes; the same bits again and again. Then whole trainings:
// resumed to the same bits, and as good as a CPU's.
#include "train/gpu/layer_cuda.h"

#include <cuda_runtime_api.h>

#include <cmath>
#include <cstring>
#include <random>

#include "device/cuda/runtime/gpu_test.h"
#include "device/cuda/stream.h"
#include "device/test_model.h"
#include "test/check.h"
#include "train/layer_trainer.h"
#include "train/trainer.h"

namespace spotlight::train {
namespace {

template <typename T>
DeviceBuffer<T> upload(const std::vector<T>& values) {
  DeviceBuffer<T> buffer(values.size());
  CUDA_CHECK(cudaMemcpy(buffer.data(), values.data(), buffer.bytes(), cudaMemcpyHostToDevice));
  CUDA_CHECK(cudaDeviceSynchronize());  // other streams do not wait for it
  return buffer;
}

template <typename T>
std::vector<T> download(const T* from, size_t count) {
  std::vector<T> values(count);
  CUDA_CHECK(cudaMemcpy(values.data(), from, count * sizeof(T), cudaMemcpyDeviceToHost));
  return values;
}

struct Sizes {
  int32_t query_heads, kv_heads, head_dim, bits, tokens, rows;
  float border;
};

std::vector<float> normals(size_t count, uint32_t seed, float scale) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

void compare(const Sizes& sizes) {
  check::need_gpu();
  ModelConfig config;
  config.layers = 2;
  config.query_heads = sizes.query_heads;
  config.kv_heads = sizes.kv_heads;
  config.head_dim = sizes.head_dim;
  config.max_model_len = 8192;
  Recipe recipe;
  recipe.bits = sizes.bits;
  recipe.sequence = sizes.tokens + 77;  // texts may be shorter than the recipe's
  recipe.rows = sizes.rows;
  recipe.border = sizes.border;
  const std::vector<float> q =
      normals(static_cast<size_t>(sizes.rows) * config.query_width(), 1, 1.5f);
  const std::vector<float> k =
      normals(static_cast<size_t>(sizes.tokens) * config.kv_width(), 2, 1.5f);
  std::vector<int32_t> positions(static_cast<size_t>(sizes.rows));
  // From the start: some queries see too few tokens.
  draw_rows({3, Purpose::kRows, 0, 0}, 0, sizes.tokens, sizes.rows, positions.data());
  const Draws draws = {5, Purpose::kTop, 7, 1};

  Crew crew(4);
  LayerTrainer host(recipe, config, crew);
  LayerInput input;
  input.tokens = sizes.tokens;
  input.rows = sizes.rows;
  input.positions = positions.data();
  input.q = q.data();
  input.k = k.data();
  host.take(input);
  host.draw(draws);
  const auto size = static_cast<size_t>(host.layout().layer_size);
  std::vector<float> weights = normals(size, 4, 0.2f), gradient(size), first(size), second(size);
  const double loss = host.loss(weights.data(), gradient.data());

  const CudaStream stream;
  CudaLayerTrainer device(recipe, config, stream.get());
  const DeviceBuffer<float> dk = upload(k), dq = upload(q);
  const DeviceBuffer<int32_t> dp = upload(positions);
  const DeviceBuffer<float> dw = upload(weights), d1 = upload(first), d2 = upload(second);
  std::vector<float> before;
  for (int run = 0; run < 2; run++) {
    device.take(dk.data(), sizes.tokens);
    device.draw(draws, dq.data(), dp.data());
    device.differentiate(dw.data());
    CUDA_CHECK(cudaStreamSynchronize(stream.get()));
    const std::vector<double> result = download(device.loss(), 2);
    CHECK(std::fabs(result[0] - loss) < 1e-4 * loss);
    std::vector<float> got = download(device.gradient(), size);
    if (run == 0) before = got;
    CHECK(std::memcmp(before.data(), got.data(), size * sizeof(float)) == 0);
    double off = 0, norm = 0;
    for (size_t i = 0; i < size; i++) {
      got[i] *= static_cast<float>(result[1]);
      off += std::pow(double{got[i]} - gradient[i], 2);
      norm += std::pow(double{gradient[i]}, 2);
    }
    CHECK(norm > 0);
    CHECK(std::sqrt(off / norm) < 1e-3);
  }
  // Far into a training, where an update follows the gradient and not its sign alone.
  const AdamWStep step = adamw_step(recipe, 100);
  adamw(step, gradient.data(), static_cast<int64_t>(size), weights.data(), first.data(),
        second.data());
  device.update(step, dw.data(), d1.data(), d2.data());
  CUDA_CHECK(cudaStreamSynchronize(stream.get()));
  double off = 0, norm = 0;
  const std::vector<float> moments = download(d1.data(), size);
  for (size_t i = 0; i < size; i++) {
    off += std::pow(double{moments[i]} - first[i], 2);
    norm += std::pow(double{first[i]}, 2);
  }
  CHECK(std::sqrt(off / norm) < 1e-3);
  CHECK_CLOSE(download(dw.data(), size), weights, 3 * step.learning_rate, 0);
}

TEST(a_layer_gives_what_the_cpu_gives) {
  compare({9, 3, 64, 128, 1500, 40, 0});
  compare({9, 3, 64, 128, 1500, 40, 0.25f});
  compare({28, 4, 128, 128, 777, 17, 0});
  compare({4, 4, 80, 32, 333, 5, 0.5f});
  compare({8, 1, 128, 256, 2048, 96, 0});
}

TrainerOptions options(const char* device) {
  TrainerOptions options;
  options.model.kind = "dummy";
  options.model.path = "smollm2-135m";
  options.model.layers = 3;
  options.model.max_model_len = 4096;
  options.device = device;
  options.threads = 4;
  options.recipe.sequence = 2049;  // a chunk and one token more
  options.recipe.steps = 4;
  options.recipe.updates = 2;
  options.recipe.rows = 32;
  options.recipe.dense_layers = {1};
  return options;
}

std::vector<int32_t> text(uint32_t number) { return check::random_tokens(2049, 300, number); }

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST(a_resumed_training_ends_in_the_same_bits) {
  check::need_gpu();
  const auto whole = make_trainer(options("cuda"));
  for (uint32_t s = 0; s < 4; s++) whole->step(text(s));
  TrainerState middle;
  {
    const auto first = make_trainer(options("cuda"));
    for (uint32_t s = 0; s < 2; s++) first->step(text(s));
    middle = first->save();
  }
  const auto second = make_trainer(options("cuda"));
  second->load(middle);
  for (uint32_t s = 2; s < 4; s++) second->step(text(s));
  CHECK(same(second->save().weights, whole->save().weights));
  CHECK(!same(middle.weights, whole->save().weights));
}

TEST(a_training_goes_as_on_a_cpu) {
  check::need_gpu();
  const auto device = make_trainer(options("cuda")), host = make_trainer(options("cpu"));
  CHECK(same(device->save().weights, host->save().weights));
  const QualityReport there = *device->measure(text(50), 32), here = *host->measure(text(50), 32);
  CHECK(std::fabs(there.iou - here.iou) < 0.02);
  CHECK(std::fabs(there.mass - here.mass) < 0.02);
  for (uint32_t s = 0; s < 3; s++) {
    const StepReport a = *device->step(text(s)), b = *host->step(text(s));
    CHECK_EQ(a.layers.size(), b.layers.size());
    // The model in bf16 there, in float32 here.
    CHECK(std::fabs(a.loss - b.loss) < 0.05 * b.loss);
  }
  device->cancel();
  CHECK(!device->step(text(9)).has_value());
}

TEST(mlp_is_refused_by_name) {
  check::need_gpu();
  TrainerOptions mlp = options("cuda");
  mlp.recipe.encoder = CodeKind::kMlp;
  CHECK_THROWS(make_trainer(mlp), "MODEL_UNSUPPORTED", "mlp");
}

}  // namespace
}  // namespace spotlight::train
