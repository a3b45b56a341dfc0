// Whole decode steps of a model on a GPU, driven as a worker drives them: the engine's own queue,
// two steps in flight, draws fed forward on the device. Caches are filled by the engine's seeded
// fill, since a prefill of a million tokens takes minutes; the context grows by the steps measured,
// which is below 1%. With --prefill, whole prompts in chunks, too: the time to the first token,
// with and without an artifact whose codes are written on the way. Prints one JSON object a line,
// dense the baseline of each case.
//
// engine_cuda_bench [--model SHAPE] [--layers N] [--cases 1x8192,16x122880,...|none]
//        [--ways dense,spotlight] [--steps N] [--fraction F] [--no-tail]
//        [--prefill 32768,131072|none] [--chunk 8192] [--rounds 2]
#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>

#include "bench/gpu_bench.cuh"
#include "engine/engine.h"
#include "model/weight_plan.h"

namespace spotlight::bench {
namespace {

using Clock = std::chrono::steady_clock;

struct Size {
  int32_t batch = 1, context = 8192;
  std::string name() const { return std::to_string(batch) + "x" + std::to_string(context); }
  int32_t held() const { return (context + kBlockSize - 1) / kBlockSize; }  // blocks a sequence
  int32_t blocks(int32_t steps) const {
    return batch * ((context + steps + 2 + kBlockSize) / kBlockSize);
  }
};

struct Options {
  std::string model = "qwen2.5-7b";
  int32_t layers = 0, steps = 96, chunk = 8192, rounds = 2;
  float fraction = 0.02f;
  bool tail = true;
  std::vector<std::string> ways = {"dense", "spotlight"};
  std::vector<Size> cases = {{1, 8192},   {1, 32768},  {1, 131072},  {8, 8192},    {8, 32768},
                             {8, 131072}, {16, 32768}, {16, 122880}, {1, 1048576}, {64, 2048}};
  std::vector<int32_t> prefill = {32768, 131072};  // tokens of a prompt
};

// A seeded artifact of the default encoder for every layer: what it retrieves is of no matter here,
// how much is.
Artifact random_artifact(const ModelConfig& config, int32_t bits) {
  Artifact artifact;
  artifact.encoder = "linear-asym";
  artifact.bits = bits;
  artifact.head_dim = config.head_dim;
  artifact.query_heads = config.query_heads;
  artifact.kv_heads = config.kv_heads;
  uint64_t state = 0x5eed;
  const auto fill = [&state](std::vector<float>& values, size_t count, float limit) {
    values.resize(count);
    for (float& value : values) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      value = limit * (static_cast<float>(static_cast<int32_t>(state >> 32)) * 0x1p-31f);
    }
  };
  const size_t part = size_t(config.head_dim) * bits;
  const float limit = std::sqrt(3.f / static_cast<float>(config.head_dim));
  for (int32_t layer = 0; layer < config.layers; layer++) {
    LayerCode code;
    fill(code.key, config.kv_heads * part, limit);
    fill(code.query, config.query_heads * part, limit);
    artifact.layers.push_back(std::move(code));
  }
  return artifact;
}

// Answers of the engine thread, taken by the caller's.
class Answers {
 public:
  StepDone taker() {
    return [this](StepResult result, std::exception_ptr error) {
      const std::lock_guard<std::mutex> lock(mutex_);
      answers_.push_back({std::move(result), error, Clock::now()});
      wake_.notify_one();
    };
  }
  // When the next step's answer came. Throws what the step threw.
  Clock::time_point next(Engine& engine) {
    std::unique_lock<std::mutex> lock(mutex_);
    wake_.wait(lock, [this] { return !answers_.empty(); });
    const Answer answer = std::move(answers_.front());
    answers_.pop_front();
    lock.unlock();
    engine.retire();
    if (answer.error) std::rethrow_exception(answer.error);
    return answer.at;
  }

