// Scores by popcount against the sum of products they stand for.
#include "attention/spotlight/score/score.h"

#include <random>
#include <vector>

#include "attention/kernels.h"
#include "attention/test_world.h"
#include "test/check.h"

namespace spotlight {
namespace {

TEST(scores_are_sums_of_signed_components) {
  std::mt19937 random(1);
  for (const std::string& isa : available_isas()) {
    select_isa(isa);
    for (int32_t words = 1; words <= 16; words++)
      for (const int32_t stride : {words, words + 1, 4 * words})
        for (const int32_t planes : {1, 3}) {
          std::vector<uint32_t> codes(64 * stride), query((1 + planes) * words);
          for (uint32_t& w : codes) w = random();
          for (uint32_t& w : query) w = random();
          if (planes == 1) std::fill(query.begin() + words, query.end(), ~0u);
          std::vector<int16_t> out(64 + 8, -1);
          kernels().score_block({codes.data(), stride, words, query.data(), planes, out.data()});
          for (int32_t t = 0; t < 64; t++) {
            int32_t score = 0, all = 0;
            for (int32_t j = 0; j < 32 * words; j++) {
              const auto bit = [j](const uint32_t* from) {
                return static_cast<int32_t>(from[j / 32] >> (j % 32) & 1);
              };
              int32_t magnitude = 0;
              for (int32_t p = 0; p < planes; p++)
                magnitude += bit(query.data() + (p + 1) * words) << p;
              const int32_t u = bit(query.data()) ? magnitude : -magnitude;
              score += u * (bit(codes.data() + t * stride) ? 1 : -1);
              all += magnitude;
            }
            CHECK_EQ(2 * out[t] - all, score);
          }
          CHECK_EQ(out[64], -1);
        }
  }
  select_isa("auto");
}

}  // namespace
}  // namespace spotlight
