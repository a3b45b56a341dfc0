// The two softmax kernels and the merge of states against sums in double, for every instruction
// set.
#include <cmath>
#include <random>
#include <vector>

#include "attention/flash/row_list.h"
#include "attention/flash/state.h"
#include "attention/kernels.h"
#include "attention/test_world.h"
#include "test/check.h"

namespace spotlight {
namespace {

constexpr float kNan = __builtin_nanf("");

struct Rows {
  Rows(int32_t count, int32_t dim, uint32_t seed)
      : count(count), dim(dim), k(count * dim), v(count * dim) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (auto* half : {&k, &v})
      for (uint16_t& x : *half) x = float_to_half(normal(random));
  }
  int32_t count, dim;
  std::vector<uint16_t> k, v;
};

// out[j] for one head over `rows` with biases in log2 units; q unscaled.
std::vector<float> expected(const Rows& rows, const std::vector<uint32_t>& named,
                            const std::vector<float>& bias, const float* q) {
  std::vector<double> weights;
  double total = 0;
  for (size_t i = 0; i < named.size(); i++) {
    double logit = 0;
    for (int32_t j = 0; j < rows.dim; j++)
      logit += static_cast<double>(q[j]) * half_to_float(rows.k[named[i] * rows.dim + j]);
    weights.push_back(std::exp(logit / std::sqrt(rows.dim)) *
                      (bias.empty() ? 1.0 : std::exp2(bias[i])));
    total += weights.back();
  }
  std::vector<float> out(rows.dim);
  for (int32_t j = 0; j < rows.dim; j++) {
    double sum = 0;
    for (size_t i = 0; i < named.size(); i++)
      sum += weights[i] * half_to_float(rows.v[named[i] * rows.dim + j]);
    out[j] = static_cast<float>(sum / total);
  }
  return out;
}

TEST(row_lists_match_the_sum) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (const std::string& isa : available_isas()) {
    select_isa(isa);
    for (const int32_t dim : {16, 64, 96, 128, 256})
      for (int32_t group = 1; group <= 16; group += dim == 64 ? 1 : 5)
        for (const int32_t count : {1, 3, 15, 16, 17, 63, 64, 65, 128, 200}) {
          const Rows rows(300, dim, 5);
          std::vector<uint32_t> named(count);
          for (uint32_t& row : named) row = random() % 300;
          std::vector<float> bias;
          if (count % 2) {
            bias.resize(count);
            for (float& b : bias) b = 3 * normal(random);
          }
          std::vector<float> q(group * dim), scaled(group * dim), out(group * dim);
          for (float& x : q) x = 2 * normal(random);
          scale_query(q.data(), group, dim, scaled.data());
          std::vector<float> state(state_floats(group, dim), kNan),
              scratch(rows_scratch(group), kNan);
          reset_state(state.data(), group, dim);
          RowList list(scaled.data(), group, dim, rows.k.data(), rows.v.data(), state.data(),
                       scratch.data());
          for (int32_t i = 0; i < count; i++)
            bias.empty() ? list.add(named[i]) : list.add(named[i], bias[i]);
          list.flush();
          merge_states(state.data(), 0, 1, group, dim, out.data());
          for (int32_t h = 0; h < group; h++)
            CHECK_CLOSE(std::vector<float>(out.begin() + h * dim, out.begin() + (h + 1) * dim),
                        expected(rows, named, bias, q.data() + h * dim), 1e-5, 1e-4);
        }
  }
  select_isa("auto");
}

TEST(extreme_logits_neither_overflow_nor_vanish) {
  for (const std::string& isa : available_isas()) {
    select_isa(isa);
    const Rows rows(130, 64, 9);
    for (const float size : {0.0f, 1e-30f, 300.0f, 1e4f}) {
      std::vector<float> q(64), scaled(64), out(64);
      for (int32_t j = 0; j < 64; j++) q[j] = size * (j % 3 - 1.0f);
      scale_query(q.data(), 1, 64, scaled.data());
      std::vector<float> state(state_floats(1, 64)), scratch(rows_scratch(1));
      reset_state(state.data(), 1, 64);
      RowList list(scaled.data(), 1, 64, rows.k.data(), rows.v.data(), state.data(),
                   scratch.data());
      for (uint32_t i = 0; i < 130; i++) list.add(i);
      list.flush();
      merge_states(state.data(), 0, 1, 1, 64, out.data());
      for (const float x : out) CHECK(std::isfinite(x) && std::fabs(x) < 6);
    }
  }
  select_isa("auto");
}

