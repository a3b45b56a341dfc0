#include "engine/engine.h"

#include <algorithm>
#include <chrono>

#include "attention/crossover.h"
#include "engine/policy.h"
#include "engine/resolve.h"

namespace spotlight {
namespace {

constexpr std::chrono::milliseconds kIdleAfter(5);

}  // namespace

Engine::Engine(const EngineOptions& options, const MakeDevice& make)
    : file_(open_model(options.model)) {
  const ModelConfig& config = file_->config();
  validate(config);
  options_ = resolved(options, config);
  DeviceOptions device;
  device.config = config;
  device.isa = options_.isa;
  device.backend = options_.attention.backend;
  device.threads = options_.threads;
  device.dtype = options_.dtype;
  device.code_bits = options_.code_bits;
  device.max_tokens = options_.max_batch_tokens;
  device.max_sequences = options_.max_sequences;
  device.counters = &counters_;
  device.selectors = options_.selectors;
  keeps_codes_ = options_.attention.backend != "dense" || options_.selectors;
  device_ = make(options_.device, device);
  if (!options_.attention.crossover) {
    options_.attention.crossover =
        default_crossover(options_.device, device_->isa(), config.kv_width());
  }
  model_ = std::make_unique<Transformer>(*file_, *device_);
  options_.blocks = device_->open_pool(options_.blocks);
  slots_ = std::make_unique<Slots>(*device_, options_.blocks);
  LedgerLimits limits;
  limits.vocab = config.vocab;
  limits.blocks = options_.blocks;
  limits.max_model_len = config.max_model_len;
  limits.max_batch_tokens = options_.max_batch_tokens;
  limits.max_sequences = options_.max_sequences;
  limits.layers = config.layers;
  limits.kv_heads = config.kv_heads;
  limits.selectors = options_.selectors;
  ledger_ = std::make_unique<Ledger>(limits);
  thread_ = std::thread([this] { loop(); });
}

Engine::~Engine() { finish(); }

void Engine::finish() {
  std::call_once(finished_, [this] {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
      queued_.store(true, std::memory_order_release);
    }
    wake_.notify_one();
    thread_.join();
  });
}

// --- The caller's thread
// --------------------------------------------------------------------------------------------

void Engine::throw_if_dead() const {
  if (!dead_.load(std::memory_order_acquire)) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  throw Error(kEngineDead, "the engine is dead: " + fault_);
}

int32_t Engine::open(const SequenceOptions& options) {
  throw_if_dead();
  if (options.slot >= 0 && options.slot < kPlanes && reserved_[static_cast<size_t>(options.slot)]) {
    throw Error(kInvalidArgument,
                "slot: the artifact of slot " + std::to_string(options.slot) + " is being changed");
  }
  return ledger_->open(options, options_.attention);
}

void Engine::set_attention(const AttentionSettings& settings) {
  throw_if_dead();
  // The engine thread reads them as it launches a sequence's first step.
  if (ledger_->open_sequences() > 0 || in_flight_ > 0)
    throw Error(kInvalidArgument, "attention: set it while no sequence is open and no step runs");
  validate(settings, file_->config().layers, options_.selectors);
  if (settings.backend != "dense" && !keeps_codes_)
    throw Error(
        kInvalidArgument,
        "attention.backend: \"" + settings.backend +
            "\" is not to be had here, this engine runs the dense backend and keeps no codes");
  const std::optional<int32_t> crossover = options_.attention.crossover;
  options_.attention = settings;
  if (!settings.crossover) options_.attention.crossover = crossover;
}

int32_t Engine::submit(Batch batch, StepDone done) {
  throw_if_dead();
  if (in_flight_ >= kMaxStepsInFlight) {
    throw Error(kQueueFull,
                std::to_string(kMaxStepsInFlight) + " steps are in flight: collect one first");
  }
  Job job;
  job.sequences = ledger_->enter(batch);
  job.batch = std::move(batch);
  job.done = std::move(done);
  job.step = ++last_step_;
  in_flight_++;
  push(std::move(job));
  return last_step_;
}

void Engine::reserve_slot(int32_t slot) {
  throw_if_dead();
  if (slot < 0 || slot >= kPlanes)
    throw Error(kInvalidArgument, "slot: " + std::to_string(slot) + ", must be 0 or 1");
  const auto s = static_cast<size_t>(slot);
  if (reserved_[s])
    throw Error(kInvalidArgument,
                "slot: the artifact of slot " + std::to_string(slot) + " is being changed");
  if (ledger_->pinned(slot) > 0) {
    throw Error(kInvalidArgument, "slot: " + std::to_string(ledger_->pinned(slot)) +
                                      " open sequences are pinned to slot " + std::to_string(slot));
  }
  reserved_[s] = true;
}

