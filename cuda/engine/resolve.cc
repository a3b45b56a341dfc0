#include "engine/resolve.h"

#include <sched.h>

#include <algorithm>
#include <climits>
#include <fstream>
#include <set>
#include <thread>

#include "engine/policy.h"
#include "error.h"
#include "kv/arenas.h"

namespace spotlight {
namespace {

constexpr int32_t kMaxThreads = 512;  // ggml's limit
// A GPU's matrix products want many rows of a prompt at once; on a CPU a step of 512 takes a
// second.
constexpr int32_t kCpuBatchTokens = 512, kGpuBatchTokens = 8192;

// CPUs this process may use, hyper-threads of a core counted once.
int32_t physical_cores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
    return static_cast<int32_t>(std::max(1u, std::thread::hardware_concurrency()));
  std::set<std::string> cores;
  int32_t cpus = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    cpus++;
    std::ifstream siblings("/sys/devices/system/cpu/cpu" + std::to_string(cpu) +
                           "/topology/thread_siblings_list");
    std::string line;
    if (std::getline(siblings, line)) cores.insert(line);
  }
  return std::max<int32_t>(1, cores.empty() ? cpus : static_cast<int32_t>(cores.size()));
}

void check_positive(int64_t value, int64_t most, const char* field) {
  if (value < 1 || value > most) {
    throw Error(kInvalidArgument, std::string(field) + ": " + std::to_string(value) +
                                      ", must be in [1, " + std::to_string(most) + "]");
  }
}

}  // namespace

std::unique_ptr<WeightFile> open_model(const ModelSource& source) {
  if (source.kind == "gguf") return open_gguf(source.path);
  if (source.kind == "safetensors") return open_safetensors(source.path);
  if (source.kind == "dummy")
    return make_dummy(source.path, source.seed, source.layers, source.max_model_len);
  throw Error(kInvalidArgument, "model.kind: \"" + source.kind +
                                    "\", must be \"gguf\", \"safetensors\" or \"dummy\"");
}

EngineOptions resolved(EngineOptions options, const ModelConfig& config) {
  if (options.threads == 0) options.threads = physical_cores();
  check_positive(options.threads, kMaxThreads, "threads");
  if (options.max_batch_tokens == 0)
    options.max_batch_tokens = options.device == "cpu" ? kCpuBatchTokens : kGpuBatchTokens;
  check_positive(options.max_batch_tokens, 1 << 20, "maxBatchTokens");
  check_positive(options.max_sequences, 1 << 20, "maxSequences");
  if (options.selectors && options.device != "cpu") {
    throw Error(kInvalidArgument,
                "selectors: evaluation selectors run on the CPU alone, this "
                "engine's device is " +
                    options.device + ": open it with device \"cpu\", or without selectors");
  }
  validate(options.attention, config.layers, options.selectors);
  if (options.blocks == 0 && options.kv_bytes > 0) {
    const auto one = static_cast<int64_t>(block_bytes(config, options.code_bits));
    const int64_t fit = options.kv_bytes / one;
    if (fit < 1) {
      throw Error(kInvalidArgument, "kvBytes: " + std::to_string(options.kv_bytes) +
                                        ", one block of this model takes " + std::to_string(one));
    }
    options.blocks = static_cast<int32_t>(std::min<int64_t>(fit, INT32_MAX));
  }
  return options;
}

}  // namespace spotlight
