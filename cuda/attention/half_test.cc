// Binary16 conversions: exact against arithmetic, and bit for bit alike in every instruction set.
#include <cmath>
#include <cstring>
#include <vector>

#include "attention/kernels.h"
#include "attention/test_world.h"
#include "test/check.h"

namespace spotlight {
namespace {

uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

TEST(every_half_is_what_its_fields_say) {
  for (uint32_t h = 0; h < 0x10000; h++) {
    const int exponent = (h >> 10) & 31, mantissa = h & 1023;
    const float value = half_to_float(static_cast<uint16_t>(h));
    if (exponent == 31) {
      CHECK(mantissa ? std::isnan(value) : std::isinf(value));
      continue;
    }
    const double expected =
        exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    CHECK_EQ(std::fabs(static_cast<double>(value)), expected);
    CHECK_EQ(std::signbit(value), (h & 0x8000) != 0);
    CHECK_EQ(float_to_half(value), h);
  }
}

TEST(rounding_is_to_nearest_ties_to_even) {
  for (uint32_t h = 0; h < 0x7bff; h++) {
    const float low = half_to_float(static_cast<uint16_t>(h));
    const float high = half_to_float(static_cast<uint16_t>(h + 1));
    const float middle = (low + high) / 2;
    CHECK_EQ(float_to_half(middle), h + (h & 1));
    CHECK_EQ(float_to_half(std::nextafter(middle, 0.0f)), h);
    CHECK_EQ(float_to_half(std::nextafter(middle, 1e9f)), h + 1);
  }
  CHECK_EQ(float_to_half(65519.996f), 0x7bff);
  CHECK_EQ(float_to_half(65520.0f), 0x7c00);
}

TEST(instruction_sets_convert_alike) {
  std::vector<float> values;
  for (uint32_t high = 0; high < 0x10000; high++)
    for (const uint32_t low : {0u, 1u, 0x0fffu, 0x1000u, 0x1001u, 0x2fffu, 0x3000u, 0x8000u}) {
      const uint32_t bits = high << 16 | low;
      float x;
      std::memcpy(&x, &bits, sizeof x);
      values.push_back(x);
    }
  const auto count = static_cast<int32_t>(values.size());
  for (const std::string& isa : available_isas()) {
    select_isa(isa);
    std::vector<uint16_t> halves(values.size());
    kernels().store_rows({values.data(), 64, count / 64, 64, halves.data()});
    std::vector<float> wide(values.size()), through(values.size());
    kernels().code.widen(halves.data(), count, wide.data());
    kernels().code.round_through_half(values.data(), count, through.data());
    for (size_t i = 0; i < values.size(); i++) {
      const uint16_t expected = float_to_half(values[i]);
      CHECK_EQ(halves[i], expected);
      CHECK_EQ(bits_of(wide[i]), bits_of(half_to_float(expected)));
      CHECK_EQ(bits_of(through[i]), bits_of(wide[i]));
    }
  }
  select_isa("auto");
}

}  // namespace
}  // namespace spotlight
