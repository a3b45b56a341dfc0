#include "sampling/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "sampling/cut/cut.h"
#include "sampling/logprobs/logprobs.h"
#include "sampling/penalties/penalties.h"
#include "sampling/philox/philox.h"
#include "sampling/softmax/softmax.h"

namespace spotlight {
namespace {

int32_t argmax(const float* x, int32_t count, float max) {
  for (int32_t i = 0; i < count; i++)
    if (x[i] == max) return i;
  return -1;
}

// Step 6: the first kept token whose cumulative weight exceeds u of the total.
int32_t inverse_cdf(const float* x, float* weights, int32_t count, const Cut& cut, double u) {
  if (cut.logit > -std::numeric_limits<float>::infinity()) {
    for (int32_t i = 0; i < count; i++) weights[i] = cut.keeps(x[i], i) ? weights[i] : 0.f;
  }
  constexpr int32_t kRun = 1024;
  double total = 0;
  for (int32_t run = 0; run < count; run += kRun)
    total += sum_of(weights + run, std::min(kRun, count - run));
  const double target = u * total;
  double before = 0;
  int32_t last = -1;
  for (int32_t run = 0; run < count; run += kRun) {
    const int32_t size = std::min(kRun, count - run);
    const double mass = sum_of(weights + run, size);
    if (before + mass <= target && run + kRun < count) {
      before += mass;
      continue;
    }
    double sum = before;
    for (int32_t i = run; i < run + size; i++) {
      if (weights[i] == 0) continue;
      last = i;
      sum += weights[i];
      if (sum > target) return i;
    }
    before += mass;
  }
  return last;  // u so near 1 that rounding ran past the end: the last token with weight
}

int32_t draw(float* logits, int32_t vocab, const LogitsTask& task, SamplingScratch& scratch) {
  const SamplingParams& params = *task.params;
  apply_penalties(logits, params, task.counts, task.position);
  float max = max_of(logits, vocab);
  if (!std::isfinite(max) || has_nan(logits, vocab)) return -1;
  if (params.temperature <= 0) return argmax(logits, vocab, max);
  if (params.temperature != 1) {
    const float inverse = 1.f / params.temperature;
    if (!std::isfinite(inverse * max)) return argmax(logits, vocab, max);
    for (int32_t i = 0; i < vocab; i++) logits[i] *= inverse;
    max = max_of(logits, vocab);
  }
  scratch.weights.resize(vocab);
  exp_weights(logits, vocab, max, scratch.weights.data());
  Cut cut;
  cut_min_p(max, params.min_p, cut);
  cut_top_k(logits, vocab, params.top_k, cut, scratch.tokens, scratch.floats);
  cut_top_p(logits, scratch.weights.data(), vocab, max, params.top_p, cut, scratch.tokens);
  return inverse_cdf(
      logits, scratch.weights.data(), vocab, cut,
      philox_uniform(params.seed, params.choice, static_cast<uint64_t>(task.position)));
}

}  // namespace

void run_logits_task(float* logits, int32_t vocab, LogitsTask& task, SamplingScratch& scratch) {
  const int32_t top = task.params != nullptr ? task.params->logprobs : -1;
  double lse = 0;
  if (task.target >= 0 || top >= 0) {
    lse = log_sum_exp(logits, vocab);
    task.finite = std::isfinite(lse);
    if (!task.finite) return;
  }
  if (task.target >= 0)
    task.target_logprobs =
        token_logprobs(logits, vocab, lse, task.target, task.target_top, scratch);
  if (task.params == nullptr) return;
  // The draw changes the logits in place, so the alternatives are taken first and the drawn token's
  // own value is kept aside.
  TokenLogprobs best;
  if (top >= 0) {
    best = token_logprobs(logits, vocab, lse, 0, top, scratch);
    scratch.raw.assign(logits, logits + vocab);
  }
  task.token = draw(logits, vocab, task, scratch);
  task.finite = task.token >= 0;
  if (!task.finite || top < 0) return;
  best.token = task.token;
  best.logprob = static_cast<float>(scratch.raw[task.token] - lse);
  task.logprobs = std::move(best);
}

}  // namespace spotlight
