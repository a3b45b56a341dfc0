#include "engine/policy.h"

#include <string>

#include "error.h"

namespace spotlight {
namespace {

void check_fraction(float fraction, const std::string& field) {
  if (!(fraction > 0 && fraction <= 1)) {
    throw Error(kInvalidArgument,
                field + ": " + std::to_string(fraction) + ", must be above 0 and at most 1");
  }
}

void check_backend(const std::string& backend, const std::string& field) {
  if (backend != "dense" && backend != "spotlight") {
    throw Error(kInvalidArgument,
                field + ": \"" + backend + "\", must be \"dense\" or \"spotlight\"");
  }
}

void check_count(int32_t value, const std::string& field) {
  if (value < 0)
    throw Error(kInvalidArgument, field + ": " + std::to_string(value) + ", must not be negative");
}

}  // namespace

void validate(const AttentionSettings& settings, int32_t layers) {
  check_backend(settings.backend, "attention.backend");
  check_fraction(settings.fraction, "attention.fraction");
  check_count(settings.min_tokens, "attention.minTokens");
  check_count(settings.sink, "attention.sink");
  check_count(settings.recent, "attention.recent");
  check_count(settings.tail_from, "attention.tailFrom");
  if (settings.crossover) check_count(*settings.crossover, "attention.crossover");
  for (const auto& [layer, own] : settings.layers) {
    const std::string field = "attention.layers[" + std::to_string(layer) + "]";
    if (layer < 0 || layer >= layers) {
      throw Error(kInvalidArgument,
                  field + ": the model has layers 0 to " + std::to_string(layers - 1));
    }
    if (own.fraction) check_fraction(*own.fraction, field + ".fraction");
  }
}

void validate(const AttentionOverride& request, const AttentionSettings& settings) {
  if (request.fraction) check_fraction(*request.fraction, "attention.fraction");
  if (!request.backend) return;
  check_backend(*request.backend, "attention.backend");
  if (*request.backend == "spotlight" && settings.backend == "dense") {
    throw Error(kInvalidArgument,
                "attention.backend: \"spotlight\" is not to be had here, this engine runs the "
                "dense backend and keeps no codes");
  }
}

std::vector<LayerPolicy> resolve_policies(const AttentionSettings& settings,
                                          const AttentionOverride& request, int32_t layers,
                                          const Encoder* encoder) {
  const bool tail = request.tail.value_or(settings.tail);
  const std::string& backend = request.backend.has_value() ? *request.backend : settings.backend;
  std::vector<LayerPolicy> policies(static_cast<size_t>(layers));
  for (int32_t i = 0; i < layers; i++) {
    LayerPolicy& policy = policies[static_cast<size_t>(i)];
    policy.fraction = settings.fraction;
    policy.min_tokens = settings.min_tokens;
    policy.sink = settings.sink;
    policy.recent = settings.recent;
    policy.crossover = settings.crossover.value_or(0);
    policy.mode = tail && i >= settings.tail_from ? LayerMode::kSparseTail : LayerMode::kSparse;
    const auto own = settings.layers.find(i);
    if (own != settings.layers.end()) {
      policy.mode = own->second.mode;
      if (policy.mode == LayerMode::kSparseTail && !tail) policy.mode = LayerMode::kSparse;
      if (own->second.fraction) policy.fraction = *own->second.fraction;
    }
    if (request.fraction) policy.fraction = *request.fraction;
    if (backend == "dense" || encoder == nullptr || !encoder->has_layer(i))
      policy.mode = LayerMode::kDense;
  }
  return policies;
}

}  // namespace spotlight