std::unique_ptr<Encoder> Engine::encoder_for(const Artifact& artifact) const {
  const ModelConfig& config = file_->config();
  const auto want = [](const char* field, int64_t is, int64_t has) {
    if (is != has) {
      throw Error(kArtifactMismatch, std::string("the artifact was made for ") + field + " " +
                                         std::to_string(is) + ", the model has " +
                                         std::to_string(has));
    }
  };
  want("head_dim", artifact.head_dim, config.head_dim);
  want("query_heads", artifact.query_heads, config.query_heads);
  want("kv_heads", artifact.kv_heads, config.kv_heads);
  if (static_cast<int64_t>(artifact.layers.size()) > config.layers) {
    throw Error(kArtifactMismatch, "the artifact has codes for " +
                                       std::to_string(artifact.layers.size()) +
                                       " layers, the model has " + std::to_string(config.layers));
  }
  if (artifact.plane_bits() > options_.code_bits) {
    throw Error(kArtifactMismatch,
                "the artifact needs code planes of " + std::to_string(artifact.plane_bits()) +
                    " bits a token and KV head, this engine has " +
                    std::to_string(options_.code_bits) + ": start it with codeBits " +
                    std::to_string(artifact.plane_bits()));
  }
  return device_->make_encoder(artifact);
}

void Engine::set_encoder(int32_t slot, std::unique_ptr<Encoder> encoder, CommandDone done) {
  throw_if_dead();
  Job job;
  // std::function wants copyable captures.
  auto held = std::make_shared<std::unique_ptr<Encoder>>(std::move(encoder));
  job.command = [this, slot, held] { slots_->set(slot, std::move(*held)); };
  job.command_done = std::move(done);
  push(std::move(job));
}

void Engine::check_rehash(int32_t slot, const std::vector<int32_t>& blocks,
                          const std::vector<int32_t>& filled) const {
  throw_if_dead();
  if (slot < 0 || slot >= kPlanes)
    throw Error(kInvalidArgument, "slot: " + std::to_string(slot) + ", must be 0 or 1");
  if (blocks.size() != filled.size()) {
    throw Error(kInvalidArgument, "filled: has " + std::to_string(filled.size()) +
                                      " entries, blocks has " + std::to_string(blocks.size()));
  }
  check_blocks(blocks);
  for (size_t i = 0; i < blocks.size(); i++) {
    if (filled[i] < 0 || filled[i] > kBlockSize) {
      throw Error(kInvalidArgument, "filled[" + std::to_string(i) +
                                        "]: " + std::to_string(filled[i]) + ", must be in [0, 64]");
    }
  }
}

std::shared_ptr<const double> Engine::rehash(int32_t slot, std::vector<int32_t> blocks,
                                             std::vector<int32_t> filled, CommandDone done) {
  check_rehash(slot, blocks, filled);
  Job job;
  const auto seconds = std::make_shared<double>(0);
  job.command = [this, slot, seconds, blocks = std::move(blocks), filled = std::move(filled)] {
    const Clock::time_point begun = Clock::now();
    slots_->rehash(slot, blocks, filled);
    *seconds = std::chrono::duration<double>(Clock::now() - begun).count();
  };
  job.command_done = std::move(done);
  push(std::move(job));
  return seconds;
}

void Engine::check_blocks(const std::vector<int32_t>& blocks) const {
  for (size_t i = 0; i < blocks.size(); i++) {
    if (blocks[i] < 0 || blocks[i] >= options_.blocks) {
      throw Error(kInvalidArgument, "blocks[" + std::to_string(i) + "]: block " +
                                        std::to_string(blocks[i]) + ", the pool has 0 to " +
                                        std::to_string(options_.blocks - 1));
    }
  }
}

void Engine::check_fill(const std::vector<int32_t>& blocks) const {
  throw_if_dead();
  check_blocks(blocks);
  // Asked here: what throws on the engine thread ends the engine.
  if (options_.device == "cpu") {
    throw Error(kInvalidArgument,
                "fill: caches are filled on a GPU alone, this engine runs on a CPU");
  }
}

void Engine::fill(std::vector<int32_t> blocks, uint64_t seed, CommandDone done) {
  check_fill(blocks);
  Job job;
  job.command = [this, blocks = std::move(blocks), seed] {
    device_->fill(blocks.data(), static_cast<int32_t>(blocks.size()), seed);
  };
  job.command_done = std::move(done);
  push(std::move(job));
}

EngineStats Engine::stats() const {
  EngineStats stats;
  stats.steps = steps_.load();
  stats.tokens = tokens_.load();
  stats.in_flight = in_flight_;
  stats.open_sequences = ledger_->open_sequences();
  stats.busy_seconds = static_cast<double>(busy_nanoseconds_.load()) * 1e-9;
  stats.selected_tokens = counters_.selected_tokens.load();
  stats.context_tokens = counters_.context_tokens.load();
  stats.dense_fallback_rows = counters_.dense_fallback_rows.load();
  stats.sparse_rows = counters_.sparse_rows.load();
  return stats;
}

void Engine::push(Job job) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back(std::move(job));
    queued_.store(true, std::memory_order_release);
  }
  wake_.notify_one();
}

// --- The engine thread
// ----------------------------------------------------------------------------------------------

