// How an artifact is trained: everything that decides its weights besides the model and the texts.
// Defaults are the recipe of shared experience (README.md): a caller who names nothing gets the
// best code known, not the paper's.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/config.h"

namespace spotlight::train {

enum class CodeKind { kLinearAsym, kMlp };

struct Recipe {
  CodeKind encoder = CodeKind::kLinearAsym;
  int32_t bits = 128;       // of a code: a KV head's (linear-asym), a query head's (mlp)
  int32_t hidden = 128;     // of an mlp; a multiple of 16
  int32_t steps = 2500;     // one text each
  int32_t updates = 1;      // of the weights a step, each with queries and pairs of its own
  int32_t sequence = 8192;  // most tokens of a step's text
  uint64_t seed = 0;
  float budget = 0.02f;     // of the text's tokens: how many the code should find
  int32_t rows = 96;        // queries of an update, one in each of as many equal parts of the text
  int32_t first_share = 8;  // queries come from behind the first 1 / first_share of the text
  int32_t top = 128;        // tokens drawn from those to be found, a query and head
  int32_t other = 384;      // tokens drawn from all the query sees, most of them not to be found
  float border = 0.5f;    // of the others: share drawn from the ranks just below those to be found
  bool sign_keys = true;  // keys score as the signs they are served as, and learn by the softsign
  float key_gamma = 8;    // slope of the softsign that stands for a code's sign while training
  float query_gamma = 1;  // of the query's side: 1 keeps it soft, as linear-asym scores
  float sharpness = 0.25f;  // of the loss: what the lead of one score over another is multiplied by
  bool mass_weights = true;  // pairs weigh by the square root of the attention their top token has
  float learning_rate = 8e-3f;
  float beta1 = 0.9f, beta2 = 0.98f, epsilon = 1e-8f, weight_decay = 0.1f;
  float warmup = 0.02f;               // of the steps
  std::vector<int32_t> dense_layers;  // ascending; they get no codes
};

// Throws INVALID_ARGUMENT naming the field.
void validate(const Recipe& recipe, const ModelConfig& config);

// Of update 0 <= update < steps * updates: a linear rise over the first, then a cosine to zero.
float learning_rate(const Recipe& recipe, int32_t update);

// How many tokens of a text of `tokens` are to be found: the same for every query of it.
int32_t top_count(const Recipe& recipe, int32_t tokens);

// Layers that get codes, ascending.
std::vector<int32_t> coded_layers(const Recipe& recipe, const ModelConfig& config);

}  // namespace spotlight::train
