// The GPU's layer against the CPU's, on the same keys, queries, draws and weights: loss, gradient
// and the update that follows, for both encoders; odd sizes; the same bits again and again; how
// well the weights of several updates find. Then whole trainings: resumed to the same bits, and as
// good as a CPU's.
#include "train/gpu/layer_cuda.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
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
  int32_t hidden = 0;  // of an mlp; 0: linear-asym
  bool turns = false;  // one head after the other
  bool signs = false;  // of keys, in small cases: the last digit of a sum may turn one around
};

std::vector<float> normals(size_t count, uint32_t seed, float scale) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

// One layer's keys, queries and weights, on the host and on the device.
struct World {
  ModelConfig config;
  Recipe recipe;
  std::vector<float> q, k, weights;
  std::vector<int32_t> positions;
  Crew crew{4};
  std::unique_ptr<LayerTrainer> host;
  CudaStream stream;
  std::unique_ptr<CudaLayerTrainer> device;
  DeviceBuffer<float> dk, dq, dw, first, second;
  DeviceBuffer<int32_t> dp;

  explicit World(const Sizes& sizes) {
    config.layers = 2;
    config.query_heads = sizes.query_heads;
    config.kv_heads = sizes.kv_heads;
    config.head_dim = sizes.head_dim;
    config.max_model_len = 8192;
    recipe.bits = sizes.bits;
    recipe.sequence = sizes.tokens + 77;  // texts may be shorter than the recipe's
    recipe.rows = sizes.rows;
    recipe.border = sizes.border;
    recipe.sign_keys = sizes.signs;
    recipe.key_gamma = sizes.signs ? 8 : 64;
    recipe.sharpness = sizes.signs ? 0.25f : 1;
    if (sizes.hidden > 0) {
      recipe.encoder = CodeKind::kMlp;
      recipe.hidden = sizes.hidden;
      recipe.query_gamma = 64;
    }
    q = normals(static_cast<size_t>(sizes.rows) * config.query_width(), 1, 1.5f);
    k = normals(static_cast<size_t>(sizes.tokens) * config.kv_width(), 2, 1.5f);
    positions.resize(static_cast<size_t>(sizes.rows));
    // From the start: some queries see too few tokens.
    draw_rows({3, Purpose::kRows, 0, 0}, 0, sizes.tokens, sizes.rows, positions.data());
    host = std::make_unique<LayerTrainer>(recipe, config, crew);
    LayerInput input;
    input.tokens = sizes.tokens;
    input.rows = sizes.rows;
    input.positions = positions.data();
    input.q = q.data();
    input.k = k.data();
    host->take(input);
    weights = normals(size(), 4, 0.2f);
    device = sizes.turns ? std::make_unique<CudaLayerTrainer>(recipe, config, stream.get(), 1)
                         : std::make_unique<CudaLayerTrainer>(recipe, config, stream.get());
    dk = upload(k);
    dq = upload(q);
    dw = upload(weights);
    dp = upload(positions);
    const std::vector<float> nothing(size());
    first = upload(nothing);
    second = upload(nothing);
    device->take(dk.data(), sizes.tokens);
  }
  size_t size() const { return static_cast<size_t>(host->layout().layer_size); }
  void draw(const Draws& draws) {
    host->draw(draws);
    device->draw(draws, dq.data(), dp.data());
  }
  // Loss and gradient as the device has them.
  double differentiate(std::vector<float>& gradient) {
    device->differentiate(dw.data());
    CUDA_CHECK(cudaStreamSynchronize(stream.get()));
    const std::vector<double> result = download(device->loss(), 2);
    gradient = download(device->gradient(), size());
    for (float& value : gradient) value *= static_cast<float>(result[1]);
    return result[0];
  }
};

