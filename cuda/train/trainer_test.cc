// The trainer over a tiny dummy model: it learns, a state saved and loaded goes on to the very bits
// of an uninterrupted run on any number of threads, a cancelled step changes nothing, mistakes are
// named.
#include "train/trainer.h"

#include <cstring>
#include <random>

#include "device/test_model.h"
#include "test/check.h"
#include "train/adamw.h"
#include "train/layer_trainer.h"

namespace spotlight::train {
namespace {

TrainerOptions options(int32_t threads = 2) {
  TrainerOptions options;
  options.model.kind = "dummy";
  options.model.path = "smollm2-135m";
  options.model.layers = 2;
  options.model.max_model_len = 512;
  options.threads = threads;
  options.recipe.sequence = 512;
  options.recipe.steps = 4;
  options.recipe.updates = 2;
  options.recipe.rows = 16;
  options.recipe.top = 16;
  options.recipe.other = 48;
  options.recipe.bits = 64;
  options.recipe.dense_layers = {0};
  return options;
}

std::vector<int32_t> text(uint32_t number, size_t tokens = 512) {
  return check::random_tokens(tokens, 200, number);  // few words, so that texts have much in common
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST(a_resumed_training_ends_in_the_same_bits) {
  const auto whole = make_trainer(options(1));
  for (uint32_t s = 0; s < 4; s++)
    CHECK_EQ(whole->step(text(s))->step, static_cast<int32_t>(s) + 1);
  TrainerState middle;
  {
    const auto first = make_trainer(options(2));
    for (uint32_t s = 0; s < 2; s++) first->step(text(s));
    middle = first->save();
  }
  CHECK_EQ(middle.step, 2);
  const auto second = make_trainer(options(3));
  second->load(middle);
  for (uint32_t s = 2; s < 4; s++) second->step(text(s));
  CHECK(same(second->save().weights, whole->save().weights));
  CHECK(same(second->save().second, whole->save().second));
  CHECK(!same(middle.weights, whole->save().weights));
  CHECK_THROWS(whole->step(text(4)), "INVALID_ARGUMENT", "all 4 steps are done");
}

TEST(a_cancelled_step_changes_nothing) {
  const auto trainer = make_trainer(options());
  const std::vector<float> before = trainer->save().weights;
  trainer->cancel();
  CHECK(!trainer->step(text(0)).has_value());
  CHECK(!trainer->measure(text(0), 8).has_value());
  CHECK(same(trainer->save().weights, before));
  CHECK_EQ(trainer->steps_done(), 0);
  trainer->resume();
  CHECK(trainer->step(text(0)).has_value());
  CHECK(!same(trainer->save().weights, before));
}

TEST(a_training_learns) {
  // The paper's code starts far from what it can do; random projections of a dummy model's keys,
  // alike in every direction, are as good as linear codes get.
  TrainerOptions mlp = options();
  mlp.recipe.encoder = CodeKind::kMlp;
  mlp.recipe.hidden = 32;
  mlp.recipe.query_gamma = 64;
  mlp.recipe.steps = 40;
  mlp.recipe.updates = 4;
  mlp.recipe.learning_rate = 3e-3f;
  const auto trainer = make_trainer(mlp);
  const QualityReport before = *trainer->measure(text(100), 64);
  double first = 0, last = 0;
  for (uint32_t s = 0; s < 40; s++) {
    last = trainer->step(text(s))->loss;
    if (s == 0) first = last;
  }
  const QualityReport after = *trainer->measure(text(100), 64);
  CHECK(last < 0.9 * first);
  CHECK(after.iou > before.iou + 0.005);
  CHECK(after.mass > before.mass);
  CHECK_EQ(after.layer_iou.size(), size_t{1});
  CHECK(after.iou <= 1 && after.mass <= 1);
}

// Keys as models have them: a few strong directions that all share, which queries hardly use.
struct Uneven {
  static constexpr int32_t kTokens = 1024, kRows = 24, kDim = 32;
  ModelConfig config;
  std::vector<float> q, k;
  std::vector<int32_t> positions;
  explicit Uneven(uint32_t seed) : positions(kRows) {
    config.layers = 1;
    config.query_heads = 4;
    config.kv_heads = 2;
    config.head_dim = kDim;
    config.max_model_len = kTokens;
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& x, int32_t rows, int32_t heads, float strong) {
      for (int32_t i = 0; i < rows * heads * kDim; i++)
        x.push_back(normal(random) * (i % kDim < 4 ? strong : 1));
    };
    fill(q, kRows, 4, 0.1f);
    fill(k, kTokens, 2, 8.f);
    draw_rows({seed, Purpose::kRows, 0, 0}, kTokens / 2, kTokens, kRows, positions.data());
  }
  LayerInput input() const {
    LayerInput input;
    input.tokens = kTokens;
    input.rows = kRows;
    input.positions = positions.data();
    input.q = q.data();
    input.k = k.data();
    return input;
  }
};

TEST(linear_codes_learn_which_directions_matter) {
  Recipe recipe;
  recipe.sequence = Uneven::kTokens;
  recipe.steps = 120;
  recipe.bits = 64;
  recipe.learning_rate = 1e-2f;
  Crew crew(2);
  const ModelConfig config = Uneven(0).config;
  LayerTrainer layer(recipe, config, crew);
  const auto size = static_cast<size_t>(layer.layout().layer_size);
  std::vector<float> weights(size), gradient(size), first(size), second(size);
  start_weights(layer.layout(), recipe, weights.data());
  const Uneven unseen(1000);
  layer.take(unseen.input());
  const LayerTrainer::Quality before = layer.measure(weights.data());
  for (int32_t s = 0; s < recipe.steps; s++) {
    const Uneven text(static_cast<uint32_t>(s) + 1);
    layer.take(text.input());
    layer.draw({1, Purpose::kTop, static_cast<uint32_t>(s), 0});
    layer.loss(weights.data(), gradient.data());
    adamw(adamw_step(recipe, s), gradient.data(), static_cast<int64_t>(size), weights.data(),
          first.data(), second.data());
  }
  layer.take(unseen.input());
  const LayerTrainer::Quality after = layer.measure(weights.data());
  CHECK(after.iou > 1.3 * before.iou);
  CHECK(after.mass > 1.15 * before.mass);
}

TEST(mistakes_are_named) {
  const auto trainer = make_trainer(options());
  CHECK_THROWS(trainer->step(text(0, 63)), "INVALID_ARGUMENT", "a text of 63");
  CHECK_THROWS(trainer->step(text(0, 513)), "INVALID_ARGUMENT", "a text of 513");
  std::vector<int32_t> wrong = text(0);
  wrong[7] = 49152;
  CHECK_THROWS(trainer->step(wrong), "INVALID_ARGUMENT", "tokens[7]");
  CHECK_THROWS(trainer->measure(text(0), 0), "INVALID_ARGUMENT", "rows");
  TrainerState state = trainer->save();
  state.first.pop_back();
  CHECK_THROWS(trainer->load(state), "INVALID_ARGUMENT", "state");
  TrainerOptions elsewhere = options();
  elsewhere.device = "tpu";
  CHECK_THROWS(make_trainer(elsewhere), "INVALID_ARGUMENT", "tpu");
  TrainerOptions bits = options();
  bits.recipe.bits = 33;
  CHECK_THROWS(make_trainer(bits), "INVALID_ARGUMENT", "bits");
}

}  // namespace
}  // namespace spotlight::train
