// Random hyperplanes for locality-sensitive hashing: normals whose components are Gaussian, a pure
// function of a seed, so that an evaluation gives the same figures on every machine.
#pragma once

#include <cstdint>
#include <vector>

namespace spotlight {

// [dim, count], row-major.
std::vector<float> random_planes(uint64_t seed, int32_t dim, int32_t count);

// z[j] = x . plane j, summed in the order of x's components.
void project_on_planes(const std::vector<float>& planes, const float* x, int32_t dim, int32_t count,
                       float* z);

}  // namespace spotlight