// Each value within `share` of the largest, and the whole within `share` of its length.
void check_alike(const std::vector<float>& actual, const std::vector<float>& expected,
                 double share) {
  double off = 0, norm = 0, largest = 0;
  for (const float value : expected) largest = std::max(largest, std::fabs(double{value}));
  CHECK_CLOSE(actual, expected, share * largest, 0);
  for (size_t i = 0; i < expected.size(); i++) {
    off += std::pow(double{actual[i]} - expected[i], 2);
    norm += std::pow(double{expected[i]}, 2);
  }
  CHECK(norm > 0);
  CHECK(std::sqrt(off / norm) < share);
}

void compare(const Sizes& sizes) {
  check::need_gpu();
  World world(sizes);
  world.draw({5, Purpose::kTop, 7, 1});
  std::vector<float> gradient(world.size()), got, before;
  const double loss = world.host->loss(world.weights.data(), gradient.data());
  for (int run = 0; run < 2; run++) {
    const double there = world.differentiate(got);
    CHECK(std::fabs(there - loss) < 1e-4 * loss);
    if (run == 0) before = got;
    CHECK(std::memcmp(before.data(), got.data(), got.size() * sizeof(float)) == 0);
    check_alike(got, gradient, 1e-3);
  }
  // Far into a training, where an update follows the gradient and not its sign alone.
  const AdamWStep step = adamw_step(world.recipe, 100);
  std::vector<float> first(world.size()), second(world.size());
  adamw(step, gradient.data(), static_cast<int64_t>(world.size()), world.weights.data(),
        first.data(), second.data());
  world.device->update(step, world.dw.data(), world.first.data(), world.second.data());
  CUDA_CHECK(cudaStreamSynchronize(world.stream.get()));
  check_alike(download(world.first.data(), world.size()), first, 1e-3);
  CHECK_CLOSE(download(world.dw.data(), world.size()), world.weights, 3 * step.learning_rate, 0);
}

TEST(a_layer_gives_what_the_cpu_gives) {
  compare({9, 3, 64, 128, 1500, 40, 0});
  compare({9, 3, 64, 128, 1500, 40, 0.25f});
  compare({28, 4, 128, 128, 777, 17, 0});
  compare({28, 4, 128, 128, 777, 17, 0.25f, 0, true});
  compare({4, 4, 80, 32, 333, 5, 0.5f});
  compare({8, 1, 128, 256, 2048, 96, 0});
  compare({9, 3, 64, 128, 300, 40, 0.5f, 0, false, true});
  compare({4, 4, 80, 32, 333, 5, 0.5f, 0, true, true});
}

TEST(an_mlps_layer_gives_what_the_cpu_gives) {
  compare({14, 2, 128, 128, 777, 17, 0, 128});  // residuals around both, as the paper's
  compare({14, 2, 128, 128, 777, 17, 0.25f, 128, true});
  compare({6, 2, 64, 128, 1500, 40, 0.25f, 128});  // around the second
  compare({6, 3, 64, 128, 600, 40, 0, 64});        // around the first
  compare({4, 4, 80, 32, 333, 5, 0.5f, 48});       // none
  compare({2, 1, 32, 32, 9001, 3, 0, 16});         // more tokens than hidden layers are held of
  compare({2, 1, 32, 32, 4000, 700, 0, 16});       // queries in parts, too
}

// What some updates from a training's start make of the weights finds what the CPU's find.
void learn(const Sizes& sizes) {
  check::need_gpu();
  World world(sizes);
  std::vector<float> start(static_cast<size_t>(world.host->layout().size()));
  start_weights(world.host->layout(), world.recipe, start.data());
  world.weights.assign(start.begin(), start.begin() + static_cast<ptrdiff_t>(world.size()));
  world.dw = upload(world.weights);
  const double before = world.host->measure(world.weights.data()).iou;
  std::vector<float> gradient(world.size()), first(world.size()), second(world.size());
  Recipe recipe = world.recipe;
  recipe.steps = 1000;
  recipe.learning_rate = 3e-3f;
  recipe.warmup = 0;
  for (int32_t update = 0; update < 12; update++) {
    world.draw({5, Purpose::kTop, static_cast<uint32_t>(update), 1});
    const AdamWStep step = adamw_step(recipe, update);
    world.host->loss(world.weights.data(), gradient.data());
    adamw(step, gradient.data(), static_cast<int64_t>(world.size()), world.weights.data(),
          first.data(), second.data());
    world.device->differentiate(world.dw.data());
    world.device->update(step, world.dw.data(), world.first.data(), world.second.data());
  }
  CUDA_CHECK(cudaStreamSynchronize(world.stream.get()));
  const std::vector<float> there = download(world.dw.data(), world.size());
  const auto here = world.host->measure(world.weights.data());
  const auto found = world.host->measure(there.data());
  CHECK(here.iou > before + 0.05);
  CHECK(std::fabs(found.iou - here.iou) < 0.01);
  CHECK(std::fabs(found.mass - here.mass) < 0.01);
}

