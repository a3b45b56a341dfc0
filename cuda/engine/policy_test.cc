#include "engine/policy.h"

#include "attention/selectors/selector.h"
#include "error.h"
#include "test/check.h"

namespace spotlight {
namespace {

struct SomeLayers final : Encoder {
  bool has_layer(int32_t layer) const override { return layer != 3; }
  int32_t plane_words() const override { return 4; }
  int32_t selections() const override { return 1; }
};

AttentionSettings settings() {
  AttentionSettings result;
  result.crossover = 100;
  return result;
}

TEST(the_tail_starts_at_its_layer_and_layers_without_codes_are_dense) {
  const SomeLayers encoder;
  const auto policies = resolve_policies(settings(), {}, 5, &encoder);
  CHECK(policies[0].mode == LayerMode::kSparse);
  CHECK(policies[1].mode == LayerMode::kSparse);
  CHECK(policies[2].mode == LayerMode::kSparseTail);
  CHECK(policies[3].mode == LayerMode::kDense);
  CHECK(policies[4].mode == LayerMode::kSparseTail);
  CHECK_EQ(policies[4].fraction, 0.02f);
  CHECK_EQ(policies[4].min_tokens, 256);
  CHECK_EQ(policies[4].sink, 4);
  CHECK_EQ(policies[4].recent, 64);
  CHECK_EQ(policies[4].crossover, 100);
}

TEST(without_an_artifact_or_by_request_all_is_dense) {
  const SomeLayers encoder;
  AttentionOverride dense;
  dense.backend = "dense";
  for (const auto& policy : resolve_policies(settings(), {}, 5, nullptr))
    CHECK(policy.mode == LayerMode::kDense);
  for (const auto& policy : resolve_policies(settings(), dense, 5, &encoder))
    CHECK(policy.mode == LayerMode::kDense);
}

TEST(a_layer_overrides_the_deployment_and_the_request_overrides_both) {
  const SomeLayers encoder;
  AttentionSettings own = settings();
  own.layers[0] = {LayerMode::kSparseTail, 0.5f};
  own.layers[4] = {LayerMode::kDense, {}};
  auto policies = resolve_policies(own, {}, 5, &encoder);
  CHECK(policies[0].mode == LayerMode::kSparseTail);
  CHECK_EQ(policies[0].fraction, 0.5f);
  CHECK(policies[4].mode == LayerMode::kDense);
  AttentionOverride request;
  request.fraction = 0.1f;
  request.tail = false;
  policies = resolve_policies(own, request, 5, &encoder);
  CHECK(policies[0].mode == LayerMode::kSparse);
  CHECK_EQ(policies[0].fraction, 0.1f);
  CHECK(policies[2].mode == LayerMode::kSparse);
  CHECK(policies[4].mode == LayerMode::kDense);
}

TEST(a_request_may_turn_the_tail_on) {
  const SomeLayers encoder;
  AttentionSettings plain = settings();
  plain.tail = false;
  AttentionOverride request;
  request.tail = true;
  CHECK(resolve_policies(plain, {}, 5, &encoder)[2].mode == LayerMode::kSparse);
  CHECK(resolve_policies(plain, request, 5, &encoder)[2].mode == LayerMode::kSparseTail);
  CHECK(resolve_policies(plain, request, 5, &encoder)[1].mode == LayerMode::kSparse);
}

TEST(bad_settings_are_refused_by_field) {
  const auto bad = [](auto change, const char* field) {
    AttentionSettings changed = settings();
    change(changed);
    CHECK_THROWS(validate(changed, 5), kInvalidArgument, field);
  };
  validate(settings(), 5);
  bad([](AttentionSettings& s) { s.backend = "fast"; }, "attention.backend");
  bad([](AttentionSettings& s) { s.fraction = 0; }, "attention.fraction");
  bad([](AttentionSettings& s) { s.fraction = 1.5f; }, "attention.fraction");
  bad([](AttentionSettings& s) { s.fraction = NAN; }, "attention.fraction");
  bad([](AttentionSettings& s) { s.min_tokens = -1; }, "attention.minTokens");
  bad([](AttentionSettings& s) { s.crossover = -1; }, "attention.crossover");
  bad([](AttentionSettings& s) { s.layers[5] = {}; }, "attention.layers[5]");
  bad([](AttentionSettings& s) { s.layers[1].fraction = 2; }, "attention.layers[1].fraction");
  AttentionOverride request;
  request.backend = "spotlight";
  AttentionSettings dense = settings();
  dense.backend = "dense";
  validate(request, settings(), 5);
  CHECK_THROWS(validate(request, dense, 5), kInvalidArgument, "attention.backend");
}

TEST(selectors_need_an_engine_that_has_them_and_no_artifact) {
  AttentionOverride request;
  request.backend = "quest";
  CHECK_THROWS(validate(request, settings(), 5), kInvalidArgument,
               "must be \"dense\" or \"spotlight\"; this engine was not started with");
  validate(request, settings(), 5, true);
  request.backend = "nothing";
  CHECK_THROWS(validate(request, settings(), 5, true), kInvalidArgument,
               "\"snapkv\" or \"fastgen\"");
  for (const Selector* selector : all_selectors()) {
    request.backend = selector->info().name;
    request.layers = std::map<int32_t, LayerSettings>{{3, {LayerMode::kDense, {}}}};
    const auto policies = resolve_policies(settings(), request, 5, nullptr);
    CHECK(policies[3].mode == LayerMode::kDense);
    CHECK(policies[4].selector == selector);
    CHECK(policies[1].mode == LayerMode::kSparse);
    CHECK(policies[4].mode ==
          (selector->info().tail ? LayerMode::kSparseTail : LayerMode::kSparse));
  }
  request = {};
  for (const auto& policy : resolve_policies(settings(), request, 5, nullptr))
    CHECK(policy.selector == nullptr);
}

TEST(a_request_may_override_every_setting) {
  const SomeLayers encoder;
  AttentionOverride request;
  request.min_tokens = 7;
  request.sink = 1;
  request.recent = 2;
  request.tail_from = 4;
  request.crossover = 9;
  request.layers = std::map<int32_t, LayerSettings>{{0, {LayerMode::kSparseTail, 0.5f}}};
  request.fraction = 0.25f;
  const auto policies = resolve_policies(settings(), request, 5, &encoder);
  CHECK_EQ(policies[1].min_tokens, 7);
  CHECK_EQ(policies[1].sink, 1);
  CHECK_EQ(policies[1].recent, 2);
  CHECK_EQ(policies[1].crossover, 9);
  CHECK_EQ(policies[1].fraction, 0.25f);
  CHECK_EQ(policies[0].fraction, 0.5f);
  CHECK(policies[0].mode == LayerMode::kSparseTail);
  CHECK(policies[2].mode == LayerMode::kSparse);
  request.layers->emplace(5, LayerSettings{});
  CHECK_THROWS(validate(request, settings(), 5), kInvalidArgument, "attention.layers[5]");
  request.layers.reset();
  request.sink = -1;
  CHECK_THROWS(validate(request, settings(), 5), kInvalidArgument, "attention.sink");
}

}  // namespace
}  // namespace spotlight
