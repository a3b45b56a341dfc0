#include "model/rope.h"

#include <complex>

#include "test/check.h"

namespace spotlight {
namespace {

std::vector<float> as_floats(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}

TEST(plain_and_linear_frequencies) {
  RopeConfig rope;
  rope.theta = 10000.f;
  CHECK_CLOSE(as_floats(rope_frequencies(rope, 8).inverse),
              (std::vector<float>{1.f, 0.1f, 0.01f, 0.001f}), 1e-9, 1e-6);
  rope.scaling = RopeScaling::kLinear;
  rope.factor = 4;
  CHECK_CLOSE(as_floats(rope_frequencies(rope, 8).inverse),
              (std::vector<float>{.25f, .025f, .0025f, .00025f}), 1e-9, 1e-6);
}

// Values of transformers 4.x, _compute_llama3_parameters with Llama 3.1's config (theta 500000,
// head_dim 128).
TEST(llama3_keeps_short_waves_and_slows_long_ones) {
  RopeConfig rope;
  rope.theta = 500000.f;
  rope.scaling = RopeScaling::kLlama3;
  rope.factor = 8;
  rope.low_freq_factor = 1;
  rope.high_freq_factor = 4;
  rope.original_max_position = 8192;
  const std::vector<double> inverse = rope_frequencies(rope, 128).inverse;
  for (const int i : {0, 10, 28})
    CHECK(std::fabs(inverse[i] - std::pow(500000.0, -i / 64.0)) < 1e-12);
  for (const int i : {36, 50, 63})
    CHECK(std::fabs(inverse[i] - std::pow(500000.0, -i / 64.0) / 8) < 1e-12);
  for (const int i : {30, 32, 34}) {
    const double plain = std::pow(500000.0, -i / 64.0);
    CHECK(inverse[i] < plain && inverse[i] > plain / 8);
  }
  // The blend written out for one dimension.
  const double plain = std::pow(500000.0, -32 / 64.0), wave = 2 * 3.14159265358979323846 / plain;
  const double smooth = (8192 / wave - 1) / (4.0 - 1);
  CHECK(std::fabs(inverse[32] - ((1 - smooth) * plain / 8 + smooth * plain)) < 1e-12);
}

TEST(yarn_ramps_between_its_betas_and_scales_the_magnitude) {
  RopeConfig rope;
  rope.theta = 1000000.f;
  rope.scaling = RopeScaling::kYarn;
  rope.factor = 4;
  rope.original_max_position = 32768;
  const RopeFrequencies frequencies = rope_frequencies(rope, 128);
  CHECK(std::fabs(frequencies.magnitude - (0.1 * std::log(4.0) + 1)) < 1e-6);
  const auto plain = [](int i) { return std::pow(1e6, -i / 64.0); };
  // find_correction_range(32, 1, 128, 1e6, 32768) of transformers is (23, 40).
  for (const int i : {0, 23}) CHECK(std::fabs(frequencies.inverse[i] - plain(i)) < 1e-12);
  for (const int i : {40, 63}) CHECK(std::fabs(frequencies.inverse[i] - plain(i) / 4) < 1e-12);
  const double ramp = (30 - 23) / 17.0;
  CHECK(std::fabs(frequencies.inverse[30] - (plain(30) / 4 * ramp + plain(30) * (1 - ramp))) <
        1e-12);
  rope.attention_factor = 1.25f;
  CHECK_EQ(rope_frequencies(rope, 128).magnitude, 1.25f);
}

TEST(freq_factors_divide_and_their_number_is_checked) {
  RopeConfig rope;
  rope.scaling = RopeScaling::kLlama3;
  rope.freq_factors = {1, 2, 4, 8};
  CHECK_CLOSE(as_floats(rope_frequencies(rope, 8).inverse),
              (std::vector<float>{1.f, .05f, .0025f, .000125f}), 1e-9, 1e-6);
  rope.freq_factors = {1};
  CHECK_THROWS(rope_frequencies(rope, 8), kModelUnsupported, "freq_factors");
}

TEST(rotation_is_complex_multiplication_of_half_split_pairs) {
  RopeConfig rope;
  const RopeFrequencies frequencies = rope_frequencies(rope, 6);
  const std::vector<int32_t> positions = {0, 5, 8191};
  std::vector<float> table(3 * 6);
  rope_table(frequencies, positions.data(), 3, table.data());
  for (int t = 0; t < 3; t++) {
    std::vector<float> x = {1, 2, 3, 4, 5, 6, -1, 0.5f, 2, 0, 1, -3};
    const std::vector<float> before = x;
    rope_rotate(x.data(), 2, 6, table.data() + t * 6);
    for (int head = 0; head < 2; head++) {
      for (int i = 0; i < 3; i++) {
        const std::complex<double> turned =
            std::complex<double>(before[head * 6 + i], before[head * 6 + 3 + i]) *
            std::polar(1.0, positions[t] * std::pow(10000.0, -2.0 * i / 6));
        CHECK(std::fabs(x[head * 6 + i] - turned.real()) < 1e-5);
        CHECK(std::fabs(x[head * 6 + 3 + i] - turned.imag()) < 1e-5);
      }
    }
  }
}

}  // namespace
}  // namespace spotlight
