// What only the CUDA device has to prove of steps: graphs that give the bits of launches op by op,
// steps in flight fed by seat, block tables sent as they grow, copied and filled blocks, traces and
// counts of retrieval, codes derived anew.
#include <algorithm>
#include <numeric>

#include "attention/counters.h"
#include "device/cuda/cuda_device.h"
#include "device/cuda/runtime/gpu_test.h"
#include "device/test_model.h"
#include "test/check.h"

namespace spotlight {
namespace {

using check::random_tokens;
using check::RandomWeights;
using check::Rounding;
using check::small;
using check::Vec;

DeviceOptions options_for(const ModelConfig& config) {
  DeviceOptions options;
  options.config = config;
  options.backend = "spotlight";
  options.max_tokens = 200;
  options.max_sequences = 16;
  return options;
}

Artifact random_artifact(const ModelConfig& config, const char* encoder, int32_t bits,
                         uint32_t seed) {
  Artifact artifact;
  artifact.encoder = encoder;
  artifact.bits = bits;
  artifact.head_dim = config.head_dim;
  artifact.query_heads = config.query_heads;
  artifact.kv_heads = config.kv_heads;
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 0.1f);
  const auto values = [&](int64_t count) {
    std::vector<float> result(static_cast<size_t>(count));
    for (float& value : result) value = normal(random);
    return result;
  };
  for (int32_t l = 0; l < config.layers; l++) {
    LayerCode layer;
    const int64_t one = int64_t{config.head_dim} * bits;
    layer.key = values(config.kv_heads * one);
    layer.query = values(config.query_heads * one);
    artifact.layers.push_back(std::move(layer));
  }
  return artifact;
}

// A device with a model, an artifact in plane 0 and sequences that generate.
struct World {
  World(const ModelConfig& model_config, bool graphs)
      : config(model_config),
        weights(config, Rounding::kBf16),
        device(with_counters(), graphs),
        model(weights, device) {
    device.open_pool(64);
    encoder = device.make_encoder(random_artifact(config, "linear-asym", 128, 9));
    device.set_encoder(0, encoder.get());
    policies.resize(static_cast<size_t>(config.layers));
    for (size_t l = 0; l < policies.size(); l++) {
      policies[l].mode = l < 1 ? LayerMode::kSparse : LayerMode::kSparseTail;
      policies[l].fraction = 0.1f;
      policies[l].min_tokens = 24;
      policies[l].recent = 16;
    }
    params.temperature = 0;
    params.logprobs = config.vocab;
  }
  ~World() { device.set_encoder(0, nullptr); }

  DeviceOptions with_counters() {
    DeviceOptions options = options_for(config);
    options.counters = &counters;
    return options;
  }

  struct Sequence {
    std::vector<int32_t> table;
    int32_t seat = 0, position = 0;
    bool seated = false;
  };
  struct Part {
    Sequence* sequence;
    std::vector<int32_t> tokens;  // -1: the seat's last draw
    bool generated = true;
    std::vector<std::vector<int32_t>>* trace = nullptr;
  };
  // What a launched step needs until it is finished.
  struct Launched {
    std::vector<int32_t> tokens, positions, feeds, selected;
    std::vector<RowView> rows;
    std::vector<LogitsTask> tasks;
    StepInput input;
  };
  std::unique_ptr<Launched> launch(const std::vector<Part>& parts) {
    auto step = std::make_unique<Launched>();
    for (const Part& part : parts) {
      Sequence& s = *part.sequence;
      RowView row;
      row.block_table = s.table.data();
      row.blocks = static_cast<int32_t>(s.table.size());
      row.seat = s.seat;
      row.seated = s.seated;
      row.first = static_cast<int32_t>(step->tokens.size());
      row.tokens = static_cast<int32_t>(part.tokens.size());
      row.position = s.position;
      row.generated = part.generated;
      row.policies = policies.data();
      if (part.trace != nullptr) {
        part.trace->assign(static_cast<size_t>(config.layers * config.kv_heads), {});
        row.trace = part.trace->data();
      }
      step->rows.push_back(row);
      for (const int32_t token : part.tokens) {
        step->tokens.push_back(std::max(token, 0));
        step->feeds.push_back(token < 0 ? s.seat : -1);
        step->positions.push_back(s.position++);
      }
      step->selected.push_back(static_cast<int32_t>(step->tokens.size()) - 1);
      LogitsTask task;
      task.params = &params;
      task.seat = s.seat;
      task.position = s.position;
      step->tasks.push_back(task);
      s.seated = true;
    }
    step->input.tokens = step->tokens.data();
    step->input.positions = step->positions.data();
    step->input.feeds = step->feeds.data();
    step->input.count = static_cast<int32_t>(step->tokens.size());
    step->input.rows = step->rows.data();
    step->input.row_count = static_cast<int32_t>(step->rows.size());
    step->input.selected = step->selected.data();
    step->input.selected_count = static_cast<int32_t>(step->selected.size());
    step->input.tasks = step->tasks.data();
    device.launch(model, step->input);
    return step;
  }
  std::vector<LogitsTask> run(const std::vector<Part>& parts) {
    const auto step = launch(parts);
    device.finish();
    return step->tasks;
  }
  Sequence prompt(int32_t seat, std::vector<int32_t> table, int32_t length, uint32_t seed) {
    Sequence s{std::move(table), seat, 0, false};
    const std::vector<int32_t> tokens =
        random_tokens(static_cast<size_t>(length), config.vocab, seed);
    for (int32_t from = 0; from < length; from += 100) {
      const auto to = tokens.begin() + std::min(from + 100, length);
      run({{&s, std::vector<int32_t>(tokens.begin() + from, to), false}});
    }
    return s;
  }

