#include "attention/crossover.h"

#include "test/check.h"

namespace spotlight {
namespace {

TEST(a_cpu_has_one_for_all_models) {
  CHECK_EQ(default_crossover("cpu", "avx512", 192), 1024);
  CHECK_EQ(default_crossover("cpu", "portable", 4096), 1024);
}

TEST(a_gpu_has_one_number_of_bytes_in_whole_blocks) {
  const int32_t at = default_crossover("cuda", "sm_90", 512);
  CHECK(at > 0);
  for (const int32_t width : {64, 192, 512, 1000, 1024, 2048}) {
    const int32_t tokens = default_crossover("cuda", "sm_90", width);
    CHECK_EQ(tokens % 64, 0);
    const int64_t difference = int64_t{tokens} * width - int64_t{at} * 512;
    CHECK(difference > -64 * 512 - width && difference < 64 * int64_t{width});
  }
}

TEST(a_gpu_that_was_not_measured_is_dense_at_least_as_long_as_any_that_was) {
  CHECK(default_crossover("cuda", "sm_80", 512) >= default_crossover("cuda", "sm_90", 512));
  CHECK(default_crossover("cuda", "sm_120", 1024) >= default_crossover("cuda", "sm_90", 1024));
}

}  // namespace
}  // namespace spotlight
