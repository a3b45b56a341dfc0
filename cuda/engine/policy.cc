#include "engine/policy.h"

#include <string>

#include "attention/selectors/selector.h"
#include "error.h"

namespace spotlight {
namespace {

void check_fraction(float fraction, const std::string& field) {
  if (!(fraction > 0 && fraction <= 1)) {
    throw Error(kInvalidArgument,
                field + ": " + std::to_string(fraction) + ", must be above 0 and at most 1");
  }
}

void check_backend(const std::string& backend, const std::string& field, bool selectors) {
  if (backend == "dense" || backend == "spotlight") return;
  const bool known = find_selector(backend) != nullptr;
  if (known && selectors) return;
  std::string names = "\"dense\" or \"spotlight\"";
  if (selectors) {
    names = "\"dense\", \"spotlight\"";
    for (const Selector* selector : all_selectors())
      names += std::string(selector == all_selectors().back() ? " or \"" : ", \"") +
               selector->info().name + "\"";
  }
  throw Error(kInvalidArgument,
              field + ": \"" + backend + "\", must be " + names +
                  (known ? "; this engine was not started with evaluation selectors" : ""));
}

void check_count(int32_t value, const std::string& field) {
  if (value < 0)
    throw Error(kInvalidArgument, field + ": " + std::to_string(value) + ", must not be negative");
}

void check_layers(const std::map<int32_t, LayerSettings>& own, int32_t layers) {
  for (const auto& [layer, settings] : own) {
    const std::string field = "attention.layers[" + std::to_string(layer) + "]";
    if (layer < 0 || layer >= layers) {
      throw Error(kInvalidArgument,
                  field + ": the model has layers 0 to " + std::to_string(layers - 1));
    }
    if (settings.fraction) check_fraction(*settings.fraction, field + ".fraction");
  }
}

}  // namespace

void validate(const AttentionSettings& settings, int32_t layers, bool selectors) {
  check_backend(settings.backend, "attention.backend", selectors);
  check_fraction(settings.fraction, "attention.fraction");
  check_count(settings.min_tokens, "attention.minTokens");
  check_count(settings.sink, "attention.sink");
  check_count(settings.recent, "attention.recent");
  check_count(settings.tail_from, "attention.tailFrom");
  if (settings.crossover) check_count(*settings.crossover, "attention.crossover");
  check_layers(settings.layers, layers);
}

void validate(const AttentionOverride& request, const AttentionSettings& settings, int32_t layers,
              bool selectors) {
  if (request.fraction) check_fraction(*request.fraction, "attention.fraction");
  if (request.min_tokens) check_count(*request.min_tokens, "attention.minTokens");
  if (request.sink) check_count(*request.sink, "attention.sink");
  if (request.recent) check_count(*request.recent, "attention.recent");
  if (request.tail_from) check_count(*request.tail_from, "attention.tailFrom");
  if (request.crossover) check_count(*request.crossover, "attention.crossover");
  if (request.layers) check_layers(*request.layers, layers);
  if (!request.backend) return;
  check_backend(*request.backend, "attention.backend", selectors);
  if (*request.backend == "spotlight" && settings.backend == "dense" && !selectors) {
    throw Error(kInvalidArgument,
                "attention.backend: \"spotlight\" is not to be had here, this engine runs the "
                "dense backend and keeps no codes");
  }
}

AttentionSettings merged(const AttentionSettings& settings, const AttentionOverride& request) {
  AttentionSettings all = settings;
  all.backend = request.backend.value_or(settings.backend);
  all.fraction = request.fraction.value_or(settings.fraction);
  all.min_tokens = request.min_tokens.value_or(settings.min_tokens);
  all.sink = request.sink.value_or(settings.sink);
  all.recent = request.recent.value_or(settings.recent);
  all.tail = request.tail.value_or(settings.tail);
  all.tail_from = request.tail_from.value_or(settings.tail_from);
  if (request.crossover) all.crossover = request.crossover;
  if (request.layers) all.layers = *request.layers;
  // A request's fraction stands above the deployment's own of single layers, not above its own.
  if (request.fraction && !request.layers)
    for (auto& [layer, own] : all.layers) own.fraction.reset();
  return all;
}

std::vector<LayerPolicy> resolve_policies(const AttentionSettings& deployment,
                                          const AttentionOverride& request, int32_t layers,
                                          const Encoder* encoder) {
  const AttentionSettings settings = merged(deployment, request);
  const Selector* selector = find_selector(settings.backend);
  const bool tail = settings.tail && (!selector || selector->info().tail);
  std::vector<LayerPolicy> policies(static_cast<size_t>(layers));
  for (int32_t i = 0; i < layers; i++) {
    LayerPolicy& policy = policies[static_cast<size_t>(i)];
    policy.selector = selector;
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
    const bool codes = encoder != nullptr && encoder->has_layer(i);
    if (settings.backend == "dense" || (!selector && !codes)) policy.mode = LayerMode::kDense;
  }
  return policies;
}

}  // namespace spotlight
