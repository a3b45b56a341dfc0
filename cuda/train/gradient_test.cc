// Gradients against finite differences of the loss, for every kind and width of code; what the loss
// rests on (products, tops, draws) against its definition; and the same bits from any number of
// threads.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "test/check.h"
#include "train/layer_trainer.h"
#include "train/multiply.h"

namespace spotlight::train {
namespace {

struct World {
  ModelConfig config;
  Recipe recipe;
  std::vector<float> q, k;
  std::vector<int32_t> positions;
  LayerInput input;

  World(CodeKind kind, int32_t head_dim, int32_t hidden, int32_t bits, int32_t tokens = 200,
        int32_t rows = 9) {
    config.layers = 4;
    config.query_heads = 6;
    config.kv_heads = 2;
    config.head_dim = head_dim;
    config.max_model_len = 4096;
    recipe.encoder = kind;
    recipe.bits = bits;
    recipe.hidden = hidden;
    recipe.budget = 0.1f;
    recipe.rows = rows;
    recipe.top = 12;
    recipe.other = 40;
    recipe.border = 0.25f;
    // Gentle slopes: a difference quotient across a steep softsign measures its curvature.
    recipe.sign_keys = false;
    recipe.key_gamma = 2;
    recipe.sharpness = 0.5f;
    recipe.query_gamma = kind == CodeKind::kMlp ? 2 : 1;
    std::mt19937 random(5);
    std::normal_distribution<float> normal;
    q.resize(static_cast<size_t>(rows) * config.query_width());
    k.resize(static_cast<size_t>(tokens) * config.kv_width());
    for (float& value : q) value = normal(random);
    for (float& value : k) value = normal(random);
    positions.resize(static_cast<size_t>(rows));
    draw_rows({3, Purpose::kRows, 0, 0}, tokens / 8, tokens, rows, positions.data());
    input.tokens = tokens;
    input.rows = rows;
    input.positions = positions.data();
    input.q = q.data();
    input.k = k.data();
  }
};

std::vector<float> some_weights(const Layout& layout) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal(0, 0.3f);
  std::vector<float> weights(static_cast<size_t>(layout.layer_size));
  for (float& value : weights) value = normal(random);
  return weights;
}

void check_gradient(const World& world) {
  Crew crew(2);
  LayerTrainer layer(world.recipe, world.config, crew);
  layer.take(world.input);
  layer.draw({1, Purpose::kTop, 0, 2});
  std::vector<float> weights = some_weights(layer.layout());
  std::vector<float> gradient(weights.size()), unused(weights.size());
  layer.loss(weights.data(), gradient.data());
  // Along random directions over all parameters at once, and along single ones spread over all
  // heads.
  const auto difference = [&](const std::vector<float>& direction, float step) {
    std::vector<float> moved(weights.size());
    double ends[2];
    for (int side = 0; side < 2; side++) {
      for (size_t i = 0; i < weights.size(); i++)
        moved[i] = weights[i] + (side == 0 ? step : -step) * direction[i];
      ends[side] = layer.loss(moved.data(), unused.data());
    }
    return (ends[0] - ends[1]) / (2 * double{step});
  };
  double largest = 0;
  for (const float value : gradient) largest = std::max(largest, std::fabs(double{value}));
  CHECK(largest > 0);
  std::mt19937 random(17);
  std::normal_distribution<float> normal;
  for (int trial = 0; trial < 3; trial++) {
    std::vector<float> direction(weights.size());
    double expected = 0, length = 0;
    for (size_t i = 0; i < direction.size(); i++) {
      direction[i] = normal(random);
      expected += double{direction[i]} * gradient[i];
      length += double{direction[i]} * direction[i];
    }
    length = std::sqrt(length);
    for (float& value : direction) value = static_cast<float>(value / length);
    expected /= length;
    double norm = 0;
    for (const float value : gradient) norm += double{value} * value;
    CHECK(std::fabs(difference(direction, 2e-2f) - expected) < 2e-3 * std::sqrt(norm));
  }
  for (size_t i = 7; i < weights.size(); i += weights.size() / 23) {
    std::vector<float> direction(weights.size());
    direction[i] = 1;
    CHECK(std::fabs(difference(direction, 1e-2f) - gradient[i]) <
          1e-2 * std::fabs(gradient[i]) + 5e-3 * largest);
  }
}

TEST(gradients_are_the_losss_slopes) {
  check_gradient(World(CodeKind::kLinearAsym, 32, 0, 64));
  check_gradient(World(CodeKind::kMlp, 32, 48, 64));  // no residual
  check_gradient(World(CodeKind::kMlp, 32, 32, 64));  // around the first layer
  check_gradient(World(CodeKind::kMlp, 32, 64, 64));  // around the second
  check_gradient(World(CodeKind::kMlp, 32, 32, 32));  // around both, as the paper's at head_dim 128
}

TEST(any_number_of_threads_gives_the_same_bits) {
  const World world(CodeKind::kLinearAsym, 64, 0, 128, 2500, 40);
  std::vector<float> first;
  double loss = 0;
  for (const int32_t threads : {1, 2, 5}) {
    Crew crew(threads);
    LayerTrainer layer(world.recipe, world.config, crew);
    layer.take(world.input);
    layer.draw({1, Purpose::kTop, 3, 1});
    const std::vector<float> weights = some_weights(layer.layout());
    std::vector<float> gradient(weights.size());
    const double own = layer.loss(weights.data(), gradient.data());
    if (first.empty()) {
      first = gradient;
      loss = own;
    }
    CHECK_EQ(own, loss);
    CHECK(std::memcmp(first.data(), gradient.data(), first.size() * sizeof(float)) == 0);
  }
}

TEST(a_product_is_the_sum_of_products) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const int32_t m : {1, 5, 6, 13}) {
    for (const int32_t n : {16, 48, 80, 128}) {
      const int32_t k = 33, ldb = n + 3, ldc = n + 5;
      std::vector<float> a(m * k), at(m * k), b(k * ldb), c(m * ldc, 1), d;
      for (float& value : a) value = normal(random);
      for (float& value : b) value = normal(random);
      for (int32_t i = 0; i < m; i++)
        for (int32_t l = 0; l < k; l++) at[l * m + i] = a[i * k + l];
      std::vector<float> expected = c;
      for (int32_t i = 0; i < m; i++)
        for (int32_t j = 0; j < n; j++)
          for (int32_t l = 0; l < k; l++) expected[i * ldc + j] += a[i * k + l] * b[l * ldb + j];
      d = c;
      multiply({a.data(), k, 1}, b.data(), ldb, c.data(), ldc, m, n, k, true);
      CHECK_CLOSE(c, expected, 1e-4, 1e-5);
      multiply({at.data(), 1, m}, b.data(), ldb, d.data(), ldc, m, n, k, true);
      CHECK(std::memcmp(c.data(), d.data(), c.size() * sizeof(float)) == 0);
    }
  }
}

