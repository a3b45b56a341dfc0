#include "attention/reference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "attention/half.h"

namespace spotlight {
namespace {

// 2^x as exp2_exact computes it: the mlp encoder's bits depend on the last place.
float exact_exp2(float x) {
  const float clamped = std::min(126.0f, std::max(-126.0f, x));
  const float n = std::nearbyint(clamped), f = clamped - n;
  float p = 1.535336188319500e-4f;
  for (const float c : {1.339887440266574e-3f, 9.618437357674640e-3f, 5.550332471162809e-2f,
                        2.402264791363012e-1f, 6.931472028550421e-1f, 1.0f}) {
    const float product = p * f;
    p = product + c;
  }
  return std::ldexp(p, static_cast<int>(n));
}

std::vector<float> times(const float* x, int32_t dim, const float* weight, int32_t columns) {
  std::vector<float> z(columns, 0.0f);
  for (int32_t i = 0; i < dim; i++)
    for (int32_t j = 0; j < columns; j++) {
      const float product = x[i] * weight[static_cast<int64_t>(i) * columns + j];
      z[j] += product;
    }
  return z;
}

std::vector<float> mlp(const Artifact& a, const LayerCode& code, int32_t head, const float* x) {
  std::vector<float> y = times(
      x, a.head_dim, code.w1.data() + static_cast<int64_t>(head) * a.head_dim * a.hidden, a.hidden);
  for (int32_t j = 0; j < a.hidden; j++) {
    const float s = y[j] + code.b1[static_cast<int64_t>(head) * a.hidden + j];
    y[j] = s / (1.0f + exact_exp2(s * -1.44269504088896341f));
    if (a.hidden == a.head_dim) y[j] += x[j];
  }
  std::vector<float> z = times(
      y.data(), a.hidden, code.w2.data() + static_cast<int64_t>(head) * a.hidden * a.bits, a.bits);
  for (int32_t j = 0; j < a.bits; j++) {
    z[j] += code.b2[static_cast<int64_t>(head) * a.bits + j];
    if (a.bits == a.hidden) z[j] += y[j];
  }
  return z;
}

std::vector<int8_t> signs(const std::vector<float>& z) {
  std::vector<int8_t> code(z.size());
  for (size_t j = 0; j < z.size(); j++) code[j] = z[j] > 0 ? 1 : -1;
  return code;
}

// Components in -7..7 for a KV head's group (linear-asym), or +1/-1 for one query head (mlp).
std::vector<int8_t> query_code(const Artifact& a, const LayerCode& code, int32_t first_head,
                               int32_t heads, const float* q) {
  if (a.encoder == "mlp") return signs(mlp(a, code, first_head, q));
  std::vector<float> u(a.bits, 0.0f);
  for (int32_t h = 0; h < heads; h++) {
    const std::vector<float> z = times(
        q + static_cast<int64_t>(h) * a.head_dim, a.head_dim,
        code.query.data() + static_cast<int64_t>(first_head + h) * a.head_dim * a.bits, a.bits);
    for (int32_t j = 0; j < a.bits; j++) {
      const float soft = z[j] / (1.0f + std::fabs(z[j]));
      u[j] = h == 0 ? soft : u[j] + soft;
    }
  }
  float largest = 1e-6f;
  for (const float x : u) largest = std::max(largest, std::fabs(x));
  std::vector<int8_t> quantised(a.bits);
  for (int32_t j = 0; j < a.bits; j++)
    quantised[j] = static_cast<int8_t>(std::nearbyint(u[j] / largest * 7.0f));
  return quantised;
}

struct Term {
  double logit;
  std::vector<double> value;
};

void softmax(const std::vector<Term>& terms, int32_t dim, float* out) {
  double top = -std::numeric_limits<double>::infinity(), total = 0;
  for (const Term& term : terms) top = std::max(top, term.logit);
  std::vector<double> sum(dim, 0.0);
  for (const Term& term : terms) {
    const double weight = std::exp(term.logit - top);
    total += weight;
    for (int32_t j = 0; j < dim; j++) sum[j] += weight * term.value[j];
  }
  for (int32_t j = 0; j < dim; j++) out[j] = static_cast<float>(sum[j] / total);
}

double dot(const float* a, const float* b, int32_t dim) {
  double sum = 0;
  for (int32_t j = 0; j < dim; j++) sum += static_cast<double>(a[j]) * b[j];
  return sum;
}

// Mean of a block as its summary is stored: summed in f32 in order, rounded to binary16.
std::vector<float> block_mean(const ReferenceCache& cache, bool keys, int32_t block, int32_t head) {
  std::vector<float> mean(cache.head_dim, 0.0f);
  for (int32_t t = block * kBlockSize; t < (block + 1) * kBlockSize; t++)
    for (int32_t j = 0; j < cache.head_dim; j++)
      mean[j] += keys ? cache.key(t, head)[j] : cache.value(t, head)[j];
  for (float& x : mean) x = half_to_float(float_to_half(x * (1.0f / kBlockSize)));
  return mean;
}

void attend(const ReferenceCache& cache, const float* q, int32_t position, int32_t query_head,
            const std::vector<bool>& selected, bool tail, float* out) {
  const int32_t dim = cache.head_dim, context = position + 1;
  const int32_t head = query_head / (cache.query_heads / cache.kv_heads);
  const float* query = q + static_cast<int64_t>(query_head) * dim;
  const double scale = 1 / std::sqrt(static_cast<double>(dim));
  std::vector<Term> terms;
  for (int32_t start = 0; start < context; start += kBlockSize) {
    const bool closed = start + kBlockSize <= context;
    int32_t left_out = 0;
    for (int32_t t = start; t < std::min(start + kBlockSize, context); t++) {
      if (closed && !selected[t]) {
        left_out++;
        continue;
      }
      terms.push_back({dot(query, cache.key(t, head), dim) * scale,
                       {cache.value(t, head), cache.value(t, head) + dim}});
    }
    if (!tail || left_out == 0) continue;
    const std::vector<float> mean_k = block_mean(cache, true, start / kBlockSize, head);
    const std::vector<float> mean_v = block_mean(cache, false, start / kBlockSize, head);
    terms.push_back({dot(query, mean_k.data(), dim) * scale + std::log(left_out),
                     {mean_v.begin(), mean_v.end()}});
  }
  softmax(terms, dim, out + static_cast<int64_t>(query_head) * dim);
}

}  // namespace

std::vector<int8_t> reference_key_code(const Artifact& artifact, int32_t layer, int32_t query_head,
                                       int32_t kv_head, const float* key) {
  const LayerCode& code = artifact.layers[layer];
  if (artifact.encoder == "mlp") return signs(mlp(artifact, code, query_head, key));
  const int64_t matrix = static_cast<int64_t>(artifact.head_dim) * artifact.bits;
  return signs(times(key, artifact.head_dim, code.key.data() + kv_head * matrix, artifact.bits));
}

ReferenceResult reference_dense(const ReferenceCache& cache, const float* q, int32_t position) {
  ReferenceResult result;
  result.out.resize(static_cast<size_t>(cache.query_heads) * cache.head_dim);
  result.selected.resize(cache.kv_heads);
  const std::vector<bool> all(position + 1, true);
  for (int32_t h = 0; h < cache.query_heads; h++)
    attend(cache, q, position, h, all, false, result.out.data());
  return result;
}

ReferenceResult reference_sparse(const ReferenceCache& cache, const Artifact& artifact,
                                 int32_t layer, const LayerPolicy& policy, const float* q,
                                 int32_t position) {
  const int32_t context = position + 1, group = cache.query_heads / cache.kv_heads;
  if (policy.mode == LayerMode::kDense || context < policy.crossover)
    return reference_dense(cache, q, position);
  const bool per_query_head = artifact.encoder == "mlp";
  const int32_t shared = per_query_head ? 1 : group;
  ReferenceResult result;
  result.out.resize(static_cast<size_t>(cache.query_heads) * cache.head_dim);
  result.selected.resize(cache.kv_heads);
  std::vector<std::vector<bool>> united(cache.kv_heads, std::vector<bool>(context, false));
  for (int32_t first = 0; first < cache.query_heads; first += shared) {
    const int32_t head = first / group;
    const std::vector<int8_t> query = query_code(artifact, artifact.layers[layer], first, shared,
                                                 q + static_cast<int64_t>(first) * cache.head_dim);
    std::vector<int32_t> score(context), order(context);
    std::iota(order.begin(), order.end(), 0);
    for (int32_t t = 0; t < context; t++) {
      const std::vector<int8_t> code =
          reference_key_code(artifact, layer, first, head, cache.key(t, head));
      for (int32_t j = 0; j < artifact.bits; j++) score[t] += query[j] * code[j];
      const bool always = t < policy.sink || t >= context - policy.recent;
      if (always) score[t] = std::numeric_limits<int32_t>::max();
    }
    std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return score[a] != score[b] ? score[a] > score[b] : a > b;
    });
    const int32_t always = std::min(context, policy.sink + policy.recent);
    const int32_t k = std::max(budget(policy, context), always);
    std::vector<bool> selected(context, false);
    for (int32_t i = 0; i < k; i++) selected[order[i]] = united[head][order[i]] = true;
    for (int32_t h = first; h < first + shared; h++)
      attend(cache, q, position, h, selected, policy.mode == LayerMode::kSparseTail,
             result.out.data());
  }
  for (int32_t head = 0; head < cache.kv_heads; head++)
    for (int32_t t = 0; t < context; t++)
      if (united[head][t]) result.selected[head].push_back(t);
  return result;
}

}  // namespace spotlight
