#include "sampling/softmax/softmax.h"

#include <limits>
#include <random>

#include "test/check.h"

namespace spotlight {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

TEST(exp_is_exact_to_a_few_units) {
  for (float x = 0; x > -87.f; x -= 0.00371f) {
    const double expected = std::exp(double{x});
    CHECK(std::fabs(exp_negative(x) - expected) <= 3e-7 * expected);
  }
  CHECK_EQ(exp_negative(0), 1.f);
  CHECK_EQ(exp_negative(-90), 0.f);
  CHECK_EQ(exp_negative(-kInf), 0.f);
}

TEST(max_of_any_length_and_place) {
  CHECK_EQ(max_of(nullptr, 0), -kInf);
  for (int count : {1, 15, 16, 17, 100}) {
    for (int at = 0; at < count; at++) {
      std::vector<float> x(count, -3.f);
      x[at] = 2.f;
      CHECK_EQ(max_of(x.data(), count), 2.f);
    }
  }
}

TEST(log_sum_exp_agrees_with_double) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 6);
  for (int count : {1, 31, 1024, 1025, 49152}) {
    std::vector<float> x(count);
    for (float& value : x) value = normal(random);
    double sum = 0;
    for (const float value : x) sum += std::exp(double{value});
    CHECK(std::fabs(log_sum_exp(x.data(), count) - std::log(sum)) < 1e-6);
  }
}

TEST(masked_tokens_weigh_nothing) {
  std::vector<float> x = {-kInf, 1, -kInf, 1};
  CHECK(std::fabs(log_sum_exp(x.data(), 4) - (1 + std::log(2.0))) < 1e-6);
  std::vector<float> none(5, -kInf);
  CHECK_EQ(log_sum_exp(none.data(), 5), static_cast<double>(-kInf));
}

}  // namespace
}  // namespace spotlight
