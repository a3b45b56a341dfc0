// Random load on an engine, as a worker's scheduler brings it: two steps in flight, prompts in
// chunks beside decoding rows, cancels at any moment, and a pool too small, so that sequences are
// preempted and run again. Every answer is checked to be whole; finish() checks that nothing is
// held. One seed, so that a run that failed can be run again.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <future>
#include <memory>
#include <mutex>
#include <random>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "test/check.h"

namespace spotlight::soak {

inline constexpr int32_t kBlocks = 96, kRows = 12, kStepTokens = 256;

struct Request {
  std::vector<int32_t> known;  // prompt, then what was drawn
  int32_t prompt = 0, wanted = 0;
  SamplingParams sampling;
  AttentionOverride attention;
  // While it has a sequence.
  int32_t sequence = -1, planned = 0;  // tokens that submitted steps will have run
  std::vector<int32_t> blocks;
  bool done() const { return static_cast<int32_t>(known.size()) >= prompt + wanted; }
};

class Soak {
 public:
  explicit Soak(Engine& engine) : engine_(engine), vocab_(engine.file().config().vocab) {
    for (int32_t i = 0; i < engine.blocks(); i++) free_.push_back(i);
  }

  // Tells on stderr now and then how far it is: a run of many minutes is no hang.
  void run(int32_t steps) {
    for (int32_t step = 0; step < steps; step++) {
      if (ran_++ % kTold == 0) tell();
      admit();
      Batch batch = schedule();
      if (batch.rows.empty() && batch.close.empty()) {
        if (in_flight_ > 0) take();
        continue;
      }
      submit(std::move(batch));
    }
  }

  // Cancels what is left and checks the books.
  void finish() {
    while (in_flight_ > 0) take();
    for (auto& request : running_) release(*request);
    running_.clear();
    waiting_.clear();
    if (!closing_.empty()) {
      Batch last;
      last.close = std::move(closing_);
      submit(std::move(last));
      take();
    }
    CHECK_EQ(engine_.stats().open_sequences, 0);
    CHECK_EQ(static_cast<int32_t>(free_.size()), engine_.blocks());
    std::sort(free_.begin(), free_.end());
    for (int32_t i = 0; i < engine_.blocks(); i++) CHECK_EQ(free_[static_cast<size_t>(i)], i);
  }

  int32_t finished = 0, cancelled = 0, preempted = 0;

 private:
  static constexpr int32_t kTold = 500;

  void tell() const {
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin_;
    std::fprintf(stderr, "step %d, %.1f s: %d finished, %d cancelled, %d preempted\n", ran_ - 1,
                 took.count(), finished, cancelled, preempted);
  }

  int32_t dice(int32_t from, int32_t to) {
    return std::uniform_int_distribution<int32_t>(from, to)(random_);
  }

  void admit() {
    if (waiting_.empty() && dice(0, 2) == 0) {
      auto request = std::make_shared<Request>();
      request->prompt = dice(0, 3) == 0 ? dice(600, 1500) : dice(1, 400);
      request->wanted = dice(1, 150);
      for (int32_t i = 0; i < request->prompt; i++) request->known.push_back(dice(0, vocab_ - 1));
      request->sampling.seed = static_cast<uint64_t>(dice(0, 1 << 30));
      request->sampling.temperature = dice(0, 1) == 0 ? 0.f : 0.9f;
      if (dice(0, 2) == 0) request->sampling.top_p = 0.9f;
      if (dice(0, 2) == 0) request->sampling.top_k = 40;
      if (dice(0, 9) == 0) request->sampling.logprobs = 3;
      if (dice(0, 9) == 0) request->sampling.repetition_penalty = 1.1f;
      if (dice(0, 2) == 0) request->attention.backend = dice(0, 1) == 0 ? "dense" : "spotlight";
      if (dice(0, 2) == 0) request->attention.tail = dice(0, 1) == 0;
      waiting_.push_back(std::move(request));
    }
    while (!waiting_.empty() && static_cast<int32_t>(running_.size()) < kRows &&
           static_cast<int32_t>(free_.size()) > kBlocks / 8) {
      const std::shared_ptr<Request> request = waiting_.front();
      waiting_.pop_front();
      SequenceOptions options;
      options.sampling = request->sampling;
      options.attention = request->attention;
      if (request->sampling.penalises()) {
        const auto split = request->known.begin() + request->prompt;
        options.prompt_tokens.assign(request->known.begin(), split);
        options.generated_tokens.assign(split, request->known.end());
      }
      // Ids of sequences that are closing still count until their batch is entered.
      if (!closing_.empty()) {
        Batch close;
        close.close = std::move(closing_);
        closing_.clear();
        submit(std::move(close));
      }
      request->sequence = engine_.open(options);
      request->planned = 0;
      running_.push_back(request);
    }
    if (!running_.empty() && dice(0, 60) == 0) {
      const auto victim = static_cast<size_t>(dice(0, static_cast<int32_t>(running_.size()) - 1));
      drop(victim);
      cancelled++;
    }
  }

