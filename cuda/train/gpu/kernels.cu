// What training takes on a GPU but for its truth (truth.cu): products, what the model made as
// floats, codes and their slopes, the loss, AdamW. Sums run in a fixed order, so that a training
// ends in the same bits every time.
#include <cuda_bf16.h>

#include "device/cuda/runtime/cuda_error.h"
#include "train/gpu/kernels.h"

namespace spotlight::train::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 64, kDepth = 16, kPad = 4;
constexpr int kBlock = 64;        // tokens of a cache block
constexpr int kMostPairs = 2048;  // top + other, each at most 1024

unsigned blocks_for(int64_t count) {
  return static_cast<unsigned>((count + kThreads - 1) / kThreads);
}

// --- Products

__global__ void __launch_bounds__(kThreads) multiply_kernel(Product p) {
  __shared__ __align__(16) float left[kDepth][kTile + kPad];
  __shared__ __align__(16) float right[kDepth][kTile + kPad];
  const int t = threadIdx.x;
  const int outer = blockIdx.z / p.inner, inner = blockIdx.z % p.inner;
  const int i0 = blockIdx.x * kTile, j0 = blockIdx.y * kTile;
  const int64_t shift = p.split > 0 ? 0 : inner;
  const float* a = p.a.data + outer * p.a.outer + shift * p.a.inner;
  const float* b = p.b.data + outer * p.b.outer + shift * p.b.inner;
  const int k0 = p.split > 0 ? inner * p.split : 0;
  const int k1 = p.split > 0 ? min(p.k, k0 + p.split) : p.k;
  // Threads walk along whichever direction lies contiguous in memory.
  const bool a_along_k = p.a.column == 1, b_along_n = p.b.column == 1;
  const int tx = t % 16, ty = t / 16;
  float sum[4][4] = {};
  for (int k = k0; k < k1; k += kDepth) {
#pragma unroll
    for (int r = 0; r < 4; r++) {
      const int al = a_along_k ? t % kDepth : t / kTile + 4 * r;
      const int ai = a_along_k ? t / kDepth + 16 * r : t % kTile;
      left[al][ai] = i0 + ai < p.m && k + al < k1
                         ? a[(i0 + ai) * p.a.row + static_cast<int64_t>(k + al) * p.a.column]
                         : 0.f;
      const int bl = b_along_n ? t / kTile + 4 * r : t % kDepth;
      const int bj = b_along_n ? t % kTile : t / kDepth + 16 * r;
      float value = 0;
      if (j0 + bj < p.n && k + bl < k1) {
        value = b[static_cast<int64_t>(k + bl) * p.b.row + (j0 + bj) * p.b.column];
        if (p.signs_of_b) value = value > 0 ? 1.f : -1.f;
      }
      right[bl][bj] = value;
    }
    __syncthreads();
#pragma unroll
    for (int l = 0; l < kDepth; l++) {
      const float4 x = *reinterpret_cast<const float4*>(&left[l][ty * 4]);
      const float4 y = *reinterpret_cast<const float4*>(&right[l][tx * 4]);
      const float xs[4] = {x.x, x.y, x.z, x.w}, ys[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
      for (int r = 0; r < 4; r++)
#pragma unroll
        for (int c = 0; c < 4; c++) sum[r][c] += xs[r] * ys[c];
    }
    __syncthreads();
  }
  float* out = p.c.data + outer * p.c.outer + inner * p.c.inner;
#pragma unroll
  for (int r = 0; r < 4; r++)
#pragma unroll
    for (int c = 0; c < 4; c++) {
      const int i = i0 + ty * 4 + r, j = j0 + tx * 4 + c;
      if (i < p.m && j < p.n) out[i * p.c.row + j] = sum[r][c];
    }
}

__global__ void sum_parts_kernel(const float* in, int32_t parts, int64_t size, int64_t out_outer,
                                 float* out) {
  const int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (i >= size) return;
  const float* from = in + blockIdx.y * parts * size + i;
  float sum = 0;
  for (int32_t p = 0; p < parts; p++) sum += from[p * size];
  out[blockIdx.y * out_outer + i] = sum;
}

// --- What the model made

__global__ void gather_keys_kernel(const __nv_bfloat16* cache, int32_t kv_heads, int32_t head_dim,
                                   float* out) {
  const int64_t token = blockIdx.x;
  const int32_t width = kv_heads * head_dim;
  for (int32_t c = threadIdx.x; c < width; c += blockDim.x) {
    const int32_t head = c / head_dim, d = c % head_dim;
    const int64_t at =
        ((token / kBlock * kv_heads + head) * kBlock + token % kBlock) * head_dim + d;
    out[token * width + c] = __bfloat162float(cache[at]);
  }
}

__global__ void gather_queries_kernel(const __nv_bfloat16* q, int64_t stride, int32_t width,
                                      int32_t from, int32_t tokens, const int32_t* positions,
                                      float* out) {
  const int64_t row = blockIdx.x;
  const int32_t token = positions[row] - from;
  if (token < 0 || token >= tokens) return;
  for (int32_t c = threadIdx.x; c < width; c += blockDim.x)
    out[row * width + c] = __bfloat162float(q[token * stride + c]);
}

// --- Codes

__global__ void soften_kernel(float* z, int64_t count, float gamma) {
  const int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (i >= count) return;
  const float x = z[i] * gamma;
  z[i] = x / (1 + fabsf(x));
}

__global__ void sum_group_kernel(int32_t group, int64_t size, const float* u, float* sums) {
  const int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (i >= size) return;
  float sum = 0;
  for (int g = 0; g < group; g++) sum += u[(int64_t{blockIdx.y} * group + g) * size + i];
  sums[blockIdx.y * size + i] = sum;
}

__global__ void slope_kernel(const float* u, float* du, int64_t count, float gamma) {
  const int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (i >= count) return;
  const float rest = 1 - fabsf(u[i]);
  du[i] *= gamma * rest * rest;
}

__global__ void slope_group_kernel(int32_t group, int64_t size, const float* u, const float* d_sums,
                                   float gamma, float* dz) {
  const int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (i >= size) return;
  const int64_t at = blockIdx.y * size + i;
  const float rest = 1 - fabsf(u[at]);
  dz[at] = d_sums[blockIdx.y / group * size + i] * (gamma * rest * rest);
}

// --- Loss

__global__ void __launch_bounds__(kThreads)
    pair_loss_kernel(Shape shape, Pairs pairs, const float* scores, float* d_scores, double* losses,
                     double* weight_sums) {
  __shared__ float score[kMostPairs], gradient[kMostPairs];
  __shared__ int32_t token[kMostPairs];
  __shared__ float weight[kMostPairs / 2];
  __shared__ double partial[kThreads];
  const int t = threadIdx.x, row = blockIdx.x, head = blockIdx.y;
  const int64_t at = int64_t{head} * shape.rows + row;
  const int tops = pairs.top, drawn = pairs.top + pairs.other;
  for (int i = t; i < drawn; i += kThreads) {
    token[i] = pairs.tokens[at * drawn + i];
    score[i] = token[i] >= 0 ? pairs.sharpness * scores[at * shape.stride + token[i]] : 0.f;
  }
  for (int i = t; i < tops; i += kThreads) weight[i] = pairs.weights[at * tops + i];
  __syncthreads();
  // A query that sees too few tokens has no pairs: its first token is -1, and so are all others.
  double loss = 0;
  for (int i = t; i < tops; i += kThreads) {
    float slopes = 0, sum = 0;
    for (int o = tops; o < drawn; o++) {
      if (token[o] < 0) continue;
      const float x = score[o] - score[i];
      const float e = expf(-fabsf(x)), larger = 1 / (1 + e);
      slopes += x < 0 ? e * larger : larger;
      sum += fmaxf(x, 0.f) + log1pf(e);
    }
    gradient[i] = -weight[i] * slopes;
    loss += double{weight[i]} * sum;
  }
  for (int o = tops + t; o < drawn; o += kThreads) {
    float slopes = 0;
    if (token[o] >= 0) {
      for (int i = 0; i < tops; i++) {
        const float x = score[o] - score[i];
        const float e = expf(-fabsf(x)), larger = 1 / (1 + e);
        slopes += weight[i] * (x < 0 ? e * larger : larger);
      }
    }
    gradient[o] = slopes;
  }
  partial[t] = loss;
  __syncthreads();
  if (t == 0) {
    double whole = 0, weights = 0;
    int others = 0;
    for (int i = 0; i < kThreads; i++) whole += partial[i];
    for (int i = 0; i < tops; i++) weights += weight[i];
    for (int o = tops; o < drawn; o++) others += token[o] >= 0;
    losses[at] = whole;
    weight_sums[at] = weights * others;
  }
  // A token drawn more than once: its first entry writes the sum of all.
  for (int i = t; i < drawn; i += kThreads) {
    if (token[i] < 0) continue;
    float sum = 0;
    bool first = true;
    for (int o = 0; o < drawn; o++) {
      if (token[o] != token[i]) continue;
      first = first && o >= i;
      sum += gradient[o];
    }
    if (first) d_scores[at * shape.stride + token[i]] = pairs.sharpness * sum;
  }
}

__global__ void mean_loss_kernel(const double* losses, const double* weights, int32_t count,
                                 double* result) {
  __shared__ double loss[kThreads], weight[kThreads];
  double own_loss = 0, own_weight = 0;
  for (int32_t i = threadIdx.x; i < count; i += kThreads) {
    own_loss += losses[i];
    own_weight += weights[i];
  }
  loss[threadIdx.x] = own_loss;
  weight[threadIdx.x] = own_weight;
  __syncthreads();
  if (threadIdx.x > 0) return;
  for (int i = 1; i < kThreads; i++) {
    own_loss += loss[i];
    own_weight += weight[i];
  }
  const double whole = fmax(1.0, own_weight);
  result[0] = own_loss / whole;
  result[1] = 1 / whole;
}

__global__ void adamw_kernel(Update u, const float* gradient, const double* share, int64_t count,
                             float* weights, float* first, float* second) {
  const int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (i >= count) return;
  const float g = gradient[i] * static_cast<float>(share[0]);
  const float m = u.beta1 * first[i] + (1 - u.beta1) * g;
  const float v = u.beta2 * second[i] + (1 - u.beta2) * g * g;
  first[i] = m;
  second[i] = v;
  weights[i] = weights[i] * (1 - u.learning_rate * u.weight_decay) -
               u.learning_rate / u.correction1 * m / (sqrtf(v) / u.correction2_root + u.epsilon);
}

}  // namespace

