// A block of threads takes one cache block of one KV head, through the same functions as append.
#include <cuda_runtime.h>

#include "attention/spotlight/encode/encode.cuh"
#include "attention/spotlight/encode/launch.cuh"
#include "attention/spotlight/rehash/rehash.h"

namespace spotlight::gpu {
namespace {

constexpr int32_t kThreads = 256;

template <typename T>
__global__ __launch_bounds__(kThreads) void rehash_kernel(const RehashOp<T> op, uint32_t* codes) {
  auto* hidden = reinterpret_cast<float*>(ptx::shared_memory());
  auto* tile = reinterpret_cast<T*>(hidden + kMlpFloats);
  const Cache<T>& cache = op.cache;
  const LayerEncoder& encoder = op.encoders[op.plane];
  if (encoder.kind == kNoEncoder) return;
  const int32_t code_words = cache.code_words;
  const int32_t head = blockIdx.y, dim = cache.head_dim, stride = dim + kRowPad, pieces = dim / 8;
  const int32_t tokens = min(op.filled[blockIdx.x], kBlockSize);
  const int64_t first = (int64_t{op.blocks[blockIdx.x]} * cache.kv_heads + head) * kBlockSize;
#pragma unroll 4
  for (int32_t i = threadIdx.x; i < tokens * pieces; i += kThreads) {
    const int32_t row = i / pieces, piece = i % pieces;
    store_eight(tile + row * stride + 8 * piece,
                load_eight(cache.k + (first + row) * dim + 8 * piece));
  }
  __syncthreads();
  encode_keys(encoder, head, cache.query_heads / cache.kv_heads, dim, tile, stride, tokens, hidden,
              [&](int32_t token, int32_t word, uint32_t bits) {
                codes[(first + token) * code_words + word] = bits;
              });
}

}  // namespace

template <typename T>
void rehash(cudaStream_t stream, const RehashOp<T>& op) {
  if (op.count <= 0) return;
  const size_t bytes = kMlpFloats * sizeof(float) +
                       kBlockSize * static_cast<size_t>(op.cache.head_dim + kRowPad) * sizeof(T);
  launch(stream, rehash_kernel<T>, dim3(op.count, op.cache.kv_heads), kThreads, bytes, op,
         op.cache.codes[op.plane]);
}

template void rehash(cudaStream_t, const RehashOp<__nv_bfloat16>&);
template void rehash(cudaStream_t, const RehashOp<__half>&);

}  // namespace spotlight::gpu
