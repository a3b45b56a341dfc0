// Loss and gradients against numbers that PyTorch gave for the same weights and the same pairs
// (fixture/make.py made them from the reference).
#include "model/safetensors_file.h"
#include "test/check.h"
#include "train/layer_trainer.h"

namespace spotlight::train {
namespace {

struct Fixture {
  SafetensorsFile file{std::string(__FILE__).substr(0, std::string(__FILE__).rfind('/')) +
                           "/fixture/pytorch.safetensors",
                       kInternal, kInternal};
  std::vector<float> floats(const std::string& name) const {
    return to_float(file.tensors().at(name));
  }
  std::vector<int32_t> integers(const std::string& name) const {
    const std::vector<float> values = floats(name);
    return {values.begin(), values.end()};
  }
};

void compare(const std::string& name, const Recipe& recipe, int32_t threads) {
  const Fixture fixture;
  ModelConfig config;
  config.layers = 1;
  config.query_heads = 4;
  config.kv_heads = 2;
  config.head_dim = 16;
  const std::vector<float> q = fixture.floats("q"), k = fixture.floats("k");
  const std::vector<int32_t> rows = fixture.integers("rows");
  LayerInput input;
  input.tokens = static_cast<int32_t>(k.size()) / config.kv_width();
  input.rows = static_cast<int32_t>(rows.size());
  input.positions = rows.data();
  input.q = q.data();
  input.k = k.data();

  Crew crew(threads);
  LayerTrainer layer(recipe, config, crew);
  layer.take(input);
  const std::vector<int32_t> top = fixture.integers(name + ".top");
  const std::vector<int32_t> other = fixture.integers(name + ".other");
  std::vector<PairDraw> pairs;
  for (int32_t i = 0; i < layer.layout().heads * input.rows; i++) {
    PairDraw& own = pairs.emplace_back();
    if (rows[i % input.rows] < top_count(recipe, input.tokens)) continue;
    own.top.assign(&top[i * recipe.top], &top[i * recipe.top] + recipe.top);
    own.other.assign(&other[i * recipe.other], &other[i * recipe.other] + recipe.other);
  }
  layer.give(pairs);
  const std::vector<float> weights = fixture.floats(name + ".weights");
  CHECK_EQ(static_cast<int64_t>(weights.size()), layer.layout().layer_size);
  std::vector<float> gradient(weights.size());
  const std::vector<float> loss = {static_cast<float>(layer.loss(weights.data(), gradient.data()))};
  CHECK_CLOSE(loss, fixture.floats(name + ".loss"), 0, 1e-5);
  CHECK_CLOSE(gradient, fixture.floats(name + ".gradient"), 2e-5, 2e-4);
}

Recipe recipe() {
  Recipe recipe;
  recipe.bits = 32;
  recipe.budget = 0.25f;
  recipe.top = 8;
  recipe.other = 24;
  recipe.sign_keys = false;
  recipe.key_gamma = 64;
  recipe.sharpness = 1;
  return recipe;
}

TEST(linear_asym_gives_the_references_loss_and_gradient) {
  compare("linear", recipe(), 1);
  compare("linear", recipe(), 3);
}

TEST(keys_as_signs_give_what_pytorch_gives) {
  Recipe signs = recipe();
  signs.sign_keys = true;
  signs.key_gamma = 8;
  signs.sharpness = 0.25f;
  compare("signs", signs, 1);
  compare("signs", signs, 3);
}

TEST(mlp_gives_the_references_loss_and_gradient) {
  Recipe mlp = recipe();
  mlp.encoder = CodeKind::kMlp;
  mlp.hidden = 32;
  mlp.query_gamma = 64;
  mlp.mass_weights = false;
  compare("mlp", mlp, 1);
  compare("mlp", mlp, 3);
}

}  // namespace
}  // namespace spotlight::train
