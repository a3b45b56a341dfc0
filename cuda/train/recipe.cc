#include "train/recipe.h"

#include <algorithm>
#include <cmath>

#include "error.h"

namespace spotlight::train {
namespace {

constexpr int32_t kFewestFound = 20;  // a budget below this many tokens measures chance

[[noreturn]] void refuse(const std::string& field, const std::string& what) {
  throw Error(kInvalidArgument, field + ": " + what);
}

void want(const char* field, int32_t value, int32_t least, int32_t most) {
  if (value < least || value > most)
    refuse(field, std::to_string(value) + ", must be in [" + std::to_string(least) + ", " +
                      std::to_string(most) + "]");
}

void want(const char* field, float value, float least, float most) {
  if (!(value >= least && value <= most))
    refuse(field, std::to_string(value) + ", must be in [" + std::to_string(least) + ", " +
                      std::to_string(most) + "]");
}

}  // namespace

void validate(const Recipe& r, const ModelConfig& config) {
  want("bits", r.bits, 32, 1024);
  if (r.bits % 32 != 0) refuse("bits", std::to_string(r.bits) + ", must be a multiple of 32");
  if (r.encoder == CodeKind::kMlp) {
    want("hidden", r.hidden, 16, 4096);
    if (r.hidden % 16 != 0) refuse("hidden", "must be a multiple of 16");
  }
  if (config.head_dim % 16 != 0)
    throw Error(kModelUnsupported, "head_dim is " + std::to_string(config.head_dim) +
                                       ", the trainer takes multiples of 16");
  want("steps", r.steps, 1, 1'000'000);
  want("updates", r.updates, 1, 64);
  want("sequence", r.sequence, 64, config.max_model_len);
  want("budget", r.budget, 0.0001f, 0.5f);
  want("rows", r.rows, 1, 65536);
  want("firstShare", r.first_share, 1, 1 << 20);
  want("top", r.top, 1, 1024);
  want("other", r.other, 1, 1024);
  want("border", r.border, 0.f, 1.f);
  want("keyGamma", r.key_gamma, 1e-3f, 1e6f);
  want("queryGamma", r.query_gamma, 1e-3f, 1e6f);
  want("sharpness", r.sharpness, 1e-4f, 1e4f);
  want("learningRate", r.learning_rate, 0.f, 1.f);
  want("beta1", r.beta1, 0.f, 0.9999f);
  want("beta2", r.beta2, 0.f, 0.99999f);
  want("epsilon", r.epsilon, 1e-12f, 1.f);
  want("weightDecay", r.weight_decay, 0.f, 10.f);
  want("warmup", r.warmup, 0.f, 1.f);
  for (size_t i = 0; i < r.dense_layers.size(); i++) {
    want("denseLayers", r.dense_layers[i], 0, config.layers - 1);
    if (i > 0 && r.dense_layers[i] <= r.dense_layers[i - 1])
      refuse("denseLayers", "must be ascending");
  }
  if (coded_layers(r, config).empty()) refuse("denseLayers", "leave no layer to train");
}

float learning_rate(const Recipe& r, int32_t update) {
  const double all = double{1} * r.steps * r.updates;
  const double rise = std::min(1.0, (update + 1) / std::max(1.0, double{r.warmup} * all));
  constexpr double kPi = 3.14159265358979323846;
  return static_cast<float>(double{r.learning_rate} * rise * 0.5 *
                            (1 + std::cos(kPi * update / all)));
}

int32_t top_count(const Recipe& r, int32_t tokens) {
  return std::min(tokens, std::max(kFewestFound, static_cast<int32_t>(double{r.budget} * tokens)));
}

std::vector<int32_t> coded_layers(const Recipe& r, const ModelConfig& config) {
  std::vector<int32_t> layers;
  for (int32_t l = 0; l < config.layers; l++)
    if (!std::binary_search(r.dense_layers.begin(), r.dense_layers.end(), l)) layers.push_back(l);
  return layers;
}

}  // namespace spotlight::train
