// The arithmetic of codes, bit for bit against loops that say what it is.
#include "attention/spotlight/encode/project.h"

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "attention/kernels.h"
#include "attention/spotlight/encode/encoder.h"
#include "attention/test_world.h"
#include "test/check.h"

namespace spotlight {
namespace {

std::vector<float> normal(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution;
  std::vector<float> values(count);
  for (float& x : values) x = distribution(random);
  return values;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST(projections_are_alike_to_the_last_bit) {
  for (const int32_t dim : {16, 64, 96, 128})
    for (const int32_t columns : {16, 32, 64, 128, 144})
      for (const int32_t rows : {1, 2, 5, 6, 7, 13, 64}) {
        const int32_t stride = dim + 16, wide = columns + 32;
        const std::vector<float> x = normal(rows * stride, 1), bias = normal(columns, 3);
        std::vector<float> weight = normal(dim * wide, 2), residual = normal(rows * wide, 4);
        for (const bool bf16 : {false, true}) {
          if (bf16)
            for (float& w : weight) {
              uint32_t bits;
              std::memcpy(&bits, &w, sizeof bits);
              bits &= 0xffff0000u;
              std::memcpy(&w, &bits, sizeof bits);
            }
          const WeightMatrix matrix(weight);
          CHECK_EQ(matrix.bf16(), bf16);
          for (const Activation activation :
               {Activation::kNone, Activation::kSoftsign, Activation::kSilu}) {
            const bool all = activation == Activation::kSilu;
            std::vector<std::vector<float>> results;
            for (const std::string& isa : available_isas()) {
              select_isa(isa);
              std::vector<float> z(rows * wide, 0.25f);
              ProjectOp op{};
              op.x = x.data();
              op.x_stride = stride;
              op.rows = rows;
              op.dim = dim;
              op.weight = matrix.at(0);
              op.weight_stride = wide;
              op.bf16 = matrix.bf16();
              op.columns = columns;
              op.bias = all ? bias.data() : nullptr;
              op.residual = all ? residual.data() : nullptr;
              op.residual_stride = wide;
              op.activation = activation;
              op.accumulate = activation == Activation::kSoftsign;
              op.z = z.data();
              op.z_stride = wide;
              kernels().code.project(op);
              results.push_back(z);
            }
            std::vector<float> expected(rows * wide, 0.25f), tolerant;
            for (int32_t r = 0; r < rows; r++)
              for (int32_t c = 0; c < columns; c++) {
                float sum = 0;
                for (int32_t i = 0; i < dim; i++) {
                  const float product = x[r * stride + i] * weight[i * wide + c];
                  sum += product;
                }
                float& to = expected[r * wide + c];
                if (activation == Activation::kNone) to = sum;
                if (activation == Activation::kSoftsign) to += sum / (1.0f + std::fabs(sum));
                if (all) {
                  const float s = sum + bias[c];
                  to = s / (1.0f + std::exp(-s)) + residual[r * wide + c];
                }
              }
            if (!all) CHECK(same_bits(results[0], expected));
            CHECK_CLOSE(results[0], expected, 1e-6, 1e-5);
            for (const auto& result : results) CHECK(same_bits(result, results[0]));
          }
        }
      }
  select_isa("auto");
}

TEST(a_bit_is_set_above_zero_only) {
  for (const std::string& isa : available_isas()) {
    select_isa(isa);
    std::vector<float> z(96, -1.0f);
    z[0] = 1e-38f;
    z[31] = 2.0f;
    z[32] = 0.0f;
    z[33] = -0.0f;
    z[34] = 1e-45f;
    z[95] = 1e30f;
    uint32_t words[3];
    kernels().code.pack_signs(z.data(), 96, words);
    CHECK_EQ(words[0], 0x80000001u);
    CHECK_EQ(words[1], 4u);
    CHECK_EQ(words[2], 0x80000000u);
  }
  select_isa("auto");
}

TEST(queries_become_four_bit_integers_half_to_even) {
  for (const std::string& isa : available_isas()) {
    select_isa(isa);
    for (uint32_t seed = 0; seed < 50; seed++) {
      const int32_t bits = 32 * (1 + seed % 8), words = bits / 32;
      std::vector<float> u = normal(bits, seed);
      if (seed % 5 == 0) std::fill(u.begin(), u.end(), 0.0f);
      if (seed % 5 == 1)  // exact ties: 7 * i / 14
        for (int32_t i = 0; i < bits; i++) u[i] = static_cast<float>(i % 29 - 14);
      if (seed % 5 == 2)
        for (float& x : u) x *= 1e-8f;  // below the clamp
      float largest = 1e-6f;
      for (const float x : u) largest = std::max(largest, std::fabs(x));
      std::vector<uint32_t> planes(4 * words, 0xffffffffu);
      kernels().code.quantise(u.data(), bits, planes.data());
      for (int32_t i = 0; i < bits; i++) {
        const auto expected = static_cast<int32_t>(std::nearbyint(u[i] / largest * 7.0f));
        const auto bit = [&](int32_t plane) {
          return static_cast<int32_t>(planes[plane * words + i / 32] >> (i % 32) & 1);
        };
        const int32_t magnitude = bit(1) + 2 * bit(2) + 4 * bit(3);
        CHECK_EQ(bit(0) ? magnitude : -magnitude, expected);
      }
    }
  }
  select_isa("auto");
}

}  // namespace
}  // namespace spotlight
