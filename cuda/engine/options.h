// What callers choose, as plain structs: the binding fills them from JS, native tests by hand.
// Field names are types.ts's.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "attention/backend.h"
#include "sampling/sampling.h"

namespace spotlight {

struct LayerSettings {
  LayerMode mode = LayerMode::kSparseTail;
  std::optional<float> fraction;
};

// The deployment's attention settings.
struct AttentionSettings {
  std::string backend = "spotlight";
  float fraction = 0.02f;
  int32_t min_tokens = 256;
  int32_t sink = 4;
  int32_t recent = 64;
  bool tail = true;
  int32_t tail_from = 2;
  std::optional<int32_t> crossover;  // none: the device's own (attention/crossover.h)
  std::map<int32_t, LayerSettings> layers;
};

struct ModelSource {
  std::string kind;  // "gguf", "safetensors", "dummy"
  std::string path;  // a file, a folder, or the dummy's shape
  uint64_t seed = 0;
  int32_t layers = 0, max_model_len = 0;  // dummy only; 0: the shape's own
};

struct EngineOptions {
  ModelSource model;
  std::string device = "cpu";
  std::string isa = "auto";
  std::string dtype = "bf16";  // of a GPU: "bf16" or "fp16"
  int32_t threads = 0;         // 0: physical cores
  int32_t blocks = 0;          // 0: by kv_bytes; both 0: what the device's free memory holds
  int64_t kv_bytes = 0;
  int32_t max_batch_tokens = 0;  // 0: 512 on a CPU, 8192 on a GPU
  int32_t max_sequences = 256;
  int32_t code_bits = 128;
  bool selectors = false;  // whether the methods of attention/selectors are to be had, too
  AttentionSettings attention;
};

// A request's overrides of the deployment's settings.
struct AttentionOverride {
  std::optional<std::string> backend;
  std::optional<float> fraction;
  std::optional<int32_t> min_tokens, sink, recent, tail_from, crossover;
  std::optional<bool> tail;
  std::optional<std::map<int32_t, LayerSettings>> layers;  // instead of the deployment's
};

struct SequenceOptions {
  SamplingParams sampling;
  AttentionOverride attention;
  int32_t slot = 0;
  std::vector<int32_t> prompt_tokens, generated_tokens;  // for penalties
  std::vector<int32_t> blocks;                           // filled already, in order
};

}  // namespace spotlight
