#include "train/gpu/layer_cuda.h"

#include <algorithm>
#include <cmath>

#include "train/truth.h"

namespace spotlight::train {
namespace {

constexpr int32_t kPiece = 512;  // of a long sum
constexpr int32_t kBorder = 8;   // as truth.cc

// Of `most` heads how many are worked on at once, in equal turns.
int32_t heads_at_once(int32_t most, int64_t bytes_a_head, int64_t most_bytes) {
  int32_t heads = most;
  while (heads > 1 && (most % heads != 0 || heads * bytes_a_head > most_bytes)) heads--;
  return heads;
}

int32_t pieces(int32_t tokens) { return (tokens + kPiece - 1) / kPiece; }

}  // namespace

CudaLayerTrainer::CudaLayerTrainer(const Recipe& recipe, const ModelConfig& config,
                                   cudaStream_t stream, int64_t most_bytes)
    : recipe_(recipe), layout_(recipe, config), stream_(stream) {
  const int64_t rows = recipe.rows, bits = recipe.bits;
  const int64_t stride = key_stride(recipe.sequence), tokens = recipe.sequence;
  shape_.group = layout_.queries_a_head;
  const int64_t floats_a_head = (shape_.group + 3) * rows * stride + 2 * tokens * bits;
  // An mlp's turn has one KV head's keys.
  shape_.heads = heads_at_once(shared() ? layout_.query_heads / layout_.kv_heads : layout_.heads,
                               floats_a_head * static_cast<int64_t>(sizeof(float)), most_bytes);
  shape_.rows = recipe.rows;
  shape_.bits = recipe.bits;
  const int64_t heads = shape_.heads, queries = heads * shape_.group;
  code_ = make_cuda_head_code(recipe, layout_.head_dim, static_cast<int32_t>(queries), stream);
  const auto floats = [](int64_t count) { return DeviceBuffer<float>(static_cast<size_t>(count)); };
  logits_ = floats(queries * rows * stride);
  mass_ = floats(heads * rows * stride);
  scores_ = floats(2 * heads * rows * stride);
  key_codes_ = floats(heads * tokens * bits);
  key_gradient_ = floats(heads * tokens * bits);
  query_codes_ = floats(queries * rows * bits);
  query_gradient_ = floats(queries * rows * bits);
  sums_ = floats(heads * rows * bits);
  sums_gradient_ = floats(heads * rows * bits);
  parts_ = floats(std::max(
      (heads * code_parts(recipe.sequence) + queries * code_parts(recipe.rows)) * layout_.head_size,
      heads * pieces(recipe.sequence) * rows * bits));
  gradient_ = floats(layout_.layer_size);

  const int64_t wanted = top_count(recipe, recipe.sequence), all = layout_.heads;
  pairs_.top = recipe.top;
  pairs_.other = recipe.other;
  pairs_.near = static_cast<int32_t>(std::lround(recipe.border * recipe.other));
  pairs_.mass_weights = recipe.mass_weights;
  pairs_.sharpness = recipe.sharpness;
  found_ = DeviceBuffer<int32_t>(static_cast<size_t>(heads * rows * wanted));
  if (pairs_.near > 0)
    nearby_ = DeviceBuffer<int32_t>(
        static_cast<size_t>(heads * rows * std::min(tokens, kBorder * wanted)));
  tokens_of_pairs_ =
      DeviceBuffer<int32_t>(static_cast<size_t>(all * rows * (recipe.top + recipe.other)));
  weights_of_pairs_ = floats(all * rows * recipe.top);
  losses_ = DeviceBuffer<double>(static_cast<size_t>(all * rows));
  loss_weights_ = DeviceBuffer<double>(static_cast<size_t>(all * rows));
  result_ = DeviceBuffer<double>(2);
  pairs_.found = found_.data();
  pairs_.nearby = nearby_.data();
  pairs_.tokens = tokens_of_pairs_.data();
  pairs_.weights = weights_of_pairs_.data();
}

void CudaLayerTrainer::take(const float* k, int32_t tokens) {
  k_ = k;
  tokens_ = tokens;
  shape_.stride = key_stride(tokens);
  pairs_.wanted = top_count(recipe_, tokens);
  pairs_.border = std::min(tokens, kBorder * pairs_.wanted);
}

kernels::Pairs CudaLayerTrainer::pairs() const {
  kernels::Pairs pairs = pairs_;
  const int64_t at = int64_t{shape_.first} * shape_.rows;
  pairs.tokens += at * (pairs.top + pairs.other);
  pairs.weights += at * pairs.top;
  return pairs;
}

// Heads that share a KV head lie at the same keys.
HeadVectors CudaLayerTrainer::keys() const {
  const int64_t dim = layout_.head_dim;
  HeadVectors keys;
  keys.data = k_ + layout_.kv_head(shape_.first) * dim;
  keys.row = layout_.kv_heads * dim;
  keys.head = shared() ? 0 : dim;
  keys.heads = shape_.heads;
  keys.rows = tokens_;
  return keys;
}

HeadVectors CudaLayerTrainer::asked() const {
  const int64_t dim = layout_.head_dim;
  HeadVectors queries;
  queries.data = q_ + first_query() * dim;
  queries.row = layout_.query_heads * dim;
  queries.head = dim;
  queries.heads = shape_.heads * shape_.group;
  queries.rows = shape_.rows;
  return queries;
}

void CudaLayerTrainer::draw(const Draws& draws, const float* q, const int32_t* positions) {
  q_ = q;
  shape_.positions = positions;
  const int64_t dim = layout_.head_dim, group = shape_.group;
  const int64_t of_logits = shape_.rows * shape_.stride;
  for (shape_.first = 0; shape_.first < layout_.heads; shape_.first += shape_.heads) {
    const HeadVectors k = keys(), queries = asked();
    kernels::Product logits;
    logits.a = {queries.data, queries.row, 1, group * dim, dim};
    logits.b = {k.data, 1, k.row, k.head, 0};
    logits.c = {logits_.data(), shape_.stride, group * of_logits, of_logits};
    logits.m = shape_.rows;
    logits.n = tokens_;
    logits.k = layout_.head_dim;
    logits.outer = shape_.heads;
    logits.inner = shape_.group;
    kernels::multiply(logits, stream_);
    kernels::attention_mass(shape_, logits_.data(), 1 / std::sqrt(static_cast<float>(dim)),
                            mass_.data(), stream_);
    kernels::draw_pairs(shape_, draws, mass_.data(), pairs(), stream_);
  }
}

void CudaLayerTrainer::differentiate(const float* weights) {
  for (shape_.first = 0; shape_.first < layout_.heads; shape_.first += shape_.heads) {
    encode(weights);
    score();
    spread();
    add_up(weights);
  }
  kernels::mean_loss(losses_.data(), loss_weights_.data(), layout_.heads * shape_.rows,
                     result_.data(), stream_);
}

// Soft codes of keys and queries, the group's summed.
void CudaLayerTrainer::encode(const float* weights) {
  const int64_t codes = int64_t{shape_.heads} * layout_.bits;
  code_->forward(weights + layout_.key(shape_.first), keys(), key_codes_.data());
  kernels::soften(key_codes_.data(), codes * tokens_, recipe_.key_gamma, stream_);
  code_->forward(weights + layout_.query(first_query()), asked(), query_codes_.data());
  kernels::soften(query_codes_.data(), codes * shape_.group * shape_.rows, recipe_.query_gamma,
                  stream_);
  kernels::sum_group(shape_, query_codes_.data(), sums_.data(), stream_);
}

// Scores of all keys, losses of the pairs and their slopes by score.
void CudaLayerTrainer::score() {
  const int64_t bits = layout_.bits, of_scores = shape_.rows * shape_.stride;
  float* scores = scores_.data();
  float* d_scores = scores + shape_.heads * of_scores;
  kernels::Product found;
  found.a = {sums_.data(), bits, 1, shape_.rows * bits, 0};
  found.b = {key_codes_.data(), 1, bits, tokens_ * bits, 0};
  found.c = {scores, shape_.stride, of_scores, 0};
  found.m = shape_.rows;
  found.n = tokens_;
  found.k = layout_.bits;
  found.outer = shape_.heads;
  found.signs_of_b = recipe_.sign_keys;
  kernels::multiply(found, stream_);
  CUDA_CHECK(cudaMemsetAsync(
      d_scores, 0, static_cast<size_t>(shape_.heads * of_scores) * sizeof(float), stream_));
  const int64_t at = int64_t{shape_.first} * shape_.rows;
  kernels::pair_loss(shape_, pairs(), scores, d_scores, losses_.data() + at,
                     loss_weights_.data() + at, stream_);
}

// From slopes by score to slopes by what makes codes, before their softsign.
void CudaLayerTrainer::spread() {
  const int64_t bits = layout_.bits, of_scores = shape_.rows * shape_.stride;
  const int64_t of_keys = tokens_ * bits, of_rows = shape_.rows * bits;
  const float* d_scores = scores_.data() + shape_.heads * of_scores;
  kernels::Product to_keys;
  to_keys.a = {d_scores, 1, shape_.stride, of_scores, 0};
  to_keys.b = {sums_.data(), bits, 1, of_rows, 0};
  to_keys.c = {key_gradient_.data(), bits, of_keys, 0};
  to_keys.m = tokens_;
  to_keys.n = layout_.bits;
  to_keys.k = shape_.rows;
  to_keys.outer = shape_.heads;
  kernels::multiply(to_keys, stream_);
  kernels::slope(key_codes_.data(), key_gradient_.data(), shape_.heads * of_keys, recipe_.key_gamma,
                 stream_);

  kernels::Product to_sums;  // a long sum, in parts
  to_sums.a = {d_scores, shape_.stride, 1, of_scores, 0};
  to_sums.b = {key_codes_.data(), bits, 1, of_keys, 0};
  to_sums.m = shape_.rows;
  to_sums.n = layout_.bits;
  to_sums.k = tokens_;
  to_sums.outer = shape_.heads;
  to_sums.inner = pieces(tokens_);
  to_sums.split = kPiece;
  to_sums.signs_of_b = recipe_.sign_keys;
  to_sums.c = {parts_.data(), bits, to_sums.inner * of_rows, of_rows};
  kernels::multiply(to_sums, stream_);
  kernels::sum_parts(parts_.data(), shape_.heads, to_sums.inner, of_rows, of_rows,
                     sums_gradient_.data(), stream_);
  kernels::slope_group(shape_, query_codes_.data(), sums_gradient_.data(), recipe_.query_gamma,
                       query_gradient_.data(), stream_);
}

// From there to the gradient. Where both sides share parameters, a head's parts of its queries lie
// behind those of its keys, and one sum runs over both.
void CudaLayerTrainer::add_up(const float* weights) {
  const int64_t size = layout_.head_size;
  const int32_t heads = shape_.heads, queries = heads * shape_.group;
  const int32_t of_keys = code_parts(tokens_), of_queries = code_parts(shape_.rows);
  const int64_t key = layout_.key(shape_.first), query = layout_.query(first_query());
  float *key_parts = parts_.data(), *query_parts = key_parts + heads * of_keys * size;
  if (shared()) {
    query_parts = key_parts + of_keys * size;
    const int32_t both = of_keys + of_queries;
    code_->backward(weights + key, keys(), key_gradient_.data(), key_parts, both * size);
    code_->backward(weights + query, asked(), query_gradient_.data(), query_parts, both * size);
    kernels::sum_parts(key_parts, heads, both, size, size, gradient_.data() + key, stream_);
    return;
  }
  code_->backward(weights + key, keys(), key_gradient_.data(), key_parts, of_keys * size);
  kernels::sum_parts(key_parts, heads, of_keys, size, size, gradient_.data() + key, stream_);
  code_->backward(weights + query, asked(), query_gradient_.data(), query_parts, of_queries * size);
  kernels::sum_parts(query_parts, queries, of_queries, size, size, gradient_.data() + query,
                     stream_);
}

void CudaLayerTrainer::update(const AdamWStep& s, float* weights, float* first, float* second) {
  const kernels::Update update = {s.learning_rate, s.beta1,       s.beta2,           s.epsilon,
                                  s.weight_decay,  s.correction1, s.correction2_root};
  kernels::adamw(update, gradient_.data(), result_.data() + 1, layout_.layer_size, weights, first,
                 second, stream_);
}

}  // namespace spotlight::train
