#include "attention/selectors/planes.h"

#include <algorithm>
#include <cmath>

#include "sampling/philox/philox.h"

namespace spotlight {

std::vector<float> random_planes(uint64_t seed, int32_t dim, int32_t count) {
  constexpr double kTwoPi = 6.283185307179586;
  std::vector<float> planes(static_cast<size_t>(dim) * count);
  for (size_t i = 0; i < planes.size(); i++) {  // Box and Muller
    const double radius = std::sqrt(-2 * std::log(1 - philox_uniform(seed, 0, i)));
    planes[i] = static_cast<float>(radius * std::cos(kTwoPi * philox_uniform(seed, 1, i)));
  }
  return planes;
}

void project_on_planes(const std::vector<float>& planes, const float* x, int32_t dim, int32_t count,
                       float* z) {
  std::fill_n(z, count, 0.0f);
  for (int32_t i = 0; i < dim; i++) {
    const float* row = planes.data() + static_cast<size_t>(i) * count;
    for (int32_t j = 0; j < count; j++) z[j] += x[i] * row[j];
  }
}

}  // namespace spotlight