void multiply(const Product& p, cudaStream_t stream) {
  const dim3 grid((p.m + kTile - 1) / kTile, (p.n + kTile - 1) / kTile, p.outer * p.inner);
  multiply_kernel<<<grid, kThreads, 0, stream>>>(p);
  CUDA_CHECK_LAUNCH("multiply");
}

void sum_parts(const float* in, int32_t outer, int32_t parts, int64_t size, int64_t out_outer,
               float* out, cudaStream_t stream) {
  const dim3 grid(blocks_for(size), static_cast<unsigned>(outer));
  sum_parts_kernel<<<grid, kThreads, 0, stream>>>(in, parts, size, out_outer, out);
  CUDA_CHECK_LAUNCH("sum_parts");
}

void gather_keys(const void* cache, int32_t tokens, int32_t kv_heads, int32_t head_dim, float* out,
                 cudaStream_t stream) {
  gather_keys_kernel<<<static_cast<unsigned>(tokens), kThreads, 0, stream>>>(
      static_cast<const __nv_bfloat16*>(cache), kv_heads, head_dim, out);
  CUDA_CHECK_LAUNCH("gather_keys");
}

void gather_queries(const void* q, int64_t stride, int32_t width, int32_t from, int32_t tokens,
                    const int32_t* positions, int32_t rows, float* out, cudaStream_t stream) {
  gather_queries_kernel<<<static_cast<unsigned>(rows), kThreads, 0, stream>>>(
      static_cast<const __nv_bfloat16*>(q), stride, width, from, tokens, positions, out);
  CUDA_CHECK_LAUNCH("gather_queries");
}