TEST(weights_of_a_gpu_find_what_a_cpus_find) {
  learn({4, 2, 64, 128, 1024, 64, 0});
  learn({4, 2, 64, 128, 1024, 64, 0.5f, 0, false, true});
  learn({4, 2, 64, 128, 1024, 64, 0, 128});
  learn({2, 1, 128, 128, 1024, 64, 0, 128});
}

size_t bytes_of_a_layer(CodeKind encoder, int32_t tokens) {
  ModelConfig config;  // a 7B's
  config.layers = 28;
  config.query_heads = 28;
  config.kv_heads = 4;
  config.head_dim = 128;
  config.max_model_len = tokens;
  Recipe recipe;
  recipe.encoder = encoder;
  recipe.sequence = tokens;
  const size_t free = free_device_bytes();
  const CudaLayerTrainer layer(recipe, config, nullptr);
  return free - free_device_bytes();
}

// All heads at once would take 0.8 GB of an mlp's 8,192 tokens, and 12 GB of 131,072.
TEST(heads_take_turns_in_memory) {
  check::need_gpu();
  CHECK(bytes_of_a_layer(CodeKind::kMlp, 8192) < size_t{400} << 20);
  for (const CodeKind encoder : {CodeKind::kLinearAsym, CodeKind::kMlp})
    CHECK(bytes_of_a_layer(encoder, 131072) < size_t{900} << 20);
}

TrainerOptions options(const char* device, CodeKind encoder) {
  TrainerOptions options;
  options.model.kind = "dummy";
  options.model.path = "smollm2-135m";
  options.model.layers = 3;
  options.model.max_model_len = 4096;
  options.device = device;
  options.threads = 4;
  options.recipe.encoder = encoder;
  if (encoder == CodeKind::kMlp) options.recipe.query_gamma = 64;
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

void resume(CodeKind encoder) {
  check::need_gpu();
  const auto whole = make_trainer(options("cuda", encoder));
  for (uint32_t s = 0; s < 4; s++) whole->step(text(s));
  TrainerState middle;
  {
    const auto first = make_trainer(options("cuda", encoder));
    for (uint32_t s = 0; s < 2; s++) first->step(text(s));
    middle = first->save();
  }
  const auto second = make_trainer(options("cuda", encoder));
  second->load(middle);
  for (uint32_t s = 2; s < 4; s++) second->step(text(s));
  const TrainerState there = second->save(), here = whole->save();
  CHECK(same(there.weights, here.weights));
  CHECK(same(there.first, here.first));
  CHECK(same(there.second, here.second));
  CHECK(!same(middle.weights, here.weights));
}

TEST(a_resumed_training_ends_in_the_same_bits) {
  resume(CodeKind::kLinearAsym);
  resume(CodeKind::kMlp);
}

void go_as_on_a_cpu(CodeKind encoder) {
  check::need_gpu();
  const auto device = make_trainer(options("cuda", encoder)),
             host = make_trainer(options("cpu", encoder));
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

TEST(a_training_goes_as_on_a_cpu) {
  go_as_on_a_cpu(CodeKind::kLinearAsym);
  go_as_on_a_cpu(CodeKind::kMlp);
}

}  // namespace
}  // namespace spotlight::train
