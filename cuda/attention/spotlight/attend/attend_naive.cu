// The obvious attend kernel: one CTA a query and virtual head goes through the blocks from the
// newest on, one thread decides what is selected, and rows join the softmax one after another in
// fp32. What the shipped one is checked against and compared with.
#include <cuda_runtime.h>

#include <cmath>

#include "attention/spotlight/attend/attend_gpu.h"
#include "attention/spotlight/encode/number.cuh"
#include "device/cuda/runtime/cuda_error.h"

namespace spotlight::gpu {
namespace {

constexpr int32_t kThreads = 64;
constexpr int32_t kHeads = 16, kWidest = 256;

// One row of K and V joins the softmax of all heads; bias is added to its logit.
template <typename T>
__device__ void join(const T* k, const T* v, float bias, const T* q, int32_t heads, int32_t dim,
                     float* max, float* sum, float* weight, float* shrink, float (*acc)[kWidest]) {
  const auto thread = static_cast<int32_t>(threadIdx.x);
  if (thread < heads) {
    float logit = 0.0f;
    for (int32_t j = 0; j < dim; j++) logit += widen(q[thread * dim + j]) * widen(k[j]);
    logit = logit / sqrtf(static_cast<float>(dim)) + bias;
    const float top = fmaxf(max[thread], logit);
    shrink[thread] = max[thread] == -INFINITY ? 0.0f : expf(max[thread] - top);
    weight[thread] = expf(logit - top);
    sum[thread] = sum[thread] * shrink[thread] + weight[thread];
    max[thread] = top;
  }
  __syncthreads();
  for (int32_t h = 0; h < heads; h++)
    for (int32_t j = thread; j < dim; j += kThreads)
      acc[h][j] = acc[h][j] * shrink[h] + weight[h] * widen(v[j]);
  __syncthreads();
}

template <typename T>
__global__ void attend_rows(const AttendOp<T> op) {
  __shared__ float max[kHeads], sum[kHeads], weight[kHeads], shrink[kHeads];
  __shared__ float acc[kHeads][kWidest];
  __shared__ unsigned long long shared_selected;
  __shared__ int32_t threshold, ties;
  const RetrievalShape& shape = op.workspace.shape;
  const int32_t heads = shape.virtual_heads(), shared_heads = shape.shared_heads();
  const int32_t dim = shape.head_dim;
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const auto unit = static_cast<int32_t>(blockIdx.x);
  const int32_t i = unit / heads, head = unit % heads, kv_head = head / shape.selections();
  const Query query = op.queries.list[i];
  if (query.mode == kQueryNone) return;
  const int32_t start = op.queries.block_start[i];
  const int32_t blocks = op.queries.block_start[i + 1] - start;
  const int64_t linear = static_cast<int64_t>(heads) * start + static_cast<int64_t>(head) * blocks;
  const bool dense = query.mode == kQueryDense;
  const int32_t wanted = dense ? 0 : query.k - query.sink - query.recent;
  const int32_t from = query.sink, to = query.context - query.recent;
  uint32_t* at_least = op.workspace.at_least + static_cast<int64_t>(unit) * shape.histogram();
  if (thread == 0) {
    threshold = shape.bins();
    ties = 0;
    if (wanted > 0) {
      while (static_cast<int32_t>(at_least[threshold]) < wanted) threshold--;
      ties = wanted - static_cast<int32_t>(at_least[threshold + 1]);
    }
  }
  for (int32_t h = thread; h < shared_heads; h += kThreads) max[h] = -INFINITY, sum[h] = 0.0f;
  for (int32_t j = thread; j < kHeads * kWidest; j += kThreads)
    acc[j / kWidest][j % kWidest] = 0.0f;
  __syncthreads();

  const T* q = op.q + query.token * op.q_stride + static_cast<int64_t>(head) * shared_heads * dim;
  for (int32_t block = blocks - 1; block >= 0; block--) {
    if (thread == 0) {
      shared_selected = 0;
      for (int32_t slot = kBlockSize - 1; slot >= 0; slot--) {
        const int32_t position = block * kBlockSize + slot;
        if (position >= query.context) continue;
        bool selected = dense || position < from || position >= to;
        if (!selected && wanted > 0) {
          const int32_t score = static_cast<int32_t>(
              op.workspace.scores[(linear + block) * 32 + slot % 32] >> (slot / 32 * 16) & 0xffff);
          selected = score > threshold;
          if (score == threshold && ties > 0) selected = true, ties--;
        }
        if (selected) shared_selected |= 1ull << slot;
      }
      if (op.trace && !dense) op.trace[linear + block] = shared_selected;
    }
    __syncthreads();
    const unsigned long long selected = shared_selected;
    const int64_t row = static_cast<int64_t>(
                            op.tables[static_cast<int64_t>(query.seat) * op.table_stride + block]) *
                            shape.kv_heads +
                        kv_head;
    const bool open = (block + 1) * kBlockSize > query.context;
    for (int32_t slot = 0; slot < kBlockSize; slot++) {
      const bool read = open ? block * kBlockSize + slot < query.context : selected >> slot & 1;
      if (!read) continue;
      const int64_t at = (row * kBlockSize + slot) * dim;
      join(op.cache.k + at, op.cache.v + at, 0.0f, q, shared_heads, dim, max, sum, weight, shrink,
           acc);
    }
    const int32_t left = kBlockSize - __popcll(selected);
    if (query.mode == kQueryTail && !open && left > 0)
      join(op.cache.mean_k + row * dim, op.cache.mean_v + row * dim, logf(static_cast<float>(left)),
           q, shared_heads, dim, max, sum, weight, shrink, acc);
    __syncthreads();
  }
  T* out = op.out + query.token * op.out_stride + static_cast<int64_t>(head) * shared_heads * dim;
  for (int32_t h = 0; h < shared_heads; h++)
    for (int32_t j = thread; j < dim; j += kThreads)
      out[h * dim + j] = narrow<T>(acc[h][j] / sum[h]);
  if (wanted > 0)
    for (int32_t bin = thread; bin < shape.histogram(); bin += kThreads) at_least[bin] = 0;
}

}  // namespace

template <typename T>
void attend_naive(cudaStream_t stream, const AttendOp<T>& op) {
  if (op.queries.count == 0) return;
  const auto units = static_cast<unsigned>(op.queries.count * op.workspace.shape.virtual_heads());
  attend_rows<T><<<units, kThreads, 0, stream>>>(op);
  CUDA_CHECK_LAUNCH("attend_rows");
}

template void attend_naive(cudaStream_t, const AttendOp<__nv_bfloat16>&);
template void attend_naive(cudaStream_t, const AttendOp<__half>&);

}  // namespace spotlight::gpu
