#include "sampling/philox/philox.h"

#include "test/check.h"

namespace spotlight {
namespace {

// Known answers of the Random123 distribution (kat_vectors, philox4x32 with 10 rounds).
TEST(known_answers) {
  CHECK((philox4x32_10({0, 0, 0, 0}, 0, 0) ==
         PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  CHECK((philox4x32_10({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, 0xffffffff, 0xffffffff) ==
         PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  CHECK((philox4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0xa4093822, 0x299f31d0) ==
         PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(uniform_is_even_and_every_input_matters) {
  // 64 bins over 1 << 16 positions: chi-square with 63 degrees of freedom is below 103 with
  // probability 0.999.
  constexpr int kBins = 64, kDraws = 1 << 16;
  int counts[kBins] = {};
  for (int position = 0; position < kDraws; position++) {
    const double u = philox_uniform(42, 0, position);
    CHECK(u >= 0 && u < 1);
    counts[static_cast<int>(u * kBins)]++;
  }
  double chi = 0;
  for (const int count : counts) {
    const double expected = static_cast<double>(kDraws) / kBins;
    chi += (count - expected) * (count - expected) / expected;
  }
  CHECK(chi < 103);
  const double base = philox_uniform(1, 2, 3);
  CHECK_EQ(philox_uniform(1, 2, 3), base);
  CHECK(philox_uniform(2, 2, 3) != base);
  CHECK(philox_uniform(1, 3, 3) != base);
  CHECK(philox_uniform(1, 2, 4) != base);
  CHECK(philox_uniform(1 + (uint64_t{1} << 40), 2, 3) != base);
}

}  // namespace
}  // namespace spotlight
