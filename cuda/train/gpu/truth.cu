// The truth a training goes by: what full attention gives each token, summed over a group's heads,
// and the pairs drawn from it. A radix search finds the border of the best exactly, so that a GPU
// draws what a CPU draws from the same masses.
#include <cfloat>

#include "device/cuda/runtime/cuda_error.h"
#include "train/gpu/kernels.h"

namespace spotlight::train::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

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
    return own.below(below, static_cast<uint32_t>(shape.first + head), static_cast<uint32_t>(row),
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

}  // namespace

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

}  // namespace spotlight::train::kernels
