// Weights exp(x - max) of a whole vocabulary and their sums, in an order of additions that does not
// depend on the vector width the compiler picked: the same logits give the same token on every
// instruction set.
#pragma once

#include <cstdint>

namespace spotlight {

// exp(x) for x <= 0 within 2 units in the last place; below -87 it is 0. NaN gives NaN.
float exp_negative(float x);

// The largest of x[0..count); -inf for none. NaN is passed over.
float max_of(const float* x, int32_t count);

bool has_nan(const float* x, int32_t count);

// weights[i] = exp(x[i] - max).
void exp_weights(const float* x, int32_t count, float max, float* weights);

// Sum in fixed order: 16 partial sums a run of 1024, runs added in double.
double sum_of(const float* weights, int32_t count);

// ln of the sum of exp(x).
double log_sum_exp(const float* x, int32_t count);

}  // namespace spotlight
