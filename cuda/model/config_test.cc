#include "model/config.h"

#include <functional>

#include "model/test_files.h"

namespace spotlight {
namespace {

ModelConfig sound() { return make_dummy("tiny-llama", 1, 1, 0)->config(); }

TEST(refuses_each_field_by_name) {
  struct Wrong {
    std::function<void(ModelConfig&)> change;
    const char* code;
    const char* part;
  };
  const Wrong cases[] = {
      {[](ModelConfig& c) { c.architecture = "gemma"; }, kModelUnsupported, "architecture gemma"},
      {[](ModelConfig& c) { c.layers = 0; }, kModelCorrupt, "layers"},
      {[](ModelConfig& c) { c.hidden = -4; }, kModelCorrupt, "hidden size"},
      {[](ModelConfig& c) { c.intermediate = 1 << 30; }, kModelCorrupt, "intermediate size"},
      {[](ModelConfig& c) { c.kv_heads = 0; }, kModelCorrupt, "kv heads"},
      {[](ModelConfig& c) { c.kv_heads = 3; }, kModelCorrupt, "do not divide"},
      {[](ModelConfig& c) { c.head_dim = 33; }, kModelUnsupported, "head_dim 33"},
      {[](ModelConfig& c) { c.head_dim = 512; }, kModelUnsupported, "head_dim 512"},
      {[](ModelConfig& c) { c.vocab = 0; }, kModelCorrupt, "vocabulary"},
      {[](ModelConfig& c) { c.max_model_len = 0; }, kModelCorrupt, "max model length"},
      {[](ModelConfig& c) { c.rms_norm_eps = NAN; }, kModelCorrupt, "epsilon"},
      {[](ModelConfig& c) { c.rope.theta = 0; }, kModelCorrupt, "rope theta"},
      {[](ModelConfig& c) { c.rope.scaling = RopeScaling::kLinear, c.rope.factor = INFINITY; },
       kModelCorrupt, "factor"},
      {[](ModelConfig& c) { c.rope.scaling = RopeScaling::kYarn; }, kModelCorrupt,
       "original max position"},
      {[](ModelConfig& c) { c.rope.scaling = RopeScaling::kLlama3, c.rope.freq_factors = {1.f}; },
       kModelCorrupt, "frequency factors"},
      {[](ModelConfig& c) { c.bos_token = 1024; }, kModelCorrupt, "bos token: 1024"},
      {[](ModelConfig& c) {
         c.eos_tokens = {2, -1};
       },
       kModelCorrupt, "eos token"},
  };
  validate(sound());
  for (const Wrong& wrong : cases) {
    ModelConfig config = sound();
    wrong.change(config);
    CHECK_THROWS(validate(config), wrong.code, wrong.part);
  }
}

TEST(fingerprint_is_sorted_and_tells_models_apart) {
  CHECK_EQ(fingerprint_text(make_dummy("smollm2-135m", 1, 1, 0)->config()),
           "architecture=llama\nhead_dim=64\nhidden=576\nintermediate=1536\nkv_heads=3\nlayers="
           "1\nqk_norm=0\nqkv_bias=0\n"
           "query_heads=9\nrms_norm_eps=1e-05\nrope.scaling=none\nrope.theta=100000\ntokenizer.bos="
           "1\nvocab=49152\n");
  const std::string base = fingerprint_text(sound());
  const std::function<void(ModelConfig&)> changes[] = {
      [](ModelConfig& c) { c.layers++; },
      [](ModelConfig& c) { c.rope.theta = 10001.f; },
      [](ModelConfig& c) { c.rms_norm_eps = 1.1e-5f; },
      [](ModelConfig& c) { c.bos_token = 0; },
      [](ModelConfig& c) { c.qk_norm = true; },
      [](ModelConfig& c) { c.rope.scaling = RopeScaling::kLinear, c.rope.factor = 2; },
  };
  for (const auto& change : changes) {
    ModelConfig config = sound();
    change(config);
    CHECK(fingerprint_text(config) != base);
  }
}

TEST(fingerprint_leaves_out_what_a_deployment_or_a_format_may_change) {
  ModelConfig config = sound();
  const std::string base = fingerprint_text(config);
  config.max_model_len *= 4;
  config.tied_embeddings = !config.tied_embeddings;
  config.eos_tokens = {5};
  config.architecture = "mistral";
  CHECK_EQ(fingerprint_text(config), base);
}

TEST(scaled_context_follows_the_scaling) {
  ModelConfig config = sound();
  config.max_model_len = 4096;
  config.rope.factor = 4;
  CHECK_EQ(scaled_context(config), 4096);
  config.rope.scaling = RopeScaling::kLinear;
  CHECK_EQ(scaled_context(config), 16384);
  config.rope.scaling = RopeScaling::kYarn;
  config.rope.original_max_position = 2048;
  CHECK_EQ(scaled_context(config), 8192);
  config.max_model_len = 32768;  // a file that states the scaled context already
  CHECK_EQ(scaled_context(config), 32768);
  config.rope.factor = 1e9f;
  CHECK_THROWS(scaled_context(config), kModelCorrupt, "max model length");
}

}  // namespace
}  // namespace spotlight