  ModelConfig config;
  AttentionCounters counters;
  RandomWeights weights;
  CudaDevice<__nv_bfloat16> device;
  Transformer model;
  std::unique_ptr<Encoder> encoder;
  std::vector<LayerPolicy> policies;
  SamplingParams params;
};

void same_answers(const std::vector<LogitsTask>& a, const std::vector<LogitsTask>& b) {
  CHECK_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); i++) {
    CHECK_EQ(a[i].token, b[i].token);
    CHECK(a[i].logprobs.top_tokens == b[i].logprobs.top_tokens);
    CHECK(a[i].logprobs.top_logprobs == b[i].logprobs.top_logprobs);
  }
}

// Decode of three sequences (padded to four), one of them short enough to attend densely.
std::vector<std::vector<LogitsTask>> decode(World& world, int32_t steps) {
  auto a = world.prompt(1, {3, 8, 9, 20, 21}, 250, 1);
  auto b = world.prompt(4, {5, 6, 7}, 130, 2);
  auto c = world.prompt(0, {11}, 9, 3);
  std::vector<std::vector<LogitsTask>> answers;
  for (int32_t i = 0; i < steps; i++)
    answers.push_back(world.run({{&a, {-1}}, {&b, {-1}}, {&c, {-1}}}));
  return answers;
}

TEST(a_graph_gives_the_bits_of_launches_op_by_op) {
  check::need_gpu();
  World captured(small("llama"), true), launched(small("llama"), false);
  const auto got = decode(captured, 12), want = decode(launched, 12);
  for (size_t i = 0; i < got.size(); i++) same_answers(got[i], want[i]);
  CHECK(captured.device.graphs() >= 1);
  CHECK_EQ(launched.device.graphs(), size_t{0});
}

TEST(steps_in_flight_are_fed_by_seat) {
  check::need_gpu();
  World world(small("llama"), true);
  auto a = world.prompt(1, {3, 8, 9, 20, 21}, 250, 1);
  auto b = world.prompt(4, {5, 6, 7}, 130, 2);
  World other(small("llama"), true);
  auto c = other.prompt(1, {3, 8, 9, 20, 21}, 250, 1);
  auto d = other.prompt(4, {5, 6, 7}, 130, 2);
  // One at a time with the tokens given, two in flight with draws fed on the device.
  std::vector<std::vector<LogitsTask>> want;
  std::vector<int32_t> next = {7, 8};
  for (int i = 0; i < 9; i++) {
    want.push_back(other.run({{&c, {next[0]}}, {&d, {next[1]}}}));
    next = {want.back()[0].token, want.back()[1].token};
  }
  std::vector<std::unique_ptr<World::Launched>> flying;
  flying.push_back(world.launch({{&a, {7}}, {&b, {8}}}));
  for (size_t i = 0; i < want.size(); i++) {
    if (i + 1 < want.size()) flying.push_back(world.launch({{&a, {-1}}, {&b, {-1}}}));
    world.device.finish();
    same_answers(flying[i]->tasks, want[i]);
  }
}

TEST(a_table_grows_by_what_a_step_appends) {
  check::need_gpu();
  World world(small("llama"), true), whole(small("llama"), true);
  auto a = world.prompt(2, {3, 8}, 126, 1);
  auto b = whole.prompt(2, {3, 8, 30, 31}, 126, 1);
  for (int i = 0; i < 70; i++) {
    if (i == 2) a.table.push_back(30);
    if (i == 66) a.table.push_back(31);
    same_answers(world.run({{&a, {-1}}}), whole.run({{&b, {-1}}}));
  }
  // The seat's next sequence sends its own.
  auto c = world.prompt(2, {40, 41, 42}, 130, 5);
  auto d = whole.prompt(3, {40, 41, 42}, 130, 5);
  same_answers(world.run({{&c, {-1}}}), whole.run({{&d, {-1}}}));
}

