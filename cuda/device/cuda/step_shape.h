// Padding: a step runs on a few sizes only, so that there are few graphs and few shapes of matrix
// product to keep. Decode steps are small and dense in sizes; prompts' chunks go up by 64.
#pragma once

#include <cstdint>
#include <vector>

namespace spotlight {

// The least size a step of `rows` rows runs at: 1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192 ...
constexpr int32_t padded(int32_t rows) {
  if (rows <= 2) return rows;
  if (rows <= 8) return rows <= 4 ? 4 : 8;
  const int32_t step = rows <= 32 ? 8 : rows <= 64 ? 16 : rows <= 128 ? 32 : 64;
  return (rows + step - 1) / step * step;
}

// All of them up to that of `most` rows.
inline std::vector<int32_t> padded_sizes(int32_t most) {
  std::vector<int32_t> sizes;
  for (int32_t rows = 1; rows <= most; rows = sizes.back() + 1) sizes.push_back(padded(rows));
  return sizes;
}

}  // namespace spotlight
