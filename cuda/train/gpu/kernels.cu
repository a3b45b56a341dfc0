#include <cuda_bf16.h>

#include <cfloat>

#include "device/cuda/runtime/cuda_error.h"
#include "train/gpu/kernels.h"

namespace spotlight::train::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
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
      right[bl][bj] = j0 + bj < p.n && k + bl < k1
                          ? b[static_cast<int64_t>(k + bl) * p.b.row + (j0 + bj) * p.b.column]
                          : 0.f;
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

// --- Truth

template <typename Reduce>
__device__ float block_reduce(float value, Reduce reduce, float* shared) {
  for (int offset = 16; offset > 0; offset /= 2)
    value = reduce(value, __shfl_xor_sync(~0u, value, offset));
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
  __syncthreads();
  value = shared[0];
  for (int w = 1; w < kWarps; w++) value = reduce(value, shared[w]);
  return value;
}

__global__ void __launch_bounds__(kThreads)
    attention_mass_kernel(Shape shape, const float* logits, float scale, float* mass) {
  __shared__ float shared[kWarps];
  const int row = blockIdx.x, head = blockIdx.y;
  const int32_t seen = shape.positions[row] + 1;
  float* out = mass + (int64_t{head} * shape.rows + row) * shape.stride;
  for (int g = 0; g < shape.group; g++) {
    const float* x = logits + ((int64_t{head} * shape.group + g) * shape.rows + row) * shape.stride;
    float most = -FLT_MAX;
    for (int32_t j = threadIdx.x; j < seen; j += kThreads) most = fmaxf(most, x[j] * scale);
    most = block_reduce(
        most, [](float a, float b) { return fmaxf(a, b); }, shared);
    float sum = 0;
    for (int32_t j = threadIdx.x; j < seen; j += kThreads) sum += expf(x[j] * scale - most);
    sum = block_reduce(
        sum, [](float a, float b) { return a + b; }, shared);
    const float one = 1 / sum;
    for (int32_t j = threadIdx.x; j < seen; j += kThreads) {
      const float p = expf(x[j] * scale - most) * one;
      out[j] = g == 0 ? p : out[j] + p;
    }
  }
}

struct Threshold {
  uint32_t key = 0;        // bits of the smallest value taken
  int32_t equal_skip = 0;  // of those equal to it, in order, how many of the oldest are left out
};

// The `wanted`-th largest of values[0..count), which are not negative, so that their bits are in
// their order.
__device__ Threshold find_threshold(const float* values, int32_t count, int32_t wanted,
                                    uint32_t* histogram, uint32_t* answer) {
  uint32_t prefix = 0, rest = static_cast<uint32_t>(wanted), equal = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (int b = threadIdx.x; b < 256; b += kThreads) histogram[b] = 0;
    __syncthreads();
    const uint32_t mask = shift == 24 ? 0 : ~0u << (shift + 8);
    for (int32_t j = threadIdx.x; j < count; j += kThreads) {
      const uint32_t bits = __float_as_uint(values[j]);
      if ((bits & mask) == prefix) atomicAdd(&histogram[bits >> shift & 255], 1u);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      int b = 255;
      uint32_t above = 0;
      while (b > 0 && above + histogram[b] < rest) above += histogram[b--];
      answer[0] = prefix | static_cast<uint32_t>(b) << shift;
      answer[1] = rest - above;
      answer[2] = histogram[b];
    }
    __syncthreads();
    prefix = answer[0];
    rest = answer[1];
    equal = answer[2];
    __syncthreads();
  }
  return {prefix, static_cast<int32_t>(equal - rest)};
}

// Indexes j < count for which take(j, order) holds, ascending, into out; order counts the values
// equal to the threshold so far. Returns how many.
template <typename Take>
__device__ int32_t compact(const float* values, int32_t count, uint32_t key, Take take,
                           int32_t* out, int32_t* shared) {
  int32_t taken = 0, equals = 0;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int32_t base = 0; base < count; base += kThreads) {
    const int32_t j = base + static_cast<int32_t>(threadIdx.x);
    const bool equal = j < count && __float_as_uint(values[j]) == key;
    const unsigned equal_mask = __ballot_sync(~0u, equal);
    if (lane == 0) shared[warp] = __popc(equal_mask);
    __syncthreads();
    int32_t order = equals + __popc(equal_mask & ((1u << lane) - 1));
    for (int w = 0; w < kWarps; w++) {
      if (w < warp) order += shared[w];
      equals += shared[w];
    }
    __syncthreads();
    const bool mine = j < count && take(j, order);
    const unsigned mask = __ballot_sync(~0u, mine);
    if (lane == 0) shared[warp] = __popc(mask);
    __syncthreads();
    int32_t at = taken + __popc(mask & ((1u << lane) - 1));
    for (int w = 0; w < kWarps; w++) {
      if (w < warp) at += shared[w];
      taken += shared[w];
    }
    if (mine) out[at] = j;
    __syncthreads();
  }
  return taken;
}