bool Engine::next(Job& job) {
  // With a step in flight this thread polls: the device's next step must be launched before it
  // falls idle, and waking from a sleep takes longer than that.
  while (!flights_.empty() && !queued_.load(std::memory_order_acquire)) {
    if (device_->finished()) return false;
    std::this_thread::yield();
  }
  std::unique_lock<std::mutex> lock(mutex_);
  const auto wanted = [this] { return stopping_ || !queue_.empty(); };
  if (flights_.empty() && !wake_.wait_for(lock, kIdleAfter, wanted)) {
    lock.unlock();
    device_->idle();
    lock.lock();
    wake_.wait(lock, wanted);
  }
  if (queue_.empty()) return false;
  job = std::move(queue_.front());
  queue_.pop_front();
  queued_.store(stopping_ || !queue_.empty(), std::memory_order_release);
  return true;
}

void Engine::loop() {
  while (true) {
    if (static_cast<int32_t>(flights_.size()) < device_->depth()) {
      Job job;
      if (next(job)) {
        run(std::move(job));
        continue;
      }
      // Stopping, with nothing queued and nothing in flight.
      if (flights_.empty()) return;
    }
    land();
  }
}

void Engine::run(Job job) {
  if (job.command || waits(job)) {
    while (!flights_.empty()) land();
  }
  if (job.command) {
    command(job);
  } else {
    launch(std::move(job));
    // Nothing to overlap with: answer before looking for more.
    if (device_->depth() == 1 && !flights_.empty()) land();
  }
}

bool Engine::waits(const Job& job) const {
  if (flights_.empty()) return false;
  for (size_t i = 0; i < job.batch.rows.size(); i++)
    if (job.batch.rows[i].sample && job.sequences[i]->sampling.penalises()) return true;
  return false;
}

std::exception_ptr Engine::fault(const std::exception_ptr& cause) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!dead_.load(std::memory_order_acquire)) {
    try {
      std::rethrow_exception(cause);
    } catch (const std::exception& error) {
      fault_ = error.what();
    } catch (...) {
      fault_ = "unknown fault";
    }
    dead_.store(true, std::memory_order_release);
  }
  return std::make_exception_ptr(Error(kEngineDead, "the engine is dead: " + fault_));
}

void Engine::command(Job& job) {
  std::exception_ptr error;
  try {
    throw_if_dead();
    job.command();
  } catch (...) {
    error = fault(std::current_exception());
  }
  job.command_done(error);
}

void Engine::launch(Job job) {
  Flight flight;
  flight.launched = Clock::now();
  try {
    throw_if_dead();
    for (const auto& [from, to] : job.batch.copies) {
      if (from == to) continue;
      device_->copy_block(from, to);
      slots_->copied(from, to);
    }
    const ModelConfig& config = file_->config();
    for (size_t i = 0; i < job.batch.rows.size(); i++) {
      const BatchRow& row = job.batch.rows[i];
      Sequence& sequence = *job.sequences[i];
      if (sequence.policies.empty()) {
        sequence.policies = resolve_policies(options_.attention, sequence.attention, config.layers,
                                             slots_->encoder(sequence.slot));
        slots_->freshen(sequence.slot, sequence.block_table, sequence.given_blocks, row.position);
      }
      sequence.block_table.insert(sequence.block_table.end(), row.append_blocks.begin(),
                                  row.append_blocks.end());
      slots_->appending(sequence.block_table, row.position,
                        static_cast<int32_t>(row.tokens.size()));
    }
    if (!job.batch.rows.empty()) {
      flight.pack = &packs_[static_cast<size_t>(launched_++ % kMaxStepsInFlight)];
      const StepInput& input =
          flight.pack->pack(job.batch, job.sequences, config.layers, config.kv_heads);
      flight.tokens = input.count;
      device_->launch(*model_, input);
      for (const auto& sequence : job.sequences) sequence->seated = true;
    }
  } catch (...) {
    const std::exception_ptr error = fault(std::current_exception());
    while (!flights_.empty()) land();
    StepResult none;
    none.step = job.step;
    job.done(std::move(none), error);
    return;
  }
  flight.job = std::move(job);
  flights_.push_back(std::move(flight));
}

void Engine::land() {
  Flight flight = std::move(flights_.front());
  flights_.pop_front();
  StepResult result;
  result.step = flight.job.step;
  std::exception_ptr error;
  try {
    throw_if_dead();
    if (flight.pack != nullptr) {
      device_->finish();
      result.rows = flight.pack->results(flight.job.batch, flight.job.sequences);
    }
  } catch (...) {
    error = fault(std::current_exception());
  }
  // Steps overlap: a step counts from where the one before it ended.
  const Clock::time_point now = Clock::now();
  const auto took = now - std::max(flight.launched, last_landing_);
  last_landing_ = now;
  result.seconds = std::chrono::duration<double>(took).count();
  if (error == nullptr) {
    tokens_ += flight.tokens;
    steps_++;
  }
  busy_nanoseconds_ += std::chrono::duration_cast<std::chrono::nanoseconds>(took).count();
  flight.job.done(std::move(result), error);
}

}  // namespace spotlight