 private:
  struct Answer {
    StepResult result;
    std::exception_ptr error;
    Clock::time_point at;
  };
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Answer> answers_;
};

// The promise is shared: the engine thread may still be in set_value when get returns.
void wait(const std::function<void(CommandDone)>& command) {
  const auto done = std::make_shared<std::promise<std::exception_ptr>>();
  command([done](const std::exception_ptr& error) { done->set_value(error); });
  if (const std::exception_ptr error = done->get_future().get()) std::rethrow_exception(error);
}

// Milliseconds a step of `size` decoding together, the median of the times between answers.
double decode_ms(Engine& engine, const Size& size, const std::string& way, const Options& options) {
  // Neighbouring ids belong to different sequences, as in a pool that has served for a while.
  const auto block_of = [&size](int32_t row, int32_t i) { return i * size.batch + row; };
  std::vector<int32_t> sequences;
  for (int32_t row = 0; row < size.batch; row++) {
    SequenceOptions sequence;
    sequence.sampling.temperature = 0;
    sequence.sampling.seed = static_cast<uint64_t>(row);
    sequence.attention.backend = way;
    sequence.attention.tail = options.tail;
    for (int32_t i = 0; i < size.held(); i++) sequence.blocks.push_back(block_of(row, i));
    sequences.push_back(engine.open(sequence));
  }
  Answers answers;
  const auto submit = [&](int32_t step) {
    Batch batch;
    for (int32_t row = 0; row < size.batch; row++) {
      BatchRow one;
      one.sequence = sequences[static_cast<size_t>(row)];
      one.position = size.context + step;
      one.generated = true;
      one.sample = true;
      one.tokens = {step == 0 ? 100 + row : kLastSample};
      if (one.position % kBlockSize == 0)
        one.append_blocks = {block_of(row, one.position / kBlockSize)};
      batch.rows.push_back(std::move(one));
    }
    engine.submit(std::move(batch), answers.taker());
  };
  std::vector<double> took;
  submit(0);
  Clock::time_point last{};
  // The first steps record graphs and rehash what is stale.
  const int32_t warm = std::min(16, options.steps / 3);
  for (int32_t step = 0; step < options.steps; step++) {
    if (step + 1 < options.steps) submit(step + 1);
    const Clock::time_point at = answers.next(engine);
    if (step > warm) took.push_back(std::chrono::duration<double, std::milli>(at - last).count());
    last = at;
  }
  Batch close;
  close.close = sequences;
  engine.submit(std::move(close), answers.taker());
  answers.next(engine);
  return median(std::move(took));
}

// Seconds from a prompt's first chunk to its first token, the chunks two in flight.
double first_token_seconds(Engine& engine, int32_t tokens, int32_t chunk) {
  SequenceOptions sequence;
  sequence.sampling.temperature = 0;
  const int32_t opened = engine.open(sequence);
  const int32_t vocab = engine.file().config().vocab;
  Answers answers;
  int32_t in_flight = 0, blocks = 0;
  const Clock::time_point begin = Clock::now();
  Clock::time_point end = begin;
  const auto take = [&] {
    end = answers.next(engine);
    in_flight--;
  };
  for (int32_t from = 0; from < tokens; from += chunk) {
    if (in_flight == kMaxStepsInFlight) take();
    BatchRow row;
    row.sequence = opened;
    row.position = from;
    const int32_t to = std::min(tokens, from + chunk);
    for (int32_t i = from; i < to; i++)
      row.tokens.push_back(static_cast<int32_t>((int64_t{i} * 7919 + 13) % vocab));
    while (blocks * kBlockSize < to) row.append_blocks.push_back(blocks++);
    row.sample = to == tokens;
    Batch batch;
    batch.rows.push_back(std::move(row));
    engine.submit(std::move(batch), answers.taker());
    in_flight++;
  }
  while (in_flight > 0) take();
  Batch close;
  close.close = {opened};
  engine.submit(std::move(close), answers.taker());
  answers.next(engine);
  return std::chrono::duration<double>(end - begin).count();
}

// Bytes that one step must read: every weight but the embedding's unused rows, and of the cache
// what the way to attend reads.
double step_bytes(const ModelConfig& config, const Size& size, const std::string& way,
                  const Options& options, int32_t code_bits) {
  double weights = 0;
  for (const PlannedWeight& planned : plan_weights(config))
    if (planned.name != "embed" || config.tied_embeddings)
      weights += 2.0 * static_cast<double>(planned.rows) * static_cast<double>(planned.cols);
  const double a_token = 4.0 * config.kv_heads * config.head_dim;
  const double context = size.context;
  if (way == "dense") return weights + config.layers * size.batch * context * a_token;
  LayerPolicy policy;
  policy.fraction = options.fraction;
  const double codes = context * config.kv_heads * code_bits / 8.0;
  const double selected = budget(policy, size.context) * a_token;
  const double encoders =
      2.0 * (config.query_heads + config.kv_heads) * config.head_dim * code_bits;
  const double tail = options.tail ? context / kBlockSize * a_token : 0;
  const double tail_layers = std::max(0, config.layers - AttentionSettings().tail_from);
  return weights + config.layers * (size.batch * (codes + selected) + encoders) +
         tail_layers * size.batch * tail;
}

Options parse(int count, char** words) {
  Options options;
  for (int i = 1; i < count; i++) {
    const std::string flag = words[i];
    if (flag == "--no-tail") {
      options.tail = false;
      continue;
    }
    if (i + 1 == count) throw Error(kInvalidArgument, flag + ": needs a value");
    const std::string value = words[++i];
    if (flag == "--model") {
      options.model = value;
    } else if (flag == "--layers") {
      options.layers = std::stoi(value);
    } else if (flag == "--steps") {
      options.steps = std::max(8, std::stoi(value));
    } else if (flag == "--fraction") {
      options.fraction = std::stof(value);
    } else if (flag == "--ways") {
      options.ways = words_of(value);
    } else if (flag == "--chunk") {
      options.chunk = std::max(1, std::stoi(value));
    } else if (flag == "--rounds") {
      options.rounds = std::max(1, std::stoi(value));
    } else if (flag == "--prefill") {
      options.prefill.clear();
      if (value == "none") continue;
      for (const std::string& word : words_of(value))
        options.prefill.push_back(std::max(1, std::stoi(word)));
    } else if (flag == "--cases") {
      options.cases.clear();
      if (value == "none") continue;
      for (const std::string& word : words_of(value)) {
        const size_t x = word.find('x');
        if (x == std::string::npos)
          throw Error(kInvalidArgument, "--cases: " + word + ", must be BATCHxCONTEXT");
        options.cases.push_back({std::stoi(word.substr(0, x)), std::stoi(word.substr(x + 1))});
      }
    } else {
      throw Error(kInvalidArgument, flag + ": no such flag");
    }
  }
  return options;
}

// Rounds take turns with and without the artifact; the best of each counts.
void run_prefill(Engine& engine, const Options& options, const Artifact& artifact,
                 const std::string& device) {
  for (const int32_t tokens : options.prefill) {
    double without = INFINITY, with = INFINITY;
    for (int32_t round = 0; round < options.rounds; round++) {
      wait([&](CommandDone done) { engine.set_encoder(0, nullptr, std::move(done)); });
      // The first chunk of the first round loads kernels.
      if (round == 0) first_token_seconds(engine, std::min(tokens, options.chunk), options.chunk);
      without = std::min(without, first_token_seconds(engine, tokens, options.chunk));
      wait([&](CommandDone done) {
        engine.set_encoder(0, engine.encoder_for(artifact), std::move(done));
      });
      if (round == 0) first_token_seconds(engine, std::min(tokens, options.chunk), options.chunk);
      with = std::min(with, first_token_seconds(engine, tokens, options.chunk));
    }
    const std::string name = options.model + " prefill " + std::to_string(tokens);
    print({"e2e", name, "time to first token, no codes", without, "s", 0, device, ""});
    print({"e2e", name, "time to first token", with, "s", without, device, ""});
    print({"e2e", name, "codes' share", 100 * (with / without - 1), "%", 0, device, ""});
  }
}

void run(const Options& options) {
  const DeviceFacts facts = open_gpu();
  double bandwidth = 0;
  {
    const Timer timer;
    bandwidth = read_bandwidth(timer, facts, 5);
  }
  print({"e2e", "device", "read bandwidth", bandwidth / 1e12, "TB/s", 0, facts.name, ""});

  EngineOptions engine_options;
  engine_options.model.kind = "dummy";
  engine_options.model.path = options.model;
  engine_options.model.layers = options.layers;
  engine_options.device = "cuda";
  engine_options.max_sequences = 1;
  // As many blocks as the largest case wants, if the card has them.
  for (const Size& size : options.cases) {
    engine_options.blocks = std::max(engine_options.blocks, size.blocks(options.steps));
    engine_options.max_sequences = std::max(engine_options.max_sequences, size.batch);
    engine_options.model.max_model_len =
        std::max(engine_options.model.max_model_len, size.context + options.steps + kBlockSize);
  }
  engine_options.max_batch_tokens = engine_options.max_sequences;
  for (const int32_t tokens : options.prefill) {
    engine_options.blocks = std::max(engine_options.blocks, tokens / kBlockSize + 1);
    engine_options.model.max_model_len =
        std::max(engine_options.model.max_model_len, tokens + kBlockSize);
    engine_options.max_batch_tokens = std::max(engine_options.max_batch_tokens, options.chunk);
  }
  engine_options.attention.crossover = 0;  // to be compared, both ways are gone at every length
  engine_options.attention.fraction = options.fraction;
  engine_options.attention.tail = options.tail;
  const Clock::time_point begin = Clock::now();
  Engine engine(engine_options);
  const ModelConfig& config = engine.file().config();
  print({"e2e", options.model, "start", std::chrono::duration<double>(Clock::now() - begin).count(),
         "s", 0, facts.name, ""});
  const Artifact artifact = random_artifact(config, engine_options.code_bits);
  run_prefill(engine, options, artifact, facts.name);
  if (options.cases.empty()) return;
  wait([&](CommandDone done) {
    engine.set_encoder(0, engine.encoder_for(artifact), std::move(done));
  });
  std::vector<int32_t> all(static_cast<size_t>(engine.blocks()));
  for (size_t i = 0; i < all.size(); i++) all[i] = static_cast<int32_t>(i);
  wait([&](CommandDone done) { engine.fill(all, 1, std::move(done)); });

  for (const Size& size : options.cases) {
    double baseline = 0;
    const std::string name = options.model + " " + size.name();
    for (const std::string& way : options.ways) {
      try {
        const double floor =
            1e3 * step_bytes(config, size, way, options, engine_options.code_bits) / bandwidth;
        const double ms = decode_ms(engine, size, way, options);
        print({"e2e", name, way, ms, "ms", baseline, facts.name, ""});
        print(
            {"e2e", name, way + " tokens/s", 1e3 * size.batch / ms, "tokens/s", 0, facts.name, ""});
        print({"e2e", name, way + " byte floor", floor, "ms", 0, facts.name, ""});
        if (way == "dense") baseline = ms;
      } catch (const Error& error) {
        if (std::string(error.code()) != kOutOfMemory) throw;
        std::fprintf(stderr, "%s %s skipped: %s\n", name.c_str(), way.c_str(), error.what());
      }
    }
  }
}

}  // namespace
}  // namespace spotlight::bench

int main(int count, char** words) {
  try {
    spotlight::bench::run(spotlight::bench::parse(count, words));
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "engine_cuda_bench: %s\n", error.what());
    return 1;
  }
}