__global__ void __launch_bounds__(kThreads)
    draw_pairs_kernel(Shape shape, Draws draws, const float* mass, Pairs pairs) {
  __shared__ uint32_t histogram[256];
  __shared__ uint32_t answer[3];
  __shared__ int32_t counts[kWarps];
  const int row = blockIdx.x, head = blockIdx.y;
  const int64_t at = int64_t{head} * shape.rows + row;
  const float* values = mass + at * shape.stride;
  const int32_t seen = shape.positions[row] + 1;
  int32_t* tokens = pairs.tokens + at * (pairs.top + pairs.other);
  float* weights = pairs.weights + at * pairs.top;
  if (seen <= pairs.wanted) {
    for (int i = threadIdx.x; i < pairs.top + pairs.other; i += kThreads) tokens[i] = -1;
    for (int i = threadIdx.x; i < pairs.top; i += kThreads) weights[i] = 0;
    return;
  }
  const auto member = [values](Threshold threshold) {
    return [values, threshold](int32_t j, int32_t order) {
      const uint32_t bits = __float_as_uint(values[j]);
      return bits > threshold.key || (bits == threshold.key && order >= threshold.equal_skip);
    };
  };
  const Threshold least = find_threshold(values, seen, pairs.wanted, histogram, answer);
  int32_t* found = pairs.found + at * pairs.wanted;
  compact(values, seen, least.key, member(least), found, counts);
  int32_t near = 0;
  int32_t* nearby = nullptr;
  if (pairs.near > 0) {
    nearby = pairs.nearby + at * pairs.border;
    const Threshold edge = find_threshold(values, seen, min(seen, pairs.border), histogram, answer);
    const auto in_edge = member(edge);
    near = compact(
        values, seen, edge.key,
        [&](int32_t j, int32_t order) {
          return in_edge(j, order) && __float_as_uint(values[j]) < least.key;
        },
        nearby, counts);
  }
  __syncthreads();
  const auto draw = [&](Purpose purpose, int32_t below, int32_t n) {
    Draws own = draws;
    own.purpose = purpose;
    return own.below(below, static_cast<uint32_t>(head), static_cast<uint32_t>(row),
                     static_cast<uint32_t>(n));
  };
  for (int i = threadIdx.x; i < pairs.top; i += kThreads) {
    const int32_t j = found[draw(Purpose::kTop, pairs.wanted, i)];
    tokens[i] = j;
    weights[i] = pairs.mass_weights ? sqrtf(values[j]) : 1.f;
  }
  for (int i = threadIdx.x; i < pairs.other; i += kThreads) {
    const int32_t j = i < pairs.near && near > 0 ? nearby[draw(Purpose::kBorder, near, i)]
                                                 : draw(Purpose::kOther, seen, i);
    tokens[pairs.top + i] = __float_as_uint(values[j]) < least.key ? j : -1;
  }
  if (!pairs.mass_weights) return;
  __syncthreads();
  __shared__ float mean;
  if (threadIdx.x == 0) {
    double sum = 0;
    for (int i = 0; i < pairs.top; i++) sum += weights[i];
    mean = fmaxf(1e-9f, static_cast<float>(sum / pairs.top));
  }
  __syncthreads();
  for (int i = threadIdx.x; i < pairs.top; i += kThreads) weights[i] /= mean;
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
    score[i] = token[i] >= 0 ? scores[at * shape.stride + token[i]] : 0.f;
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
    if (first) d_scores[at * shape.stride + token[i]] = sum;
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

void attention_mass(const Shape& shape, const float* logits, float scale, float* mass,
                    cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(shape.rows), static_cast<unsigned>(shape.heads));
  attention_mass_kernel<<<grid, kThreads, 0, stream>>>(shape, logits, scale, mass);
  CUDA_CHECK_LAUNCH("attention_mass");
}

void draw_pairs(const Shape& shape, const Draws& draws, const float* mass, const Pairs& pairs,
                cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(shape.rows), static_cast<unsigned>(shape.heads));
  draw_pairs_kernel<<<grid, kThreads, 0, stream>>>(shape, draws, mass, pairs);
  CUDA_CHECK_LAUNCH("draw_pairs");
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
