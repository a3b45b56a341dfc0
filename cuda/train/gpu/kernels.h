// The trainer's kernels: what layer_trainer.cc does on a CPU, over the same layouts, in float32.
// Sums run in fixed orders (no floating-point atomics), so that a resumed training gives the same
// bits. All launches are asynchronous on `stream`; pointers are the device's.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "train/draws.h"

namespace spotlight::train::kernels {

// Element (i, l) of batch o is data[o * outer + h * inner + i * row + l * column], h counting
// within a batch.
struct Operand {
  const float* data = nullptr;
  int64_t row = 0, column = 1, outer = 0, inner = 0;
};
struct Result {
  float* data = nullptr;
  int64_t row = 0, outer = 0, inner = 0;
};
struct Product {
  Operand a, b;  // a: [m, k], b: [k, n]
  Result c;      // [m, n]
  int32_t m = 0, n = 0, k = 0;
  int32_t outer = 1, inner = 1;
  // Above 0: h counts pieces of that many k, whose sums c keeps apart.
  int32_t split = 0;
  bool signs_of_b = false;  // 1 for an element above 0, -1 for any other
};
void multiply(const Product& product, cudaStream_t stream);

// out[o, i] = sum over p < parts of in[o, p, i], in the order of p.
void sum_parts(const float* in, int32_t outer, int32_t parts, int64_t size, int64_t out_outer,
               float* out, cudaStream_t stream);

// Keys of tokens 0 to tokens - 1, which lie in blocks 0, 1, ... of a cache [blocks, kv_heads, 64,
// head_dim] of bf16, as float32 [tokens, kv_heads, head_dim].
void gather_keys(const void* cache, int32_t tokens, int32_t kv_heads, int32_t head_dim, float* out,
                 cudaStream_t stream);
// out[i] = q[positions[i] - from] for the i of `rows` whose position lies in [from, from + tokens).
// q: bf16, rows stride apart; out: float32 [rows, width].
void gather_queries(const void* q, int64_t stride, int32_t width, int32_t from, int32_t tokens,
                    const int32_t* positions, int32_t rows, float* out, cudaStream_t stream);

struct Shape {
  int32_t heads = 0, group = 1;  // that score together; query heads summed in each
  int32_t first = 0;             // number of the first of the heads, by which pairs are drawn
  int32_t rows = 0, bits = 0;
  int64_t stride = 0;                  // floats of a row over tokens
  const int32_t* positions = nullptr;  // [rows]
};
// mass[s, r, j] = sum over the group of softmax(logits[s * group + g, r] * scale), j <=
// positions[r].
void attention_mass(const Shape& shape, const float* logits, float scale, float* mass,
                    cudaStream_t stream);

// Pairs of every head and row; as PairDrawer has them.
struct Pairs {
  int32_t top = 0, other = 0, near = 0;  // entries a query; of the others from the border
  int32_t wanted = 0, border = 0;        // tokens to be found; ranks that count as near
  bool mass_weights = true;
  float sharpness = 1;        // what scores are multiplied by
  int32_t* found = nullptr;   // [heads, rows, wanted] scratch
  int32_t* nearby = nullptr;  // [heads, rows, border] scratch; null when near is 0
  int32_t* tokens = nullptr;  // [heads, rows, top + other]; -1: none
  float* weights = nullptr;   // [heads, rows, top]
};
void draw_pairs(const Shape& shape, const Draws& draws, const float* mass, const Pairs& pairs,
                cudaStream_t stream);

// u = gamma z / (1 + |gamma z|), in place.
void soften(float* z, int64_t count, float gamma, cudaStream_t stream);
// sums[s, r, b] = sum over the group of u[s * group + g, r, b].
void sum_group(const Shape& shape, const float* u, float* sums, cudaStream_t stream);

// Loss and its slopes by score, into d_scores (zero where no pair is, which the caller sees to).
// losses, weights: [heads * rows] sums.
void pair_loss(const Shape& shape, const Pairs& pairs, const float* scores, float* d_scores,
               double* losses, double* weights, cudaStream_t stream);
// result[0] = mean loss, result[1] = 1 / sum of weights.
void mean_loss(const double* losses, const double* weights, int32_t count, double* result,
               cudaStream_t stream);

// du *= gamma (1 - |u|)^2, in place. du holds `count` values, u too.
void slope(const float* u, float* du, int64_t count, float gamma, cudaStream_t stream);
// dz[s * group + g, r, b] = d_sums[s, r, b] * gamma (1 - |u[s * group + g, r, b]|)^2.
void slope_group(const Shape& shape, const float* u, const float* d_sums, float gamma, float* dz,
                 cudaStream_t stream);

struct Update {
  float learning_rate, beta1, beta2, epsilon, weight_decay, correction1, correction2_root;
};
// gradient is scaled by share[0] first.
void adamw(const Update& update, const float* gradient, const double* share, int64_t count,
           float* weights, float* first, float* second, cudaStream_t stream);

}  // namespace spotlight::train::kernels
