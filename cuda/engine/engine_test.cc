// The engine on a small dummy model, without JS: order of answers, faults, slots. What it computes
// is held by the device's test, what it refuses by the contract cases in test/contract.
#include "engine/engine.h"

#include <algorithm>
#include <deque>
#include <future>

#include "test/check.h"

namespace spotlight {
namespace {

EngineOptions options() {
  EngineOptions result;
  result.model.kind = "dummy";
  result.model.path = "tiny-llama";
  result.threads = 2;
  result.blocks = 8;
  return result;
}

SequenceOptions greedy(int32_t slot = 0) {
  SequenceOptions result;
  result.sampling.temperature = 0;
  result.slot = slot;
  return result;
}

Batch one_row(int32_t sequence, int32_t position, std::vector<int32_t> tokens,
              std::vector<int32_t> blocks) {
  Batch batch;
  BatchRow row;
  row.sequence = sequence;
  row.position = position;
  row.tokens = std::move(tokens);
  row.append_blocks = std::move(blocks);
  row.sample = true;
  batch.rows.push_back(std::move(row));
  return batch;
}

// Submits and waits. The promises are shared: the engine thread may still be in set_value when get
// returns.
StepResult run(Engine& engine, Batch batch) {
  const auto answer = std::make_shared<std::promise<StepResult>>();
  engine.submit(std::move(batch), [answer](StepResult result, const std::exception_ptr& error) {
    if (error != nullptr) {
      answer->set_exception(error);
    } else {
      answer->set_value(std::move(result));
    }
  });
  StepResult result = answer->get_future().get();
  engine.retire();
  return result;
}

void command(const std::function<void(CommandDone)>& start) {
  const auto done = std::make_shared<std::promise<void>>();
  start([done](const std::exception_ptr& error) {
    if (error != nullptr) {
      done->set_exception(error);
    } else {
      done->set_value();
    }
  });
  done->get_future().get();
}

std::unique_ptr<Encoder> encoder_of(const Engine& engine) {
  const ModelConfig& config = engine.file().config();
  Artifact artifact;
  artifact.encoder = "linear-asym";
  artifact.bits = 128;
  artifact.head_dim = config.head_dim;
  artifact.query_heads = config.query_heads;
  artifact.kv_heads = config.kv_heads;
  artifact.layers.resize(1);
  artifact.layers[0].key.assign(static_cast<size_t>(config.kv_heads) * config.head_dim * 128, 0.5f);
  artifact.layers[0].query.assign(static_cast<size_t>(config.query_heads) * config.head_dim * 128,
                                  0.5f);
  return engine.encoder_for(artifact);
}

// The CPU device, for others to change something of.
struct Wrapped : Device {
  std::unique_ptr<Device> real;
  explicit Wrapped(const DeviceOptions& options) : real(make_cpu_device(options)) {}
  const std::string& name() const override { return real->name(); }
  const std::string& isa() const override { return real->isa(); }
  int32_t threads() const override { return real->threads(); }
  Weight load(const std::vector<const WeightView*>& views) override { return real->load(views); }
  bool stackable(const std::vector<const WeightView*>& views) const override {
    return real->stackable(views);
  }
  int32_t open_pool(int32_t blocks) override { return real->open_pool(blocks); }
  int32_t depth() const override { return 1; }
  void launch(const Program& program, const StepInput& step) override {
    real->launch(program, step);
  }
  bool finished() override { return real->finished(); }
  void finish() override { real->finish(); }
  std::unique_ptr<Encoder> make_encoder(const Artifact& artifact) const override {
    return real->make_encoder(artifact);
  }
  void idle() override { real->idle(); }
  void copy_block(int32_t from, int32_t to) override { real->copy_block(from, to); }
  void set_encoder(int32_t plane, const Encoder* encoder) override {
    real->set_encoder(plane, encoder);
  }
  void rehash(int32_t plane, const int32_t* blocks, const int32_t* filled, int32_t count) override {
    real->rehash(plane, blocks, filled, count);
  }
  void fill(const int32_t* blocks, int32_t count, uint64_t seed) override {
    real->fill(blocks, count, seed);
  }
};

// Falls over in its second step, once the gate opens.
struct Failing final : Wrapped {
  std::shared_future<void> gate;
  int runs = 0;
  Failing(const DeviceOptions& options, std::shared_future<void> opens)
      : Wrapped(options), gate(std::move(opens)) {}
  void launch(const Program& program, const StepInput& step) override {
    if (++runs == 2) {
      gate.wait();
      throw std::runtime_error("the device fell over");
    }
    real->launch(program, step);
  }
};

// Of depth 2, as a GPU is: a step runs when it is finished, draws stay on the device and feed the
// step behind. The first step does not end before the second is launched.
struct Overlapping final : Wrapped {
  struct Held {
    const Program* program;
    StepInput step;
    std::vector<RowView> rows;
    std::vector<std::vector<int32_t>> tables;
  };
  std::deque<Held> held;
  std::vector<int32_t> last;
  int launches = 0, most = 0;
  explicit Overlapping(const DeviceOptions& options)
      : Wrapped(options), last(static_cast<size_t>(options.max_sequences), -1) {}
  int32_t depth() const override { return 2; }
  void launch(const Program& program, const StepInput& step) override {
    Held& made = held.emplace_back(Held{&program, step, {}, {}});
    made.rows.assign(step.rows, step.rows + step.row_count);
    for (RowView& row : made.rows)
      made.tables.emplace_back(row.block_table, row.block_table + row.blocks);
    for (size_t i = 0; i < made.rows.size(); i++) made.rows[i].block_table = made.tables[i].data();
    made.step.rows = made.rows.data();
    launches++;
    most = std::max(most, static_cast<int>(held.size()));
  }
  bool finished() override { return launches > 1; }
  void finish() override {
    Held now = std::move(held.front());
    held.pop_front();
    std::vector<int32_t> tokens(now.step.tokens, now.step.tokens + now.step.count);
    for (size_t i = 0; i < tokens.size(); i++)
      if (now.step.feeds[i] >= 0) tokens[i] = last[static_cast<size_t>(now.step.feeds[i])];
    now.step.tokens = tokens.data();
    real->run(*now.program, now.step);
    for (int32_t i = 0; i < now.step.selected_count; i++)
      if (now.step.tasks[i].params != nullptr)
        last[static_cast<size_t>(now.step.tasks[i].seat)] = now.step.tasks[i].token;
  }
};

TEST(two_steps_in_flight_and_the_third_is_refused) {
  Engine engine(options());
  const int32_t sequence = engine.open(greedy());
  std::promise<int> first, second;
  engine.submit(one_row(sequence, 0, {1, 2, 3}, {0}),
                [&](StepResult r, const std::exception_ptr&) { first.set_value(r.step); });
  engine.submit(one_row(sequence, 3, {kLastSample}, {}),
                [&](StepResult r, const std::exception_ptr&) { second.set_value(r.step); });
  CHECK_THROWS(engine.submit(one_row(sequence, 4, {kLastSample}, {}), nullptr), kQueueFull,
               "in flight");
  CHECK_EQ(first.get_future().get(), 1);
  CHECK_EQ(second.get_future().get(), 2);
  engine.retire();
  engine.retire();
  CHECK_EQ(run(engine, one_row(sequence, 4, {kLastSample}, {})).step, 3);
  CHECK_EQ(engine.stats().tokens, 5);
}

TEST(steps_in_flight_finish_before_the_end) {
  int answered = 0;
  {
    Engine engine(options());
    const int32_t sequence = engine.open(greedy());
    engine.submit(one_row(sequence, 0, std::vector<int32_t>(400, 5), {0, 1, 2, 3, 4, 5, 6}),
                  [&](StepResult r, const std::exception_ptr&) { answered += r.rows.size() == 1; });
    engine.submit(one_row(sequence, 400, {kLastSample}, {}),
                  [&](StepResult r, const std::exception_ptr&) { answered += r.rows.size() == 1; });
  }
  CHECK_EQ(answered, 2);
}

// Steps `count` times, always two in flight, each fed by the one before; returns what was drawn.
std::vector<int32_t> decode(Engine& engine, int count, const SequenceOptions& sequence) {
  const int32_t id = engine.open(sequence);
  std::deque<std::future<StepResult>> answers;
  std::vector<int32_t> drawn;
  const auto submit = [&](int32_t position, std::vector<int32_t> tokens,
                          std::vector<int32_t> blocks) {
    const auto answer = std::make_shared<std::promise<StepResult>>();
    answers.push_back(answer->get_future());
    engine.submit(one_row(id, position, std::move(tokens), std::move(blocks)),
                  [answer](StepResult result, const std::exception_ptr&) {
                    answer->set_value(std::move(result));
                  });
  };
  const auto collect = [&] {
    drawn.push_back(answers.front().get().rows.at(0).token);
    answers.pop_front();
    engine.retire();
  };
  submit(0, {1, 2, 3, 4}, {5});
  for (int i = 0; i < count; i++) {
    const int32_t position = 4 + i;
    submit(position, {kLastSample},
           position % kBlockSize == 0 ? std::vector<int32_t>{position / kBlockSize}
                                      : std::vector<int32_t>{});
    collect();
  }
  collect();
  return drawn;
}

TEST(overlapped_steps_draw_what_steps_one_by_one_draw) {
  SequenceOptions warm = greedy();
  warm.sampling.temperature = 1;
  warm.sampling.seed = 7;
  // What penalties look at is known to the host only, so such a step waits for the one before.
  SequenceOptions penalised = warm;
  penalised.sampling.presence_penalty = 2;
  penalised.prompt_tokens = {1, 2, 3, 4};
  for (const SequenceOptions& sequence : {warm, penalised}) {
    Overlapping* device = nullptr;
    Engine overlapped(options(), [&](const std::string&, const DeviceOptions& made) {
      auto owned = std::make_unique<Overlapping>(made);
      device = owned.get();
      if (sequence.sampling.penalises()) owned->launches = 1;  // steps end without a second one
      return owned;
    });
    Engine plain(options());
    CHECK(decode(overlapped, 80, sequence) == decode(plain, 80, sequence));
    CHECK_EQ(device->most, sequence.sampling.penalises() ? 1 : 2);
  }
}

TEST(a_fault_kills_the_engine_with_its_message) {
  std::promise<void> gate;
  const std::shared_future<void> opens = gate.get_future().share();
  Engine engine(options(), [&](const std::string&, const DeviceOptions& device) {
    return std::make_unique<Failing>(device, opens);
  });
  const int32_t sequence = engine.open(greedy());
  run(engine, one_row(sequence, 0, {1}, {0}));
  // The step behind the one that fails must not run on what that left.
  std::promise<std::string> behind;
  const auto message = [](const std::exception_ptr& error) -> std::string {
    try {
      std::rethrow_exception(error);
    } catch (const Error& dead) {
      return std::string(dead.code()) + " " + dead.what();
    }
  };
  std::promise<std::string> failing;
  engine.submit(one_row(sequence, 1, {1}, {}),
                [&](StepResult, const std::exception_ptr& e) { failing.set_value(message(e)); });
  engine.submit(one_row(sequence, 2, {1}, {}),
                [&](StepResult, const std::exception_ptr& e) { behind.set_value(message(e)); });
  gate.set_value();
  CHECK_EQ(failing.get_future().get(), "ENGINE_DEAD the engine is dead: the device fell over");
  CHECK_EQ(behind.get_future().get(), "ENGINE_DEAD the engine is dead: the device fell over");
  engine.retire();
  engine.retire();
  CHECK_THROWS(engine.submit(one_row(sequence, 3, {1}, {}), nullptr), kEngineDead,
               "the device fell over");
  CHECK_THROWS(engine.open(greedy()), kEngineDead, "the device fell over");
  CHECK_THROWS(engine.rehash(0, {}, {}, nullptr), kEngineDead, "the device fell over");
  CHECK_THROWS(engine.fill({}, 1, nullptr), kEngineDead, "the device fell over");
}

TEST(a_slot_in_use_or_in_change_is_not_changed) {
  Engine engine(options());
  const int32_t sequence = engine.open(greedy(1));
  CHECK_THROWS(engine.reserve_slot(1), kInvalidArgument, "slot");
  engine.reserve_slot(0);
  CHECK_THROWS(engine.reserve_slot(0), kInvalidArgument, "slot");
  CHECK_THROWS(engine.open(greedy(0)), kInvalidArgument, "slot");
  command([&](CommandDone done) { engine.set_encoder(0, encoder_of(engine), std::move(done)); });
  engine.release_slot(0);
  engine.open(greedy(0));
  Batch close;
  close.close = {sequence};
  run(engine, close);
  engine.reserve_slot(1);
}

TEST(artifacts_that_do_not_fit_are_refused_with_what_they_need) {
  const Engine engine(options());
  Artifact artifact;
  artifact.encoder = "linear-asym";
  artifact.bits = 256;
  artifact.head_dim = engine.file().config().head_dim;
  artifact.query_heads = engine.file().config().query_heads;
  artifact.kv_heads = engine.file().config().kv_heads;
  CHECK_THROWS(engine.encoder_for(artifact), kArtifactMismatch, "256 bits");
  artifact.bits = 128;
  artifact.kv_heads += 1;
  CHECK_THROWS(engine.encoder_for(artifact), kArtifactMismatch, "kv_heads");
}

TEST(the_crossover_is_the_devices_own_unless_set) {
  CHECK_EQ(*Engine(options()).options().attention.crossover, 1024);
  EngineOptions pinned = options();
  pinned.attention.crossover = 0;
  CHECK_EQ(*Engine(pinned).options().attention.crossover, 0);
}

TEST(bad_options_are_refused_by_name) {
  const auto bad = [](auto change, const char* field) {
    EngineOptions changed = options();
    change(changed);
    CHECK_THROWS(Engine{changed}, kInvalidArgument, field);
  };
  bad([](EngineOptions& o) { o.device = "tpu"; }, "device");
  bad([](EngineOptions& o) { o.threads = 1000; }, "threads");
  bad([](EngineOptions& o) { o.blocks = 0; }, "blocks");
  bad([](EngineOptions& o) { o.blocks = 0, o.kv_bytes = 10; }, "kvBytes");
  bad([](EngineOptions& o) { o.max_batch_tokens = -1; }, "maxBatchTokens");
  bad([](EngineOptions& o) { o.attention.crossover = -1; }, "attention.crossover");
  bad([](EngineOptions& o) { o.code_bits = 100; }, "codeBits");
  bad([](EngineOptions& o) { o.isa = "mmx"; }, "isa");
  bad([](EngineOptions& o) { o.model.kind = "onnx"; }, "model.kind");
  EngineOptions by_bytes = options();
  by_bytes.blocks = 0;
  by_bytes.kv_bytes = 3 << 20;
  CHECK(Engine(by_bytes).blocks() > 0);
}

}  // namespace
}  // namespace spotlight