TEST(merging_ranges_equals_the_whole) {
  const int32_t group = 3, dim = 64;
  const Rows rows(100, dim, 1);
  std::vector<float> q(group * dim, 0.3f), whole(group * dim), merged(group * dim);
  const size_t stride = state_floats(group, dim);
  std::vector<float> states(5 * stride), scratch(rows_scratch(group));
  const auto fill = [&](float* state, uint32_t from, uint32_t to) {
    reset_state(state, group, dim);
    RowList list(q.data(), group, dim, rows.k.data(), rows.v.data(), state, scratch.data());
    for (uint32_t i = from; i < to; i++) list.add(i);
    list.flush();
  };
  const uint32_t edges[] = {0, 0, 7, 70, 100, 100};  // the first and last ranges see nothing
  for (int i = 0; i < 5; i++) fill(states.data() + i * stride, edges[i], edges[i + 1]);
  merge_states(states.data(), stride, 5, group, dim, merged.data());
  fill(states.data(), 0, 100);
  merge_states(states.data(), stride, 1, group, dim, whole.data());
  CHECK_CLOSE(merged, whole, 1e-6, 1e-5);
}

TEST(tiles_match_the_sum_at_every_edge) {
  for (const std::string& isa : available_isas()) {
    select_isa(isa);
    for (const int32_t dim : {16, 64, 96, 128, 256})
      for (const int32_t group : {1, 2, 3, 5, 16})
        for (const auto& span : {std::pair{0, 1},
                                 {0, 64},
                                 {0, 70},
                                 {1, 5},
                                 {63, 1},
                                 {63, 2},
                                 {60, 13},
                                 {128, 64},
                                 {150, 3}}) {
          if (dim != 64 && (group == 5 || span.first == 1)) continue;
          const int32_t position = span.first, tokens = span.second, context = position + tokens;
          // Blocks scattered over an arena of two heads; what no query sees is NaN.
          const int32_t blocks = (context + 63) / 64, heads = 2, head = 1;
          const int64_t block_stride = int64_t{heads} * 64 * dim;
          const Rows rows(context, dim, 77);
          std::vector<int32_t> table(blocks);
          std::vector<uint16_t> k(2 * blocks * block_stride, 0x7e00), v = k;
          for (int32_t b = 0; b < blocks; b++) table[b] = 2 * (blocks - 1 - b);
          for (int32_t t = 0; t < context; t++)
            for (int32_t j = 0; j < dim; j++) {
              const int64_t at = table[t / 64] * block_stride + (head * 64 + t % 64) * dim + j;
              k[at] = rows.k[t * dim + j];
              v[at] = rows.v[t * dim + j];
            }
          std::mt19937 random(2);
          std::normal_distribution<float> normal;
          const int64_t stride = (group + 1) * dim;
          std::vector<float> q(tokens * stride), out(tokens * stride, kNan);
          for (float& x : q) x = normal(random);
          const size_t memory = tile_scratch(tokens * group, dim);
          std::vector<float> scratch(memory + 32, kNan);
          scratch[memory] = 42.0f;
          kernels().attend_tile({q.data(), stride, tokens, group, dim, position,
                                 k.data() + head * 64 * dim, v.data() + head * 64 * dim,
                                 block_stride, table.data(), out.data(), stride, scratch.data()});
          CHECK_EQ(scratch[memory], 42.0f);
          for (const int32_t t : {0, tokens / 2, tokens - 1}) {
            std::vector<uint32_t> seen(position + t + 1);
            std::iota(seen.begin(), seen.end(), 0u);
            for (int32_t h = 0; h < group; h++) {
              const auto at = out.begin() + t * stride + h * dim;
              CHECK_CLOSE(std::vector<float>(at, at + dim),
                          expected(rows, seen, {}, q.data() + t * stride + h * dim), 1e-5, 1e-4);
            }
          }
        }
  }
  select_isa("auto");
}

}  // namespace
}  // namespace spotlight
