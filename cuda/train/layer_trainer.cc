#include "train/layer_trainer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "error.h"
#include "train/multiply.h"

namespace spotlight::train {
namespace {

constexpr int32_t kKeys = 1024;  // of a piece
constexpr int32_t kQueries = 8;  // of a piece
constexpr int32_t kBits = 16;    // of a piece: one cache line of a code's gradient
constexpr int kLanes = 16;

int32_t pieces(int32_t count, int32_t size) { return (count + size - 1) / size; }

// u = gamma z / (1 + |gamma z|), in place.
void soften(float* z, int64_t count, float gamma) {
  for (int64_t i = 0; i < count; i++) {
    const float x = z[i] * gamma;
    z[i] = x / (1 + std::fabs(x));
  }
}

void take_signs(const float* u, float* signs, int64_t count) {
  for (int64_t i = 0; i < count; i++) signs[i] = u[i] > 0 ? 1.f : -1.f;
}

// dz = du * gamma (1 - |u|)^2, the softsign's slope in terms of its value.
void slope(const float* u, const float* du, float* dz, int64_t count, float gamma) {
  for (int64_t i = 0; i < count; i++) {
    const float rest = 1 - std::fabs(u[i]);
    dz[i] = du[i] * (gamma * rest * rest);
  }
}

float dot(const float* a, const float* b, int32_t count) {
  float lanes[kLanes] = {};
  for (int32_t i = 0; i < count; i += kLanes)
    for (int lane = 0; lane < kLanes; lane++) lanes[lane] += a[i + lane] * b[i + lane];
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  return sum;
}

}  // namespace

LayerTrainer::LayerTrainer(const Recipe& recipe, const ModelConfig& config, Crew& crew)
    : recipe_(recipe),
      layout_(recipe, config),
      crew_(crew),
      code_(make_head_code(recipe, config.head_dim)),
      scratch_(static_cast<size_t>(crew.threads())) {}

int32_t LayerTrainer::chunks() const { return pieces(input_.tokens, kKeys); }

void LayerTrainer::take(const LayerInput& input) {
  taken_ = input_ = input;
  const int64_t stride = key_stride(input.tokens);
  kt_size_ = layout_.head_dim * stride;
  kt_.resize(static_cast<size_t>(layout_.kv_heads * kt_size_));
  crew_.run(layout_.kv_heads * chunks(), [&](int32_t task, int32_t) {
    const int32_t head = task / chunks(), from = task % chunks() * kKeys;
    const int32_t count = std::min(kKeys, input_.tokens - from);
    float* out = kt_.data() + head * kt_size_;
    transpose(input_.k + from * key_row() + int64_t{head} * layout_.head_dim, key_row(), out + from,
              stride, count, layout_.head_dim);
    if (from + count < input_.tokens) return;
    for (int32_t d = 0; d < layout_.head_dim; d++)
      std::fill(out + d * stride + input_.tokens, out + (d + 1) * stride, 0.f);
  });
}

void LayerTrainer::choose(int32_t first, int32_t count) {
  input_.rows = count;
  input_.positions = taken_.positions + first;
  input_.q = taken_.q + first * query_row();
}

void LayerTrainer::each_mass(
    const std::function<void(int32_t, int32_t, const float*, Scratch&)>& body) {
  const int64_t stride = key_stride(input_.tokens);
  const int32_t blocks = pieces(input_.rows, kQueries);
  // Long rows first: a short last piece leaves no thread waiting for long.
  crew_.run(layout_.heads * blocks, [&](int32_t task, int32_t thread) {
    const int32_t head = task % layout_.heads;
    const int32_t from = (blocks - 1 - task / layout_.heads) * kQueries;
    const int32_t count = std::min(kQueries, input_.rows - from);
    Scratch& scratch = scratch_[static_cast<size_t>(thread)];
    scratch.mass.resize(static_cast<size_t>(kQueries * stride));
    attention_mass(
        layout_, input_, head, from, count, key_side(head), scratch.mass.data(),
        scratch.room(int64_t{kQueries} * layout_.queries_a_head * (stride + layout_.head_dim)));
    for (int32_t i = 0; i < count; i++)
      body(head, from + i, scratch.mass.data() + i * stride, scratch);
  });
}

void LayerTrainer::draw(const Draws& draws) {
  pairs_.resize(static_cast<size_t>(layout_.heads) * input_.rows);
  const int32_t wanted = top_count(recipe_, input_.tokens);
  each_mass([&](int32_t head, int32_t row, const float* mass, Scratch& scratch) {
    scratch.drawer.draw(recipe_, draws, head, row, input_.positions[row], mass, wanted,
                        pairs_[static_cast<size_t>(head) * input_.rows + row]);
  });
}

void LayerTrainer::give(std::vector<PairDraw> pairs) {
  pairs_ = std::move(pairs);
  const int32_t wanted = top_count(recipe_, input_.tokens);
  each_mass([&](int32_t head, int32_t row, const float* mass, Scratch& scratch) {
    PairDraw& own = pairs_[static_cast<size_t>(head) * input_.rows + row];
    if (own.top.empty()) return;
    std::vector<int32_t> top(static_cast<size_t>(wanted));
    const float least = scratch.finder.find(mass, input_.positions[row] + 1, wanted, top.data());
    own.other.erase(std::remove_if(own.other.begin(), own.other.end(),
                                   [&](int32_t j) { return mass[j] >= least; }),
                    own.other.end());
    weigh(recipe_.mass_weights, mass, own);
  });
}

double LayerTrainer::loss(const float* weights, float* gradient) {
  encode(weights);
  score();
  PairSums sums;
  for (const PairSums& own : pair_sums_) {
    sums.loss += own.loss;
    sums.weight += own.weight;
  }
  const double whole = std::max(1.0, sums.weight);
  const auto share = static_cast<float>(recipe_.sharpness / whole);
  for (float& value : score_gradient_) value *= share;
  spread();
  differentiate(weights, gradient);
  return sums.loss / whole;
}

// Soft codes of every key, and of every query with their sums over a head's queries.
void LayerTrainer::encode(const float* weights) {
  const int32_t bits = layout_.bits, group = layout_.queries_a_head, rows = input_.rows;
  key_codes_.resize(static_cast<size_t>(layout_.heads) * input_.tokens * bits);
  if (recipe_.sign_keys) key_signs_.resize(key_codes_.size());
  query_codes_.resize(static_cast<size_t>(layout_.query_heads) * rows * bits);
  sums_.resize(static_cast<size_t>(layout_.heads) * rows * bits);
  const int32_t of_keys = layout_.heads * chunks();
  crew_.run(of_keys + layout_.heads, [&](int32_t task, int32_t thread) {
    Scratch& scratch = scratch_[static_cast<size_t>(thread)];
    if (task < of_keys) {
      const int32_t head = task / chunks(), from = task % chunks() * kKeys;
      const int32_t count = std::min(kKeys, input_.tokens - from);
      const int64_t at = (int64_t{head} * input_.tokens + from) * bits;
      float* u = key_codes_.data() + at;
      code_->forward(weights + layout_.key(head), keys_of(head) + from * key_row(), key_row(),
                     count, u, scratch.room(code_->scratch_floats(count)));
      soften(u, int64_t{count} * bits, recipe_.key_gamma);
      if (recipe_.sign_keys) take_signs(u, key_signs_.data() + at, int64_t{count} * bits);
      return;
    }
    const int32_t head = task - of_keys;
    float* sum = sums_.data() + int64_t{head} * rows * bits;
    std::fill_n(sum, int64_t{rows} * bits, 0.f);
    for (int32_t g = 0; g < group; g++) {
      const int32_t query = head * group + g;
      float* u = query_codes_.data() + int64_t{query} * rows * bits;
      code_->forward(weights + layout_.query(query), input_.q + int64_t{query} * layout_.head_dim,
                     query_row(), rows, u, scratch.room(code_->scratch_floats(rows)));
      soften(u, int64_t{rows} * bits, recipe_.query_gamma);
      for (int64_t i = 0; i < int64_t{rows} * bits; i++) sum[i] += u[i];
    }
  });
}

// Scores of the drawn tokens, their losses, and the gradients by score and by summed query code.
void LayerTrainer::score() {
  const int32_t bits = layout_.bits, rows = input_.rows;
  const int64_t drawn = recipe_.top + recipe_.other;
  score_gradient_.assign(static_cast<size_t>(layout_.heads * rows * drawn), 0.f);
  sums_gradient_.resize(sums_.size());
  pair_sums_.assign(static_cast<size_t>(layout_.heads) * rows, {});
  const int32_t blocks = pieces(rows, kQueries);
  crew_.run(layout_.heads * blocks, [&](int32_t task, int32_t thread) {
    const int32_t head = task / blocks, from = task % blocks * kQueries;
    const float* codes = scored(head);
    float* scores = scratch_[static_cast<size_t>(thread)].room(drawn);
    for (int32_t row = from; row < std::min(rows, from + kQueries); row++) {
      const int64_t at = int64_t{head} * rows + row;
      const PairDraw& pairs = pairs_[static_cast<size_t>(at)];
      const float* sum = sums_.data() + at * bits;
      float* d_sum = sums_gradient_.data() + at * bits;
      const auto tops = static_cast<int32_t>(pairs.top.size());
      const auto others = static_cast<int32_t>(pairs.other.size());
      for (int32_t i = 0; i < tops; i++)
        scores[i] = dot(sum, codes + int64_t{pairs.top[i]} * bits, bits);
      for (int32_t i = 0; i < others; i++)
        scores[tops + i] = dot(sum, codes + int64_t{pairs.other[i]} * bits, bits);
      for (int32_t i = 0; i < tops + others; i++) scores[i] *= recipe_.sharpness;
      float* d_score = score_gradient_.data() + at * drawn;
      pair_sums_[static_cast<size_t>(at)] = pair_loss(
          scores, pairs.weight.data(), tops, scores + tops, others, d_score, d_score + recipe_.top);
      std::fill_n(d_sum, bits, 0.f);
    }
  });
}

// From gradients by score to gradients by soft code: a piece is one head and 16 bits of its codes,
// so no two pieces add to the same place.
void LayerTrainer::spread() {
  const int32_t bits = layout_.bits, rows = input_.rows;
  const int64_t drawn = recipe_.top + recipe_.other;
  key_gradient_.resize(key_codes_.size());
  const int32_t lines = bits / kBits;
  crew_.run(layout_.heads * lines, [&](int32_t task, int32_t) {
    const int32_t head = task / lines, bit = task % lines * kBits;
    const int64_t first = int64_t{head} * input_.tokens * bits + bit;
    const float* codes = scored(head) + bit;
    float* gradient = key_gradient_.data() + first;
    for (int32_t j = 0; j < input_.tokens; j++)
      std::fill_n(gradient + int64_t{j} * bits, kBits, 0.f);
    for (int32_t row = 0; row < rows; row++) {
      const int64_t at = int64_t{head} * rows + row;
      const PairDraw& pairs = pairs_[static_cast<size_t>(at)];
      const float* sum = sums_.data() + at * bits + bit;
      float d_sum[kBits] = {};
      const auto add = [&](const std::vector<int32_t>& tokens, const float* d_score) {
        for (size_t i = 0; i < tokens.size(); i++) {
          const int64_t token = int64_t{tokens[i]} * bits;
          for (int b = 0; b < kBits; b++) {
            gradient[token + b] += d_score[i] * sum[b];
            d_sum[b] += d_score[i] * codes[token + b];
          }
        }
      };
      const float* d_score = score_gradient_.data() + at * drawn;
      add(pairs.top, d_score);
      add(pairs.other, d_score + recipe_.top);
      std::copy_n(d_sum, kBits, sums_gradient_.data() + at * bits + bit);
    }
  });
}

void LayerTrainer::differentiate(const float* weights, float* gradient) {
  const int32_t bits = layout_.bits, group = layout_.queries_a_head, rows = input_.rows;
  const int32_t of_keys = layout_.heads * chunks();
  const bool shared = layout_.encoder == CodeKind::kMlp;
  const int64_t size = layout_.head_size;
  partial_.resize(static_cast<size_t>((of_keys + layout_.query_heads) * size));
  crew_.run(of_keys + layout_.query_heads, [&](int32_t task, int32_t thread) {
    Scratch& scratch = scratch_[static_cast<size_t>(thread)];
    float* out = partial_.data() + task * size;
    if (task < of_keys) {
      const int32_t head = task / chunks(), from = task % chunks() * kKeys;
      const int32_t count = std::min(kKeys, input_.tokens - from);
      const int64_t at = (int64_t{head} * input_.tokens + from) * bits;
      float* dz = key_gradient_.data() + at;
      slope(key_codes_.data() + at, dz, dz, int64_t{count} * bits, recipe_.key_gamma);
      code_->backward(weights + layout_.key(head), keys_of(head) + from * key_row(), key_row(),
                      count, dz, out, scratch.room(code_->scratch_floats(count)));
      return;
    }
    const int32_t query = task - of_keys;
    const int64_t values = int64_t{rows} * bits, needed = code_->scratch_floats(rows);
    float* room = scratch.room(values + needed);
    slope(query_codes_.data() + query * values, sums_gradient_.data() + query / group * values,
          room + needed, values, recipe_.query_gamma);
    code_->backward(weights + layout_.query(query), input_.q + int64_t{query} * layout_.head_dim,
                    query_row(), rows, room + needed, out, room);
  });
  crew_.run(layout_.heads, [&](int32_t head, int32_t) {
    const auto add = [&](const float* from, float* to, bool first) {
      for (int64_t i = 0; i < size; i++) to[i] = first ? from[i] : to[i] + from[i];
    };
    float* key = gradient + layout_.key(head);
    for (int32_t c = 0; c < chunks(); c++)
      add(partial_.data() + (int64_t{head} * chunks() + c) * size, key, c == 0);
    for (int32_t g = 0; g < group; g++) {
      const int32_t query = head * group + g;
      add(partial_.data() + (of_keys + int64_t{query}) * size, gradient + layout_.query(query),
          !shared);
    }
  });
}

LayerTrainer::Quality LayerTrainer::measure(const float* weights) {
  encode(weights);
  const int32_t bits = layout_.bits, group = layout_.queries_a_head, rows = input_.rows;
  // Codes as stored and as asked with: key_codes_ become signs, sums_ 4-bit integers (linear-asym)
  // or signs (mlp). The softsign keeps a value's sign.
  for (float& u : key_codes_) u = u > 0 ? 1.f : -1.f;
  const bool binary = layout_.encoder == CodeKind::kMlp;
  for (int64_t at = 0; at < int64_t{layout_.heads} * rows; at++) {
    float* sum = sums_.data() + at * bits;
    float most = 1e-6f;
    for (int32_t b = 0; b < bits; b++) most = std::max(most, std::fabs(sum[b]));
    for (int32_t b = 0; b < bits; b++)
      sum[b] = binary ? (sum[b] > 0 ? 1.f : -1.f) : std::nearbyint(sum[b] * (7 / most));
  }
  std::vector<Quality> found(static_cast<size_t>(layout_.heads) * rows);
  const int32_t wanted = top_count(recipe_, input_.tokens);
  // Scores are whole numbers; this makes them positive, as the finder wants them.
  const float offset = 8.f * static_cast<float>(bits);
  each_mass([&](int32_t head, int32_t row, const float* mass, Scratch& scratch) {
    const int32_t seen = input_.positions[row] + 1, count = std::min(seen, wanted);
    const int64_t at = int64_t{head} * rows + row;
    const float* codes = key_codes_.data() + int64_t{head} * input_.tokens * bits;
    float* scores = scratch.room(seen);
    for (int32_t j = 0; j < seen; j++)
      scores[j] = offset + dot(sums_.data() + at * bits, codes + int64_t{j} * bits, bits);
    std::vector<int32_t> chosen(static_cast<size_t>(count)), best(chosen.size());
    scratch.finder.find(scores, seen, count, chosen.data());
    scratch.finder.find(mass, seen, count, best.data());
    int32_t both = 0;
    double held = 0;
    for (size_t i = 0, j = 0; i < chosen.size(); i++) {
      held += mass[chosen[i]];
      while (j < best.size() && best[j] < chosen[i]) j++;
      if (j < best.size() && best[j] == chosen[i]) both++;
    }
    found[static_cast<size_t>(at)] = {static_cast<double>(both) / (2 * count - both), held / group};
  });
  Quality mean;
  for (const Quality& own : found) {
    mean.iou += own.iou / static_cast<double>(found.size());
    mean.mass += own.mass / static_cast<double>(found.size());
  }
  return mean;
}

}  // namespace spotlight::train
