#include "train/draws.h"

#include <cmath>

namespace spotlight::train {

float normal(const Draws& draws, uint32_t head, uint32_t n) {
  // Box-Muller: row 0 is the radius, row 1 the angle. Half a unit keeps the logarithm finite.
  const double u = (draws.bits(head, 0, n) + 0.5) * 0x1p-32;
  const double v = (draws.bits(head, 1, n) + 0.5) * 0x1p-32;
  constexpr double kTwoPi = 6.28318530717958647692;
  return static_cast<float>(std::sqrt(-2 * std::log(u)) * std::cos(kTwoPi * v));
}

void draw_rows(const Draws& draws, int32_t first, int32_t tokens, int32_t count,
               int32_t* positions) {
  const int64_t span = tokens - first;
  for (int32_t i = 0; i < count; i++) {
    const auto from = static_cast<int32_t>(first + span * i / count);
    const auto to = static_cast<int32_t>(first + span * (i + 1) / count);
    const int32_t width = to > from ? to - from : 1;
    positions[i] = from + draws.below(width, 0, 0, static_cast<uint32_t>(i));
  }
}

}  // namespace spotlight::train
