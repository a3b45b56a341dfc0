// The recorded step against a forward pass written out in double: every architecture's peculiarity
// on small random weights, prompts in one piece and in chunks, decode, several sequences in one
// ragged batch, stacked and unstacked projections.
#include "device/cpu/cpu_device.h"

#include <random>

#include "device/test_model.h"
#include "test/check.h"

namespace spotlight {
namespace {

using check::RandomWeights;
using check::reference;
using check::Rounding;
using check::small;
using check::step;
using check::Vec;

void check_model(const ModelConfig& config, bool bf16_v, int threads) {
  const RandomWeights weights(config, bf16_v ? Rounding::kBf16V : Rounding::kNone);
  DeviceOptions options;
  options.config = config;
  options.backend = "dense";
  options.threads = threads;
  options.max_tokens = 200;
  const std::unique_ptr<Device> device = make_cpu_device(options);
  const Transformer model(weights, *device);
  device->open_pool(20);
  std::mt19937 random(3);
  std::vector<int32_t> a(150), b(70);
  for (int32_t& token : a) token = static_cast<int32_t>(random() % config.vocab);
  for (int32_t& token : b) token = static_cast<int32_t>(random() % config.vocab);
  const std::vector<Vec> want_a = reference(weights, a), want_b = reference(weights, b);
  const std::vector<int32_t> table_a = {7, 3, 9}, table_b = {1, 4};
  const auto expect = [&](const std::vector<float>& got, const Vec& want) {
    // K and V are rounded to binary16, which a row of sharp attention magnifies (0.007 built for
    // this machine, 0.018 for x86-64-v2); ggml rounds the input of a bf16 matrix to bf16.
    CHECK_CLOSE(got, std::vector<float>(want.begin(), want.end()), bf16_v ? 0.15 : 0.025, 2e-4);
  };
  // The whole of b with logits everywhere, more of them than one head graph takes; then b's blocks
  // serve again below.
  const auto whole = step(*device, model, {{&b, 0, 70, table_b}}, true, config.vocab);
  CHECK_EQ(whole.size(), size_t{70});
  for (int t = 0; t < 70; t++) expect(whole[t], want_b[t]);
  // Ragged: a chunk of a, the first of b; then a chunk beside decode; then decode of both, the same
  // shape twice.
  step(*device, model, {{&a, 0, 100, table_a}}, false, config.vocab);
  auto got =
      step(*device, model, {{&a, 100, 40, table_a}, {&b, 0, 60, table_b}}, false, config.vocab);
  expect(got[0], want_a[139]);
  expect(got[1], want_b[59]);
  got = step(*device, model, {{&b, 60, 1, table_b}, {&a, 140, 5, table_a}}, false, config.vocab);
  expect(got[0], want_b[60]);
  expect(got[1], want_a[144]);
  for (int t = 0; t < 5; t++) {
    got = step(*device, model, {{&a, 145 + t, 1, table_a}, {&b, 61 + t, 1, table_b}}, false,
               config.vocab);
    expect(got[0], want_a[145 + t]);
    expect(got[1], want_b[61 + t]);
  }
}

TEST(llama) { check_model(small("llama"), false, 2); }

TEST(untied_head_and_unlike_types) {
  ModelConfig config = small("mistral");
  config.tied_embeddings = false;
  check_model(config, true, 1);
}

TEST(qwen2_biases) {
  ModelConfig config = small("qwen2");
  config.qkv_bias = true;
  check_model(config, false, 3);
  check_model(config, true, 2);
}

TEST(qwen3_head_norms) {
  ModelConfig config = small("qwen3");
  config.qk_norm = true;
  check_model(config, false, 2);
}

TEST(a_chunk_without_logits_still_fills_the_cache) {
  const ModelConfig config = small("llama");
  const RandomWeights weights(config, Rounding::kNone);
  DeviceOptions options;
  options.config = config;
  options.backend = "dense";
  options.threads = 2;
  const std::unique_ptr<Device> device = make_cpu_device(options);
  const Transformer model(weights, *device);
  device->open_pool(4);
  const std::vector<int32_t> tokens = {1, 2, 3, 4, 5, 6, 7, 8}, table = {2};
  const std::vector<LayerPolicy> policies(3);
  const std::vector<int32_t> positions = {0, 1, 2, 3, 4, 5};
  RowView view;
  view.block_table = table.data();
  view.tokens = 6;
  view.policies = policies.data();
  StepInput input;
  input.tokens = tokens.data();
  input.positions = positions.data();
  input.count = 6;
  input.rows = &view;
  input.row_count = 1;
  device->run(model, input);
  const auto got = step(*device, model, {{&tokens, 6, 2, table}}, false, config.vocab);
  const Vec want = reference(weights, tokens)[7];
  CHECK_CLOSE(got[0], std::vector<float>(want.begin(), want.end()), 8e-3, 2e-4);
}

}  // namespace
}  // namespace spotlight