TEST(a_copied_block_serves_as_its_source) {
  check::need_gpu();
  World world(small("llama"), true);
  auto a = world.prompt(1, {3, 8, 9}, 150, 1);
  world.device.copy_block(9, 33);
  World::Sequence b{{3, 8, 33}, 2, 150, false};
  for (int i = 0; i < 6; i++) {
    const int32_t token = 10 + i;
    const auto one = world.run({{&a, {token}}});
    const auto two = world.run({{&b, {token}}});
    same_answers(one, two);
  }
}

TEST(rows_of_many_generated_tokens_give_what_their_decode_gave) {
  check::need_gpu();
  World world(small("llama"), true);
  // Nearly all is selected: products of other sizes round otherwise, and which of two like tokens a
  // rounded query selects must not matter.
  for (LayerPolicy& policy : world.policies) policy.fraction = 0.9f;
  auto a = world.prompt(1, {3, 8, 9, 10}, 150, 1);
  auto b = world.prompt(2, {13, 18, 19, 20}, 150, 1);
  std::vector<int32_t> tokens = random_tokens(40, world.config.vocab, 8);
  std::vector<LogitsTask> one;
  for (const int32_t token : tokens) one = world.run({{&a, {token}}});
  const auto many = world.run({{&b, tokens}});
  Vec want(one[0].logprobs.top_tokens.size());
  std::vector<float> got(want.size());
  for (size_t i = 0; i < want.size(); i++) {
    want[static_cast<size_t>(one[0].logprobs.top_tokens[i])] = one[0].logprobs.top_logprobs[i];
    got[static_cast<size_t>(many[0].logprobs.top_tokens[i])] = many[0].logprobs.top_logprobs[i];
  }
  CHECK_CLOSE(got, std::vector<float>(want.begin(), want.end()), 1.0, 0.02);
}

TEST(traces_and_counts_follow_the_policy) {
  check::need_gpu();
  World world(small("llama"), true);
  auto a = world.prompt(1, {3, 8, 9, 20, 21}, 300, 1);
  const int64_t before = world.counters.selected_tokens;
  std::vector<std::vector<int32_t>> trace;
  world.run({{&a, {5}, true, &trace}});
  const int32_t context = 301, k = 30;  // a tenth
  CHECK_EQ(world.counters.selected_tokens - before, int64_t{3} * world.config.kv_heads * k);
  CHECK_EQ(world.counters.sparse_rows.load(), int64_t{1});
  CHECK_EQ(trace.size(), static_cast<size_t>(3 * world.config.kv_heads));
  for (const std::vector<int32_t>& list : trace) {
    CHECK_EQ(list.size(), static_cast<size_t>(k));
    CHECK(std::is_sorted(list.begin(), list.end()));
    for (int32_t i = 0; i < 4; i++) CHECK_EQ(list[static_cast<size_t>(i)], i);
    for (int32_t i = 0; i < 16; i++)
      CHECK_EQ(list[list.size() - 1 - static_cast<size_t>(i)], context - 1 - i);
  }
}

TEST(codes_derived_anew_select_the_same) {
  check::need_gpu();
  World world(small("llama"), true);
  auto a = world.prompt(1, {3, 8, 9, 20, 21}, 300, 1);
  std::vector<std::vector<int32_t>> first, second;
  world.run({{&a, {5}, true, &first}});
  const std::vector<int32_t> blocks = {3, 8, 9, 20, 21}, filled = {64, 64, 64, 64, 45};
  world.device.rehash(0, blocks.data(), filled.data(), 5);
  a.position--;
  world.run({{&a, {5}, true, &second}});
  CHECK(first == second);
  // Another artifact's codes select otherwise; the first's come back with it.
  auto other = world.device.make_encoder(random_artifact(world.config, "linear-asym", 128, 77));
  world.device.set_encoder(0, other.get());
  world.device.rehash(0, blocks.data(), filled.data(), 5);
  a.position--;
  world.run({{&a, {5}, true, &second}});
  CHECK(first != second);
  world.device.set_encoder(0, world.encoder.get());
  world.device.rehash(0, blocks.data(), filled.data(), 5);
  a.position--;
  world.run({{&a, {5}, true, &second}});
  CHECK(first == second);
}

TEST(filled_blocks_are_as_their_seed) {
  check::need_gpu();
  ModelConfig config = small("llama");
  config.max_model_len = 40 * 64;
  World world(config, true);
  std::vector<int32_t> blocks(40);
  std::iota(blocks.begin(), blocks.end(), 5);
  const auto run = [&](uint64_t seed) {
    world.device.fill(blocks.data(), 40, seed);
    World::Sequence s{blocks, 3, 39 * 64, false};
    return world.run({{&s, {7}}});
  };
  const auto one = run(1), two = run(2), again = run(1);
  same_answers(one, again);
  CHECK(one[0].logprobs.top_logprobs != two[0].logprobs.top_logprobs);
}

}  // namespace
}  // namespace spotlight