  // A batch of every running sequence, as far as tokens and blocks go.
  Batch schedule() {
    Batch batch;
    int32_t room = kStepTokens;
    for (size_t i = 0; i < running_.size() && room > 0; i++) {
      Request& request = *running_[i];
      const auto known = static_cast<int32_t>(request.known.size());
      BatchRow row;
      row.sequence = request.sequence;
      row.position = request.planned;
      if (request.planned < known) {
        // Prompt tokens run as prompt, drawn ones as they were first run.
        const int32_t end = request.planned < request.prompt ? request.prompt : known;
        const int32_t count = std::min({end - request.planned, room, dice(1, 200)});
        row.generated = request.planned >= request.prompt;
        const auto from = request.known.begin() + request.planned;
        row.tokens.assign(from, from + count);
      } else if (request.planned < request.prompt + request.wanted) {
        row.generated = true;
        row.tokens = {kLastSample};
      } else {
        continue;  // all it wants is in flight
      }
      const auto count = static_cast<int32_t>(row.tokens.size());
      row.sample = request.planned + count >= known;
      const int32_t blocks = (request.planned + count + kBlockSize - 1) / kBlockSize;
      if (!make_room(blocks - static_cast<int32_t>(request.blocks.size()), i)) break;
      while (static_cast<int32_t>(request.blocks.size()) < blocks) {
        request.blocks.push_back(free_.back());
        row.append_blocks.push_back(free_.back());
        free_.pop_back();
      }
      request.planned += count;
      room -= count;
      batch.rows.push_back(std::move(row));
    }
    batch.close = std::move(closing_);
    closing_.clear();
    return batch;
  }

  // Preempts the newest sequences after `keep` until there are this many free blocks.
  bool make_room(int32_t blocks, size_t keep) {
    while (static_cast<int32_t>(free_.size()) < blocks) {
      if (running_.size() <= keep + 1) return false;
      const std::shared_ptr<Request> victim = running_.back();
      drop(running_.size() - 1);
      waiting_.push_front(victim);
      preempted++;
    }
    return true;
  }

  void drop(size_t index) {
    release(*running_[index]);
    running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(index));
  }
  void release(Request& request) {
    closing_.push_back(request.sequence);
    free_.insert(free_.end(), request.blocks.begin(), request.blocks.end());
    request.blocks.clear();
    request.sequence = -1;
  }

  void submit(Batch batch) {
    if (in_flight_ == kMaxStepsInFlight) take();
    in_flight_++;
    engine_.submit(std::move(batch), [this](StepResult result, const std::exception_ptr& error) {
      const std::lock_guard<std::mutex> lock(mutex_);
      answers_.push_back({std::move(result), error});
      wake_.notify_one();
    });
  }

  void take() {
    std::unique_lock<std::mutex> lock(mutex_);
    wake_.wait(lock, [this] { return !answers_.empty(); });
    const auto [result, error] = std::move(answers_.front());
    answers_.pop_front();
    lock.unlock();
    engine_.retire();
    in_flight_--;
    if (error) std::rethrow_exception(error);
    for (const RowResult& row : result.rows) {
      CHECK(!row.corrupted);
      const auto found = std::find_if(
          running_.begin(), running_.end(),
          [&row](const std::shared_ptr<Request>& one) { return one->sequence == row.sequence; });
      if (found == running_.end() || row.token < 0) continue;
      CHECK(row.token < vocab_);
      Request& request = **found;
      CHECK_EQ(row.logprobs.has_value(), request.sampling.logprobs >= 0);
      request.known.push_back(row.token);
      if (!request.done()) continue;
      drop(static_cast<size_t>(found - running_.begin()));
      finished++;
    }
  }

  Engine& engine_;
  int32_t vocab_, ran_ = 0;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  std::mt19937 random_{7};
  std::deque<std::shared_ptr<Request>> waiting_;
  std::vector<std::shared_ptr<Request>> running_;
  std::vector<int32_t> free_, closing_;
  int32_t in_flight_ = 0;

  struct Answer {
    StepResult result;
    std::exception_ptr error;
  };
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Answer> answers_;
};

// Seeded codes for every layer.
inline Artifact artifact_for(const ModelConfig& config) {
  Artifact artifact;
  artifact.encoder = "linear-asym";
  artifact.bits = 128;
  artifact.head_dim = config.head_dim;
  artifact.query_heads = config.query_heads;
  artifact.kv_heads = config.kv_heads;
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0.f, 0.1f);
  for (int32_t layer = 0; layer < config.layers; layer++) {
    LayerCode code;
    code.key.resize(static_cast<size_t>(config.kv_heads) * config.head_dim * 128);
    code.query.resize(static_cast<size_t>(config.query_heads) * config.head_dim * 128);
    for (auto* weights : {&code.key, &code.query})
      for (float& x : *weights) x = normal(random);
    artifact.layers.push_back(std::move(code));
  }
  return artifact;
}

// Settings that make the load above short of blocks and most of its rows sparse. The caller adds
// model and device.
inline EngineOptions options() {
  EngineOptions options;
  options.blocks = kBlocks;
  options.max_batch_tokens = kStepTokens;
  options.max_sequences = kRows;
  options.attention.min_tokens = 96;
  options.attention.crossover = 0;
  return options;
}

inline void load_artifact(Engine& engine) {
  const auto done = std::make_shared<std::promise<std::exception_ptr>>();
  engine.set_encoder(0, engine.encoder_for(artifact_for(engine.file().config())),
                     [done](const std::exception_ptr& error) { done->set_value(error); });
  CHECK(done->get_future().get() == nullptr);
}

}  // namespace spotlight::soak