TEST(tops_are_the_largest_and_of_equal_ones_the_newest) {
  std::mt19937 random(2);
  std::vector<float> values(3000);
  for (float& value : values) value = static_cast<float>(random() % 500) / 7;
  TopFinder finder;
  for (const int32_t wanted : {1, 7, 60, 2999, 3000}) {
    std::vector<int32_t> order(values.size());
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return values[a] != values[b] ? values[a] > values[b] : a > b;
    });
    const float least = values[order[wanted - 1]];
    order.resize(wanted);
    std::sort(order.begin(), order.end());
    std::vector<int32_t> found(wanted);
    CHECK_EQ(finder.find(values.data(), 3000, wanted, found.data()), least);
    CHECK(found == order);
  }
}

TEST(pairs_hold_what_is_to_be_found_and_what_is_not) {
  const World world(CodeKind::kLinearAsym, 32, 0, 32, 600, 16);
  Crew crew(1);
  LayerTrainer layer(world.recipe, world.config, crew);
  layer.take(world.input);
  layer.draw({1, Purpose::kTop, 0, 0});
  int32_t drawn = 0, early = 0;
  for (int32_t h = 0; h < 2; h++) {
    for (int32_t r = 0; r < world.input.rows; r++) {
      const int32_t seen = world.positions[r] + 1;
      // The definition, in double.
      std::vector<double> mass(seen);
      for (int32_t g = 0; g < 3; g++) {
        std::vector<double> p(seen);
        double sum = 0;
        for (int32_t j = 0; j < seen; j++) {
          double logit = 0;
          for (int32_t d = 0; d < 32; d++)
            logit += double{world.q[(r * 6 + h * 3 + g) * 32 + d]} * world.k[(j * 2 + h) * 32 + d];
          sum += p[j] = std::exp(logit / std::sqrt(32.0));
        }
        for (int32_t j = 0; j < seen; j++) mass[j] += p[j] / sum;
      }
      std::vector<double> sorted = mass;
      std::sort(sorted.begin(), sorted.end(), std::greater<>());
      const PairDraw& pairs = layer.pairs()[h * world.input.rows + r];
      const int32_t wanted = top_count(world.recipe, 600);
      CHECK_EQ(wanted, 60);
      if (seen <= wanted) {
        CHECK(pairs.top.empty());
        early++;
        continue;
      }
      CHECK_EQ(pairs.top.size(), size_t{12});
      for (const int32_t j : pairs.top) CHECK(mass[j] >= sorted[wanted - 1] - 1e-6);
      for (const int32_t j : pairs.other) CHECK(mass[j] <= sorted[wanted - 1] + 1e-6);
      double mean = 0;
      for (const float weight : pairs.weight) mean += weight / 12;
      CHECK(std::fabs(mean - 1) < 1e-5);
      drawn += static_cast<int32_t>(pairs.other.size());
    }
  }
  CHECK(drawn > 20 * 30);
  CHECK(early == 0);
}

TEST(recipes_are_refused_by_field) {
  ModelConfig config = World(CodeKind::kLinearAsym, 32, 0, 32).config;
  const auto refused = [&](const char* field, const std::function<void(Recipe&)>& spoil) {
    Recipe recipe;
    recipe.sequence = 4096;
    spoil(recipe);
    CHECK_THROWS(validate(recipe, config), "INVALID_ARGUMENT", field);
  };
  refused("bits", [](Recipe& r) { r.bits = 100; });
  refused("sequence", [](Recipe& r) { r.sequence = 8192; });
  refused("budget", [](Recipe& r) { r.budget = NAN; });
  refused("learningRate", [](Recipe& r) { r.learning_rate = -1; });
  refused("denseLayers", [](Recipe& r) { r.dense_layers = {0, 1, 2, 3}; });
  refused("denseLayers", [](Recipe& r) { r.dense_layers = {1, 1}; });
  refused("hidden", [](Recipe& r) {
    r.encoder = CodeKind::kMlp;
    r.hidden = 40;
  });
}

TEST(the_learning_rate_rises_and_falls_as_a_cosine) {
  Recipe recipe;
  recipe.steps = 100;
  recipe.learning_rate = 1e-3f;
  CHECK(std::fabs(learning_rate(recipe, 0) - 0.5e-3f) < 1e-8f);
  CHECK(std::fabs(learning_rate(recipe, 50) - 0.5e-3f) < 1e-8f);
  CHECK(learning_rate(recipe, 99) < 1e-6f);
}

}  // namespace
}  // namespace spotlight::train
