#include "train/gpu/layer_cuda.h"

#include <algorithm>
#include <cmath>

#include "error.h"
#include "train/truth.h"

namespace spotlight::train {
namespace {

constexpr int32_t kChunk = 512;  // of a long sum
constexpr int32_t kBorder = 8;   // as truth.cc

}  // namespace

CudaLayerTrainer::CudaLayerTrainer(const Recipe& recipe, const ModelConfig& config,
                                   cudaStream_t stream)
    : recipe_(recipe), layout_(recipe, config), stream_(stream) {
  if (recipe.encoder != CodeKind::kLinearAsym)
    throw Error(kModelUnsupported,
                "encoder: a GPU trains \"linear-asym\"; take device \"cpu\" for \"mlp\"");
  const int64_t heads = layout_.heads, rows = recipe.rows, bits = recipe.bits;
  const int64_t stride = key_stride(recipe.sequence), tokens = recipe.sequence;
  const auto floats = [](int64_t count) { return DeviceBuffer<float>(static_cast<size_t>(count)); };
  logits_ = floats(layout_.query_heads * rows * stride);
  mass_ = floats(heads * rows * stride);
  scores_ = floats(2 * heads * rows * stride);
  key_codes_ = floats(heads * tokens * bits);
  key_gradient_ = floats(heads * tokens * bits);
  query_codes_ = floats(layout_.query_heads * rows * bits);
  query_gradient_ = floats(layout_.query_heads * rows * bits);
  sums_ = floats(heads * rows * bits);
  sums_gradient_ = floats(heads * rows * bits);
  const int64_t most_chunks = (tokens + kChunk - 1) / kChunk;
  parts_ = floats(heads * most_chunks * std::max<int64_t>(layout_.head_size, rows * bits));
  gradient_ = floats(layout_.layer_size);

  const int64_t wanted = top_count(recipe, recipe.sequence);
  pairs_.top = recipe.top;
  pairs_.other = recipe.other;
  pairs_.near = static_cast<int32_t>(std::lround(recipe.border * recipe.other));
  pairs_.mass_weights = recipe.mass_weights;
  found_ = DeviceBuffer<int32_t>(static_cast<size_t>(heads * rows * wanted));
  if (pairs_.near > 0)
    nearby_ = DeviceBuffer<int32_t>(
        static_cast<size_t>(heads * rows * std::min(tokens, kBorder * wanted)));
  tokens_of_pairs_ =
      DeviceBuffer<int32_t>(static_cast<size_t>(heads * rows * (recipe.top + recipe.other)));
  weights_of_pairs_ = floats(heads * rows * recipe.top);
  losses_ = DeviceBuffer<double>(static_cast<size_t>(heads * rows));
  loss_weights_ = DeviceBuffer<double>(static_cast<size_t>(heads * rows));
  result_ = DeviceBuffer<double>(2);
  pairs_.found = found_.data();
  pairs_.nearby = nearby_.data();
  pairs_.tokens = tokens_of_pairs_.data();
  pairs_.weights = weights_of_pairs_.data();
  shape_.heads = layout_.heads;
  shape_.group = layout_.queries_a_head;
  shape_.rows = recipe.rows;
  shape_.bits = recipe.bits;
}

int32_t CudaLayerTrainer::chunks() const { return (tokens_ + kChunk - 1) / kChunk; }

void CudaLayerTrainer::take(const float* k, int32_t tokens) {
  k_ = k;
  tokens_ = tokens;
  shape_.stride = key_stride(tokens);
  pairs_.wanted = top_count(recipe_, tokens);
  pairs_.border = std::min(tokens, kBorder * pairs_.wanted);
}

void CudaLayerTrainer::draw(const Draws& draws, const float* q, const int32_t* positions) {
  q_ = q;
  shape_.positions = positions;
  const int64_t dim = layout_.head_dim, group = layout_.queries_a_head;
  const int64_t query_row = layout_.query_heads * dim, key_row = layout_.kv_heads * dim;
  kernels::Product logits;
  logits.a = {q, query_row, 1, group * dim, dim};
  logits.b = {k_, 1, key_row, dim, 0};
  logits.c = {logits_.data(), shape_.stride, group * shape_.rows * shape_.stride,
              shape_.rows * shape_.stride};
  logits.m = shape_.rows;
  logits.n = tokens_;
  logits.k = layout_.head_dim;
  logits.outer = layout_.heads;
  logits.inner = layout_.queries_a_head;
  kernels::multiply(logits, stream_);
  kernels::attention_mass(shape_, logits_.data(), 1 / std::sqrt(static_cast<float>(dim)),
                          mass_.data(), stream_);
  kernels::draw_pairs(shape_, draws, mass_.data(), pairs_, stream_);
}

void CudaLayerTrainer::long_product(kernels::Product product, int64_t size, float* out) {
  product.inner = chunks();
  product.split = kChunk;
  product.c.data = parts_.data();
  product.c.inner = size;
  product.c.outer = size * product.inner;
  kernels::multiply(product, stream_);
  kernels::sum_parts(parts_.data(), product.outer, product.inner, size, size, out, stream_);
}

void CudaLayerTrainer::differentiate(const float* weights) {
  const int64_t dim = layout_.head_dim, bits = layout_.bits, rows = shape_.rows;
  const int64_t query_row = layout_.query_heads * dim, key_row = layout_.kv_heads * dim;
  const int64_t of_keys = int64_t{tokens_} * bits, of_rows = rows * bits;
  const int64_t of_scores = rows * shape_.stride;
  const int32_t heads = layout_.heads, queries = layout_.query_heads;

  kernels::Product keys;  // codes of all keys
  keys.a = {k_, key_row, 1, dim, 0};
  keys.b = {weights + layout_.key(0), bits, 1, layout_.head_size, 0};
  keys.c = {key_codes_.data(), bits, of_keys, 0};
  keys.m = tokens_;
  keys.n = layout_.bits;
  keys.k = layout_.head_dim;
  keys.outer = heads;
  kernels::multiply(keys, stream_);
  kernels::soften(key_codes_.data(), heads * of_keys, recipe_.key_gamma, stream_);

  kernels::Product asked;  // codes of the queries
  asked.a = {q_, query_row, 1, dim, 0};
  asked.b = {weights + layout_.query(0), bits, 1, layout_.head_size, 0};
  asked.c = {query_codes_.data(), bits, of_rows, 0};
  asked.m = shape_.rows;
  asked.n = layout_.bits;
  asked.k = layout_.head_dim;
  asked.outer = queries;
  kernels::multiply(asked, stream_);
  kernels::soften(query_codes_.data(), queries * of_rows, recipe_.query_gamma, stream_);
  kernels::sum_group(shape_, query_codes_.data(), sums_.data(), stream_);

  float* scores = scores_.data();
  float* d_scores = scores + heads * of_scores;
  kernels::Product found;  // scores of all keys
  found.a = {sums_.data(), bits, 1, of_rows, 0};
  found.b = {key_codes_.data(), 1, bits, of_keys, 0};
  found.c = {scores, shape_.stride, of_scores, 0};
  found.m = shape_.rows;
  found.n = tokens_;
  found.k = layout_.bits;
  found.outer = heads;
  kernels::multiply(found, stream_);
  CUDA_CHECK(cudaMemsetAsync(d_scores, 0, static_cast<size_t>(heads * of_scores) * sizeof(float),
                             stream_));
  kernels::pair_loss(shape_, pairs_, scores, d_scores, losses_.data(), loss_weights_.data(),
                     stream_);
  kernels::mean_loss(losses_.data(), loss_weights_.data(), heads * shape_.rows, result_.data(),
                     stream_);

  kernels::Product to_keys;  // slopes by key code
  to_keys.a = {d_scores, 1, shape_.stride, of_scores, 0};
  to_keys.b = {sums_.data(), bits, 1, of_rows, 0};
  to_keys.c = {key_gradient_.data(), bits, of_keys, 0};
  to_keys.m = tokens_;
  to_keys.n = layout_.bits;
  to_keys.k = shape_.rows;
  to_keys.outer = heads;
  kernels::multiply(to_keys, stream_);
  kernels::slope(key_codes_.data(), key_gradient_.data(), heads * of_keys, recipe_.key_gamma,
                 stream_);

  kernels::Product to_sums;  // slopes by summed query code
  to_sums.a = {d_scores, shape_.stride, 1, of_scores, 0};
  to_sums.b = {key_codes_.data(), bits, 1, of_keys, 0};
  to_sums.c.row = bits;
  to_sums.m = shape_.rows;
  to_sums.n = layout_.bits;
  to_sums.k = tokens_;
  to_sums.outer = heads;
  long_product(to_sums, of_rows, sums_gradient_.data());
  kernels::slope_group(shape_, query_codes_.data(), sums_gradient_.data(), recipe_.query_gamma,
                       query_gradient_.data(), stream_);

  kernels::Product of_key;  // the key side's gradient
  of_key.a = {k_, 1, key_row, dim, 0};
  of_key.b = {key_gradient_.data(), bits, 1, of_keys, 0};
  of_key.c.row = bits;
  of_key.m = layout_.head_dim;
  of_key.n = layout_.bits;
  of_key.k = tokens_;
  of_key.outer = heads;
  long_product(of_key, layout_.head_size, gradient_.data() + layout_.key(0));

  kernels::Product of_query;  // the query side's
  of_query.a = {q_, 1, query_row, dim, 0};
  of_query.b = {query_gradient_.data(), bits, 1, of_rows, 0};
  of_query.c = {gradient_.data() + layout_.query(0), bits, layout_.head_size, 0};
  of_query.m = layout_.head_dim;
  of_query.n = layout_.bits;
  of_query.k = shape_.rows;
  of_query.outer = queries;
  kernels::multiply(of_query, stream_);
}

void CudaLayerTrainer::update(const AdamWStep& s, float* weights, float* first, float* second) {
  const kernels::Update update = {s.learning_rate, s.beta1,       s.beta2,           s.epsilon,
                                  s.weight_decay,  s.correction1, s.correction2_root};
  kernels::adamw(update, gradient_.data(), result_.data() + 1, layout_.layer_size, weights, first,
                 second, stream_);
}

}  // namespace spotlight::train
