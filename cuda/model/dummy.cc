// make_dummy: seeded random weights of a named shape, so that a 7B model or a million tokens of
// context need no download. Every value is a pure function of (seed, weight's name, index),
// whatever the number of threads that fill it.
#include <ggml.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <system_error>
#include <thread>

#include "error.h"
#include "model/loaded_weights.h"

namespace spotlight {
namespace {

struct Shape {
  const char* name;
  const char* architecture;
  int32_t layers, hidden, intermediate, query_heads, kv_heads, head_dim, vocab, max_model_len;
  float rms_norm_eps, theta;
  bool tied;
  int32_t bos, eos;
};

// As the models of these names publish them.
constexpr Shape kShapes[] = {
    {"smollm2-135m", "llama", 30, 576, 1536, 9, 3, 64, 49152, 8192, 1e-5f, 1e5f, true, 1, 2},
    {"llama-3.2-1b", "llama", 16, 2048, 8192, 32, 8, 64, 128256, 131072, 1e-5f, 5e5f, true, 128000,
     128001},
    {"llama-3-8b", "llama", 32, 4096, 14336, 32, 8, 128, 128256, 8192, 1e-5f, 5e5f, false, 128000,
     128001},
    {"mistral-7b", "mistral", 32, 4096, 14336, 32, 8, 128, 32768, 32768, 1e-5f, 1e6f, false, 1, 2},
    {"qwen2.5-0.5b", "qwen2", 24, 896, 4864, 14, 2, 64, 151936, 32768, 1e-6f, 1e6f, true, 151643,
     151645},
    {"qwen2.5-7b", "qwen2", 28, 3584, 18944, 28, 4, 128, 152064, 131072, 1e-6f, 1e6f, false, 151643,
     151645},
    {"qwen3-0.6b", "qwen3", 28, 1024, 3072, 16, 8, 128, 151936, 40960, 1e-6f, 1e6f, true, 151643,
     151645},
    {"qwen3-8b", "qwen3", 36, 4096, 12288, 32, 8, 128, 151936, 40960, 1e-6f, 1e6f, false, 151643,
     151645},
    // For tests: small, and each with something of its own (grouping, biases, a query width other
    // than the hidden size).
    {"tiny-llama", "llama", 4, 128, 256, 4, 2, 32, 1024, 16384, 1e-5f, 1e4f, true, 1, 2},
    {"tiny-qwen2", "qwen2", 3, 128, 320, 6, 2, 32, 1024, 16384, 1e-6f, 1e6f, false, 1, 2},
    {"tiny-qwen3", "qwen3", 2, 64, 192, 4, 1, 64, 1024, 16384, 1e-6f, 1e6f, true, 1, 2},
};

ModelConfig config_of(const std::string& name) {
  std::string known;
  for (const Shape& shape : kShapes) {
    known += (known.empty() ? "" : ", ") + std::string(shape.name);
    if (name != shape.name) continue;
    ModelConfig config;
    config.architecture = shape.architecture;
    config.layers = shape.layers;
    config.hidden = shape.hidden;
    config.intermediate = shape.intermediate;
    config.query_heads = shape.query_heads;
    config.kv_heads = shape.kv_heads;
    config.head_dim = shape.head_dim;
    config.vocab = shape.vocab;
    config.max_model_len = shape.max_model_len;
    config.rms_norm_eps = shape.rms_norm_eps;
    config.rope.theta = shape.theta;
    if (name == "llama-3.2-1b") {
      config.rope.scaling = RopeScaling::kLlama3;
      config.rope.factor = 32.f;
      config.rope.low_freq_factor = 1.f;
      config.rope.high_freq_factor = 4.f;
      config.rope.original_max_position = 8192;
    }
    config.tied_embeddings = shape.tied;
    config.qkv_bias = config.architecture == "qwen2";
    config.qk_norm = config.architecture == "qwen3";
    config.bos_token = shape.bos;
    config.eos_tokens = {shape.eos};
    return config;
  }
  throw Error(kModelNotFound, "no shape is named " + name + "; known: " + known);
}

uint64_t mix(uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

uint64_t key_of(uint64_t seed, const std::string& name) {
  uint64_t key = mix(seed);
  for (unsigned char c : name) key = mix(key ^ c);
  return key;
}

// Uniform in (-1, 1): one of four 16-bit draws of a word.
inline float draw(uint64_t word, int lane) {
  return (static_cast<int16_t>(word >> (16 * lane)) + 0.5f) * (1.f / 32768);
}

inline uint16_t to_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<uint16_t>((bits + 0x8000) >> 16);
}

// `count` BF16 values from index `first` on; both divide by four.
void fill(uint16_t* out, int64_t first, int64_t count, uint64_t key, float limit) {
  for (int64_t i = 0; i < count; i += 4) {
    const uint64_t word = mix(key + static_cast<uint64_t>((first + i) / 4));
    for (int lane = 0; lane < 4; lane++) out[i + lane] = to_bf16(limit * draw(word, lane));
  }
}

// A standard deviation that keeps activations near one: 1/sqrt(inputs), less for what adds to the
// residual stream. Queries are wider than that, so that attention has tokens it prefers; the head's
// logits spread over a few units.
float deviation(const PlannedWeight& planned, const ModelConfig& config) {
  const auto ends = [&](const char* part) {
    const std::string tail = std::string(".") + part;
    return planned.name.size() > tail.size() &&
           planned.name.compare(planned.name.size() - tail.size(), tail.size(), tail) == 0;
  };
  const float base = 1.f / std::sqrt(static_cast<float>(planned.cols));
  if (ends("o") || ends("down")) return base / std::sqrt(2.f * config.layers);
  if (ends("q")) return 2.f * base;
  if (planned.name == "head" || planned.name == "embed") return 2.f * base;
  return base;
}

struct Job {
  uint16_t* data;
  int64_t first, count;
  uint64_t key;
  float limit;
};

class DummyWeights : public LoadedWeights {
 public:
  DummyWeights(const ModelConfig& config, uint64_t seed) {
    config_ = config;
    std::vector<Job> jobs;
    for (const PlannedWeight& planned : plan_weights(config_)) {
      const int64_t count = planned.rows * planned.cols;
      const uint64_t key = key_of(seed, planned.name);
      if (planned.kind != WeightKind::kMatrix) {
        views_[planned.name] = vector(planned, key);
        continue;
      }
      auto* data = static_cast<uint16_t*>(allocate(count * sizeof(uint16_t)));
      views_[planned.name] = {GGML_TYPE_BF16, planned.cols, planned.rows, data,
                              count * sizeof(uint16_t)};
      const float limit = std::sqrt(3.f) * deviation(planned, config_);  // of a uniform draw
      for (int64_t at = 0; at < count; at += kJob)
        jobs.push_back({data + at, at, std::min(kJob, count - at), key, limit});
    }
    run(jobs);
  }

