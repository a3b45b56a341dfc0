// The seam between the model and where it runs. The model records a step once, in these ops,
// against a Recorder; the CPU device turns that into a ggml graph it keeps for steps of the same
// shape, a CUDA device into launches captured as a graph. RoPE lives inside attend: it is the last
// thing done to q and k, and both kinds of device do it while storing K.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "attention/backend.h"
#include "model/weights.h"
#include "sampling/sampling.h"

namespace spotlight {

// A weight the device holds. Default-made: none.
struct Weight {
  int32_t id = -1;
  int64_t rows = 0, cols = 0;
  explicit operator bool() const { return id >= 0; }
};

// A value of the step being recorded, valid until record() returns. Rows are tokens (or selected
// tokens), f32.
struct Value {
  int32_t id = -1;
};

class Recorder {
 public:
  virtual ~Recorder() = default;
  virtual Value embed(Weight table) = 0;             // of the step's token ids -> [tokens, cols]
  virtual Value rms_norm(Value x, Weight gain) = 0;  // over a whole row, the model's epsilon
  virtual Value head_norm(Value x,
                          Weight gain) = 0;  // over each head_dim of a row (Qwen3); gain [head_dim]
  virtual Value matmul(Value x, Weight weight,
                       Weight bias) = 0;  // [n, cols] -> [n, rows]; bias may be none
  virtual Value columns(Value x, int64_t from,
                        int64_t count) = 0;          // a view of every row's [from, from + count)
  virtual Value silu_mul(Value gate, Value up) = 0;  // silu(gate) * up
  virtual Value add(Value a, Value b) = 0;
  // RoPE on q and k, K and V into the cache, attention by the step's rows: [tokens, query_width].
  virtual Value attend(int32_t layer, Value q, Value k, Value v) = 0;
  // Only the rows whose logits the step needs, in order: [selected, cols].
  virtual Value select(Value x) = 0;
  virtual int32_t selected() const = 0;
  // Logits of selected rows and what the step draws from them; ends the step.
  virtual void logits(Value x, Weight head) = 0;
};

// What a device runs: the model. A device may call record once a shape or once a step.
class Program {
 public:
  virtual ~Program() = default;
  virtual void record(Recorder& recorder) const = 0;
};

// One step, packed. All pointers but block tables and policies stay valid until finish returns.
struct StepInput {
  const int32_t* tokens = nullptr;     // [count]
  const int32_t* positions = nullptr;  // [count]
  // [count] the seat whose last draw this token is, -1: tokens has it. A device of depth 1 needs no
  // look: tokens then has the draw already.
  const int32_t* feeds = nullptr;
  int32_t count = 0;
  const RowView* rows = nullptr;
  int32_t row_count = 0;
  const int32_t* selected =
      nullptr;  // [selected_count] ascending indexes into tokens whose logits are needed
  int32_t selected_count = 0;
  LogitsTask* tasks =
      nullptr;  // [selected_count] what to do with each row of logits, and the answers
};

class Device {
 public:
  virtual ~Device() = default;
  virtual const std::string& name() const = 0;  // of the hardware
  virtual const std::string& isa() const = 0;   // of the kernels in force
  virtual int32_t threads() const = 0;
  // Takes weights into the device; several are stacked by rows into one (they must share type and
  // cols), exact on quantised rows.
  virtual Weight load(const std::vector<const WeightView*>& views) = 0;
  // Whether load would take these as one.
  virtual bool stackable(const std::vector<const WeightView*>& views) const = 0;
  // The block pool, once, after the weights. blocks 0: as many as free memory holds. Returns how
  // many there are. Throws OUT_OF_MEMORY, INVALID_ARGUMENT.
  virtual int32_t open_pool(int32_t blocks) = 0;
  // Steps it holds at once. 1: launch runs the step to its end. 2: launch returns while the step
  // runs, and the next may be launched behind it, fed by draws only the device knows.
  virtual int32_t depth() const = 0;
  // Rows that decode steps are padded to, ascending: each size is made ready at its first steps.
  // Empty on a device that keeps nothing by size.
  virtual std::vector<int32_t> decode_sizes() const { return {}; }
  virtual void launch(const Program& program, const StepInput& step) = 0;
  // Whether finish would return at once.
  virtual bool finished() = 0;
  // Waits for the oldest step launched and writes its tasks' answers and its rows' traces.
  virtual void finish() = 0;
  void run(const Program& program, const StepInput& step) {
    launch(program, step);
    finish();
  }
  // No step has come for a while: threads that poll may sleep. The next launch wakes them.
  virtual void idle() = 0;
  // An artifact's codes as this device computes them. Any thread.
  virtual std::unique_ptr<Encoder> make_encoder(const Artifact& artifact) const = 0;
  // Block pool and slots: done in the order of the calls among the launches. rehash returns when it
  // is done; set_encoder only while no step in flight uses the plane.
  virtual void copy_block(int32_t from, int32_t to) = 0;
  virtual void set_encoder(int32_t plane, const Encoder* encoder) = 0;
  virtual void rehash(int32_t plane, const int32_t* blocks, const int32_t* filled,
                      int32_t count) = 0;
  // For benchmarks: seeded keys and values into every slot of these blocks, their summaries and the
  // codes of every plane that has an encoder, in the order of the calls among the launches. Throws
  // INVALID_ARGUMENT where a device has no use for it.
  virtual void fill(const int32_t* blocks, int32_t count, uint64_t seed) = 0;
};

// Looks at queries and keys after RoPE as a step passes, layer by layer, and takes what it needs:
// they are gone after. Called by every thread of the step's team at once.
class AttendTap {
 public:
  virtual ~AttendTap() = default;
  virtual void attending(const LayerIo& io, int32_t tokens, int32_t ith, int32_t nth) = 0;
};

struct DeviceOptions {
  ModelConfig config;
  std::string isa = "auto";
  std::string dtype = "bf16";  // of a GPU's weights, activations and cache: "bf16" or "fp16"
  std::string backend = "spotlight";
  int32_t threads = 1;
  int32_t code_bits = 128;
  int32_t max_tokens = 512;     // most tokens of one step
  int32_t max_sequences = 256;  // most rows of one step, and seats
  bool selectors = false;       // CPU: the backend serves evaluation methods, too
  AttentionCounters* counters = nullptr;
  AttendTap* tap = nullptr;  // of the CPU device alone
  // Of a GPU: matrices stay in pinned host memory and come as they are needed. For a training,
  // whose steps are long; a served step would wait for them.
  bool stream_weights = false;
};

std::unique_ptr<Device> make_cpu_device(const DeviceOptions& options);
// Throws DEVICE_UNAVAILABLE saying what is missing: a GPU, its driver, a library, or CUDA in this
// build.
std::unique_ptr<Device> make_cuda_device(const DeviceOptions& options);
// "cpu" or "cuda". Throws INVALID_ARGUMENT for another.
std::unique_ptr<Device> make_device(const std::string& kind, const DeviceOptions& options);

}  // namespace spotlight