void soften(float* z, int64_t count, float gamma, cudaStream_t stream) {
  soften_kernel<<<blocks_for(count), kThreads, 0, stream>>>(z, count, gamma);
  CUDA_CHECK_LAUNCH("soften");
}

void sum_group(const Shape& shape, const float* u, float* sums, cudaStream_t stream) {
  const int64_t size = int64_t{shape.rows} * shape.bits;
  const dim3 grid(blocks_for(size), static_cast<unsigned>(shape.heads));
  sum_group_kernel<<<grid, kThreads, 0, stream>>>(shape.group, size, u, sums);
  CUDA_CHECK_LAUNCH("sum_group");
}

void pair_loss(const Shape& shape, const Pairs& pairs, const float* scores, float* d_scores,
               double* losses, double* weights, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(shape.rows), static_cast<unsigned>(shape.heads));
  pair_loss_kernel<<<grid, kThreads, 0, stream>>>(shape, pairs, scores, d_scores, losses, weights);
  CUDA_CHECK_LAUNCH("pair_loss");
}

void mean_loss(const double* losses, const double* weights, int32_t count, double* result,
               cudaStream_t stream) {
  mean_loss_kernel<<<1, kThreads, 0, stream>>>(losses, weights, count, result);
  CUDA_CHECK_LAUNCH("mean_loss");
}

void slope(const float* u, float* du, int64_t count, float gamma, cudaStream_t stream) {
  slope_kernel<<<blocks_for(count), kThreads, 0, stream>>>(u, du, count, gamma);
  CUDA_CHECK_LAUNCH("slope");
}

void slope_group(const Shape& shape, const float* u, const float* d_sums, float gamma, float* dz,
                 cudaStream_t stream) {
  const int64_t size = int64_t{shape.rows} * shape.bits;
  const dim3 grid(blocks_for(size), static_cast<unsigned>(shape.heads * shape.group));
  slope_group_kernel<<<grid, kThreads, 0, stream>>>(shape.group, size, u, d_sums, gamma, dz);
  CUDA_CHECK_LAUNCH("slope_group");
}

void adamw(const Update& update, const float* gradient, const double* share, int64_t count,
           float* weights, float* first, float* second, cudaStream_t stream) {
  adamw_kernel<<<blocks_for(count), kThreads, 0, stream>>>(update, gradient, share, count, weights,
                                                           first, second);
  CUDA_CHECK_LAUNCH("adamw");
}

}  // namespace spotlight::train::kernels