 private:
  static constexpr int64_t kJob = 1 << 22;  // values; a multiple of four

  // Norms near one, biases small; always float32.
  WeightView vector(const PlannedWeight& planned, uint64_t key) {
    auto* values = static_cast<float*>(allocate(planned.cols * sizeof(float)));
    for (int64_t i = 0; i < planned.cols; i++) {
      const float value = draw(mix(key + i), 0);
      values[i] = planned.kind == WeightKind::kNorm ? 1.f + 0.1f * value : 0.1f * value;
    }
    return {GGML_TYPE_F32, planned.cols, 1, values, planned.cols * sizeof(float)};
  }

  static void run(const std::vector<Job>& jobs) {
    std::atomic<size_t> next{0};
    const auto work = [&] {
      for (size_t i; (i = next.fetch_add(1)) < jobs.size();)
        fill(jobs[i].data, jobs[i].first, jobs[i].count, jobs[i].key, jobs[i].limit);
    };
    std::vector<std::thread> helpers;
    const size_t width = std::min<size_t>({std::thread::hardware_concurrency(), 32, jobs.size()});
    try {
      for (size_t i = 1; i < width; i++) helpers.emplace_back(work);
    } catch (const std::system_error&) {
      // No more threads to be had: those there are do the work.
    }
    work();
    for (std::thread& helper : helpers) helper.join();
  }
};

}  // namespace

std::unique_ptr<WeightFile> make_dummy(const std::string& shape, uint64_t seed, int32_t layers,
                                       int32_t max_model_len) {
  ModelConfig config = config_of(shape);
  if (layers > 0) config.layers = layers;
  if (max_model_len > 0) config.max_model_len = max_model_len;
  validate(config);
  return std::make_unique<DummyWeights>(config, seed);
}

}  // namespace spotlight
