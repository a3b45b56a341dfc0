// The engine: one thread that runs submitted steps and commands in order, behind a queue of two
// steps. On a device of depth 2 it launches a step while the one before still runs. Callers use it
// from one thread; answers arrive by callback on the engine thread. A fault
// inside a step marks the engine dead with its message, and everything later fails with that: a
// half-run step may have left the cache in any state.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "artifact/artifact.h"
#include "attention/counters.h"
#include "engine/batch.h"
#include "engine/ledger.h"
#include "engine/options.h"
#include "engine/slots.h"
#include "engine/step.h"
#include "error.h"
#include "model/transformer.h"
#include "model/weights.h"

namespace spotlight {

struct EngineStats {
  int64_t steps = 0, tokens = 0;
  int32_t in_flight = 0, open_sequences = 0;
  double busy_seconds = 0;
  int64_t selected_tokens = 0, context_tokens = 0, dense_fallback_rows = 0, sparse_rows = 0;
};

// error is null when it went well.
using StepDone = std::function<void(StepResult result, std::exception_ptr error)>;
using CommandDone = std::function<void(std::exception_ptr error)>;

class Engine {
 public:
  using MakeDevice =
      std::function<std::unique_ptr<Device>(const std::string& kind, const DeviceOptions&)>;
  // Opens the model, takes its weights, makes the block pool and starts the thread; takes seconds
  // for a large model. Throws any of the loader's errors, INVALID_ARGUMENT naming the option,
  // OUT_OF_MEMORY.
  explicit Engine(const EngineOptions& options, const MakeDevice& make = make_device);
  ~Engine();
  // Finishes the steps submitted, then stops the thread: the last call but the destructor's. Any
  // thread, more than once.
  void finish();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const EngineOptions& options() const { return options_; }
  const WeightFile& file() const { return *file_; }
  const Device& device() const { return *device_; }
  int32_t blocks() const { return options_.blocks; }

  // Throws ENGINE_DEAD with the first fault's message.
  void throw_if_dead() const;
  // The caller's thread, from here on. Each throws ENGINE_DEAD after a fault.
  int32_t open(const SequenceOptions& options);
  // Throws QUEUE_FULL when two submitted steps are not retired (by retire()), INVALID_ARGUMENT as
  // the ledger does.
  int32_t submit(Batch batch, StepDone done);
  // The caller took a step's answer: a place in the queue is free.
  void retire() { in_flight_--; }
  // The deployment's settings from now on, by which sequences opened later attend; without a
  // crossover the one in force stays. Throws INVALID_ARGUMENT by field, and while sequences are
  // open.
  void set_attention(const AttentionSettings& settings);
  // Keeps new sequences off a slot while its artifact changes. Throws INVALID_ARGUMENT when
  // sequences are pinned to it.
  void reserve_slot(int32_t slot);
  void release_slot(int32_t slot) { reserved_[static_cast<size_t>(slot)] = false; }
  // Between steps, on the engine thread. encoder null: the slot is emptied.
  void set_encoder(int32_t slot, std::unique_ptr<Encoder> encoder, CommandDone done);
  // Returns at once what will hold the seconds it took when `done` is called.
  std::shared_ptr<const double> rehash(int32_t slot, std::vector<int32_t> blocks,
                                       std::vector<int32_t> filled, CommandDone done);
  // Throws INVALID_ARGUMENT as rehash would: to be asked before a promise is made.
  void check_rehash(int32_t slot, const std::vector<int32_t>& blocks,
                    const std::vector<int32_t>& filled) const;
  // For benchmarks, between steps on the engine thread: seeded keys and values into these blocks,
  // which no sequence is using. Throws INVALID_ARGUMENT for a block the pool lacks, and on a CPU.
  void fill(std::vector<int32_t> blocks, uint64_t seed, CommandDone done);
  // Throws as fill would: to be asked before a promise is made.
  void check_fill(const std::vector<int32_t>& blocks) const;
  // Throws ARTIFACT_MISMATCH when the artifact does not fit the model's heads or the code planes.
  std::unique_ptr<Encoder> encoder_for(const Artifact& artifact) const;
  EngineStats stats() const;

 private:
  struct Job {
    // A step, or a command when `command` is set.
    int32_t step = 0;
    Batch batch;
    std::vector<std::shared_ptr<Sequence>> sequences;
    StepDone done;
    std::function<void()> command;
    CommandDone command_done;
  };
  using Clock = std::chrono::steady_clock;
  // A step the device holds.
  struct Flight {
    Job job;
    StepPack* pack = nullptr;
    int32_t tokens = 0;
    Clock::time_point launched;
  };
  void check_blocks(const std::vector<int32_t>& blocks) const;
  void push(Job job);
  void loop();
  // Waits for a job to take, or, with steps in flight, for one to finish. False: nothing to take.
  bool next(Job& job);
  void run(Job job);
  void command(Job& job);
  void launch(Job job);
  void land();
  // Whether the step needs on the host what a step in flight draws.
  bool waits(const Job& job) const;
  std::exception_ptr fault(const std::exception_ptr& cause);

  EngineOptions options_;
  bool keeps_codes_ = false;  // by the backend it was opened with
  std::unique_ptr<WeightFile> file_;
  AttentionCounters counters_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Transformer> model_;

  // The caller's thread.
  std::unique_ptr<Ledger> ledger_;
  int32_t last_step_ = 0, in_flight_ = 0;
  std::array<bool, kPlanes> reserved_ = {};

  // The engine thread.
  std::unique_ptr<Slots> slots_;
  std::array<StepPack, kMaxStepsInFlight> packs_;
  std::deque<Flight> flights_;
  int32_t launched_ = 0;
  Clock::time_point last_landing_;

  // Both.
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> queue_;
  std::atomic<bool> queued_{false};  // queue_ is not empty, or stopping_
  bool stopping_ = false;
  std::once_flag finished_;
  std::string fault_;
  std::atomic<bool> dead_{false};
  std::atomic<int64_t> steps_{0}, tokens_{0}, busy_nanoseconds_{0};
  std::thread thread_;
};

}  // namespace spotlight
