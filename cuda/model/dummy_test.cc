#include <cmath>
#include <set>

#include "model/test_files.h"

namespace spotlight {
namespace {

float bf16_at(const WeightView& view, int64_t index) {
  ggml_bf16_t value;
  std::memcpy(&value, static_cast<const uint16_t*>(view.data) + index, sizeof value);
  return ggml_bf16_to_fp32(value);
}

TEST(same_seed_gives_the_same_bytes_and_another_seed_others) {
  for (const char* shape : {"tiny-llama", "tiny-qwen2", "tiny-qwen3"}) {
    const auto one = make_dummy(shape, 7, 0, 0), same = make_dummy(shape, 7, 0, 0),
               other = make_dummy(shape, 8, 0, 0);
    check::check_same_weights(*same, *one);
    for (const auto& [name, view] : one->views())
      if (std::memcmp(view.data, other->get(name).data, view.bytes) == 0)
        check::fail(__FILE__, __LINE__, name + " does not depend on the seed");
  }
}

TEST(layers_differ_and_do_not_depend_on_how_many_there_are) {
  const auto two = make_dummy("tiny-llama", 1, 2, 0), four = make_dummy("tiny-llama", 1, 0, 0);
  CHECK_EQ(two->config().layers, 2);
  CHECK_EQ(four->config().layers, 4);
  const WeightView& q = four->get("layers.1.q");
  CHECK(std::memcmp(q.data, two->get("layers.1.q").data, q.bytes) == 0);
  CHECK(std::memcmp(q.data, four->get("layers.0.q").data, q.bytes) != 0);
  CHECK(!two->has("layers.2.q"));
}

TEST(values_are_centred_finite_and_as_wide_as_planned) {
  const auto model = make_dummy("tiny-llama", 3, 0, 0);
  struct Expected {
    const char* name;
    double deviation;
  };
  const double base = 1 / std::sqrt(128.0);
  for (const Expected& expected : {Expected{"layers.2.k", base},
                                   {"layers.2.q", 2 * base},
                                   {"layers.2.o", base / std::sqrt(8.0)},
                                   {"embed", 2 * base}}) {
    const WeightView& view = model->get(expected.name);
    double sum = 0, squares = 0;
    const int64_t count = view.rows * view.cols;
    std::set<float> distinct;
    for (int64_t i = 0; i < count; i++) {
      const double value = bf16_at(view, i);
      sum += value, squares += value * value;
      distinct.insert(static_cast<float>(value));
    }
    const double deviation = std::sqrt(squares / count);
    CHECK(std::fabs(deviation / expected.deviation - 1) < 0.03);
    CHECK(std::fabs(sum / count) < 0.05 * deviation);
    CHECK(distinct.size() > 500);
  }
}

TEST(named_shapes_carry_what_their_architecture_has) {
  const auto qwen = make_dummy("qwen2.5-0.5b", 1, 1, 1 << 20);
  CHECK_EQ(qwen->config().max_model_len, 1 << 20);
  CHECK(qwen->has("layers.0.q_bias") && !qwen->has("head") && !qwen->has("layers.0.q_norm"));
  CHECK_EQ(qwen->get("layers.0.k_bias").cols, 128);
  const auto qwen3 = make_dummy("qwen3-0.6b", 1, 1, 0);
  CHECK(qwen3->has("layers.0.q_norm") && !qwen3->has("layers.0.q_bias"));
  CHECK_EQ(qwen3->get("layers.0.q").rows, 2048);
  CHECK_EQ(qwen3->get("layers.0.q").cols, 1024);
  CHECK(make_dummy("tiny-qwen2", 1, 0, 0)->has("head"));
  CHECK(make_dummy("llama-3.2-1b", 1, 1, 0)->config().rope.scaling == RopeScaling::kLlama3);
}

TEST(an_unknown_shape_is_refused_with_the_names_there_are) {
  CHECK_THROWS(make_dummy("gpt-9", 1, 0, 0), kModelNotFound, "smollm2-135m");
  CHECK_THROWS(make_dummy("tiny-llama", 1, 1 << 20, 0), kModelCorrupt, "layers");
}

}  // namespace
}  // namespace spotlight
