// Encoding takes 32 queries and one KV head a block of threads. The group's sum stays in a warp's
// registers from head to head; only the quantising, which needs a query's largest component, meets
// in shared memory.
#include <cuda_runtime.h>

#include "attention/spotlight/encode/encode.cuh"
#include "attention/spotlight/encode/launch.cuh"
#include "attention/spotlight/query/quantise.cuh"
#include "attention/spotlight/query/query_code.h"

namespace spotlight::gpu {
namespace {

constexpr int32_t kThreads = 256;
constexpr int32_t kTurnThreads = 128;
constexpr int32_t kTurnHeads = 4;  // of one thread, which reads their angles once

template <typename T>
__global__ __launch_bounds__(kTurnThreads) void turn_kernel(const QueryOp<T> op) {
  const int32_t dim = op.head_dim, half = dim / 2, pieces = dim / 16;
  const int32_t at = blockIdx.x * kTurnThreads + threadIdx.x;
  const int32_t token = at / pieces, piece = at % pieces;
  if (token >= op.tokens.count || op.tokens.seat[token] < 0) return;
  const RopeAngles angles = load_angles(op.angles + int64_t{token} * dim, half, piece);
  const int32_t first = blockIdx.y * kTurnHeads;
  T* heads = op.q + token * op.q_stride + first * dim;
  RopePiece<T> x[kTurnHeads];
#pragma unroll
  for (int h = 0; h < kTurnHeads; h++)
    if (first + h < op.query_heads) x[h] = load_piece(heads + h * dim, half, piece);
#pragma unroll
  for (int h = 0; h < kTurnHeads; h++) {
    if (first + h >= op.query_heads) break;
    rotate(x[h], angles);
    store_piece(heads + h * dim, half, piece, x[h]);
  }
}

constexpr int32_t kQueries = 32;      // of one block of threads
constexpr int32_t kPair = 2 * kTile;  // queries that share a read of the weights
constexpr int32_t kSumPad = 4;        // floats after a query's sums

struct Selecting {
  int32_t token[kQueries];  // of every query, so that each can be read
  int32_t plane[kQueries];  // -1: makes no code
};

constexpr size_t query_shared_bytes(int32_t head_dim, int32_t bits, size_t element) {
  const size_t linear = kQueries * static_cast<size_t>(bits + kSumPad) * sizeof(float);
  const size_t mlp = kMlpFloats * sizeof(float) + kMlpTokens * (head_dim + kRowPad) * element;
  return sizeof(Selecting) + (linear > mlp ? linear : mlp);
}

// The codes of the block's queries that score with `plane`.
template <typename T>
__device__ inline void encode_linear(const QueryOp<T>& op, const LinearAsymWeights& weights,
                                     const Selecting& selecting, int32_t plane, int32_t head,
                                     int32_t first, float* sums) {
  constexpr int kTiles = kPair / kTile, kSteps = 4;
  const int32_t dim = op.head_dim, group = op.query_heads / op.kv_heads;
  const int32_t words = weights.bits / 32, stride = weights.bits + kSumPad;
#pragma unroll 1
  for (int32_t unit = warp_id(); unit < words * (kQueries / kPair); unit += kThreads / kWarp) {
    const int32_t word = unit % words, from = unit / words * kPair;
    float u[kTiles][8] = {};
#pragma unroll 1
    for (int32_t g = 0; g < group; g++) {
      const Matrix matrix = head_matrix(weights.query, head * group + g, dim, weights.bits);
      Weights<kSteps> part;
      load_weights<false>(matrix, word, 0, part);
      const T* rows[kTiles];
#pragma unroll
      for (int n = 0; n < kTiles; n++)
        rows[n] = op.q + selecting.token[from + kTile * n + lane_group()] * op.q_stride +
                  (head * group + g) * dim + 4 * lane_column();
      Sums s[kTiles];
      project_from<false>(matrix, word, part, rows, s);
#pragma unroll
      for (int n = 0; n < kTiles; n++)
#pragma unroll
        for (int i = 0; i < 8; i++) u[n][i] = __fadd_rn(u[n][i], softsign(s[n].at(i / 4, i % 4)));
    }
#pragma unroll
    for (int n = 0; n < kTiles; n++)
#pragma unroll
      for (int t = 0; t < 2; t++) {
        float* to = sums + (from + kTile * n + 2 * lane_column() + t) * stride + 32 * word +
                    4 * lane_group();
        *reinterpret_cast<float4*>(to) =
            make_float4(u[n][4 * t], u[n][4 * t + 1], u[n][4 * t + 2], u[n][4 * t + 3]);
      }
  }
  __syncthreads();
  for (int32_t i = warp_id(); i < kQueries; i += kThreads / kWarp) {
    if (selecting.plane[i] != plane) continue;
    uint32_t* planes = op.codes.words + (int64_t{first + i} * op.kv_heads + head) * op.codes.stride;
    quantise(
        words, [&](int32_t bit) { return sums[i * stride + bit]; }, planes);
  }
  __syncthreads();
}

template <typename T>
__device__ inline void encode_by_mlp(const QueryOp<T>& op, const MlpWeights& weights,
                                     const Selecting& selecting, int32_t plane, int32_t head,
                                     int32_t first, float* hidden) {
  T* tile = reinterpret_cast<T*>(hidden + kMlpFloats);
  const int32_t dim = op.head_dim, group = op.query_heads / op.kv_heads, stride = dim + kRowPad;
  const int32_t words = weights.bits / 32, pieces = dim / 8;
  for (int32_t from = 0; from < kQueries; from += kMlpTokens) {
#pragma unroll 1
    for (int32_t g = 0; g < group; g++) {
      for (int32_t i = threadIdx.x; i < kMlpTokens * pieces; i += kThreads) {
        const int32_t row = i / pieces, piece = i % pieces;
        const T* q = op.q + selecting.token[from + row] * op.q_stride + (head * group + g) * dim;
        store_eight(tile + row * stride + 8 * piece, load_eight(q + 8 * piece));
      }
      __syncthreads();
      encode_mlp(weights, head * group + g, dim, tile, stride, kMlpTokens, hidden,
                 [&](int32_t token, int32_t word, uint32_t bits) {
                   const int32_t i = from + token;
                   if (selecting.plane[i] != plane) return;
                   op.codes.words[(int64_t{first + i} * op.kv_heads + head) * op.codes.stride +
                                  g * words + word] = bits;
                 });
    }
  }
}

template <typename T>
__global__ __launch_bounds__(kThreads) void encode_kernel(const QueryOp<T> op) {
  auto& selecting = *reinterpret_cast<Selecting*>(ptx::shared_memory());
  auto* memory = reinterpret_cast<float*>(&selecting + 1);
  const int32_t first = blockIdx.x * kQueries, head = blockIdx.y, thread = threadIdx.x;
  int32_t plane = -1;
  if (thread < kQueries) {
    Query query;
    if (first + thread < op.queries.count) query = op.queries.list[first + thread];
    if (query.mode == kQuerySparse || query.mode == kQueryTail) plane = query.plane;
    selecting.token[thread] = plane < 0 ? 0 : query.token;
    selecting.plane[thread] = plane;
  }
#pragma unroll 1
  for (int32_t p = 0; p < kPlanes; p++) {
    if (!__syncthreads_or(plane == p)) continue;
    const LayerEncoder& encoder = op.encoders[p];
    if (encoder.kind == kLinearAsym)
      encode_linear(op, encoder.linear, selecting, p, head, first, memory);
    else if (encoder.kind == kMlp)
      encode_by_mlp(op, encoder.mlp, selecting, p, head, first, memory);
  }
}

}  // namespace

template <typename T>
void encode_queries(cudaStream_t stream, const QueryOp<T>& op) {
  if (op.tokens.count <= 0) return;
  const int32_t pieces = op.head_dim / 16;
  const dim3 turn((op.tokens.count * pieces + kTurnThreads - 1) / kTurnThreads,
                  (op.query_heads + kTurnHeads - 1) / kTurnHeads);
  launch(stream, turn_kernel<T>, turn, kTurnThreads, 0, op);
  if (op.queries.count <= 0 || op.encoders == nullptr) return;
  const dim3 grid((op.queries.count + kQueries - 1) / kQueries, op.kv_heads);
  launch(stream, encode_kernel<T>, grid, kThreads,
         query_shared_bytes(op.head_dim, kMaxLinearBits, sizeof(T)), op);
}

template void encode_queries(cudaStream_t, const QueryOp<__nv_bfloat16>&);
template void encode_queries(cudaStream_t, const QueryOp<__half>&);

}  // namespace spotlight::gpu
