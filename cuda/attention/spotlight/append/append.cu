// One block of threads takes the K or the V of one KV head for what begins in 64 packed tokens:
// whole slices, a slice being the tokens of one row in one cache block. So whatever closes a block
// is in the same shared memory as all of the block that this step brought, and no block of threads
// waits for another.
#include <cuda_runtime.h>

#include "attention/spotlight/append/append.h"
#include "attention/spotlight/encode/encode.cuh"
#include "attention/spotlight/encode/launch.cuh"
#include "attention/spotlight/tail/summary.cuh"

namespace spotlight::gpu {
namespace {

constexpr int32_t kThreads = 256;
constexpr int32_t kWindow = kBlockSize;

// Where slices begin among 128 tokens.
struct Starts {
  uint64_t word[2];
  // The first start at or after `from`, 128 if there is none.
  __device__ int32_t next(int32_t from) const {
    if (from < 64) {
      const uint64_t rest = word[0] >> from << from;
      if (rest != 0) return __ffsll(static_cast<long long>(rest)) - 1;
      from = 64;
    }
    const uint64_t rest = word[1] >> (from - 64) << (from - 64);
    return rest == 0 ? 128 : 63 + __ffsll(static_cast<long long>(rest));
  }
  // The last start at or before `at`.
  __device__ int32_t last(int32_t at) const {
    if (at >= 64) {
      const uint64_t rest = word[1] << (127 - at);
      if (rest != 0) return at - __clzll(static_cast<long long>(rest));
      at = 63;
    }
    return at - __clzll(static_cast<long long>(word[0] << (63 - at)));
  }
};

// A token of a tile: where it is stored.
struct Place {
  int32_t block, slot;  // block -1: padding
};

struct Shared {
  uint32_t starts[4];
  Place place[kWindow];
};

__host__ __device__ constexpr int32_t row_stride(int32_t head_dim) { return head_dim + kRowPad; }

constexpr size_t shared_bytes(int32_t head_dim, size_t element) {
  return sizeof(Shared) + kMlpFloats * sizeof(float) + kWindow * row_stride(head_dim) * element;
}

__device__ inline bool starts_slice(const Tokens& tokens, int32_t t) {
  if (t == 0 || t >= tokens.count) return true;
  const int32_t seat = tokens.seat[t], position = tokens.position[t];
  return seat < 0 || seat != tokens.seat[t - 1] || position % kBlockSize == 0 ||
         position != tokens.position[t - 1] + 1;
}

// Rows of this step into the tile and the cache.
template <typename T>
__device__ inline void store_keys(const AppendOp<T>& op, const Place* place, int32_t head,
                                  int32_t first, int32_t count, T* tile) {
  const int32_t dim = op.cache.head_dim, half = dim / 2, pieces = dim / 16;
#pragma unroll 2
  for (int32_t i = threadIdx.x; i < count * pieces; i += kThreads) {
    const int32_t row = i / pieces, piece = i % pieces;
    const Place at = place[row];
    if (at.block < 0) continue;
    const int64_t token = first + row;
    RopePiece<T> x = load_piece(op.k + token * op.k_stride + head * dim, half, piece);
    rotate(x, load_angles(op.angles + token * dim, half, piece));
    store_piece(tile + row * row_stride(dim), half, piece, x);
    const int64_t stored = (int64_t{at.block} * op.cache.kv_heads + head) * kBlockSize + at.slot;
    store_piece(op.cache.k + stored * dim, half, piece, x);
  }
}

template <typename T>
__device__ inline void store_values(const AppendOp<T>& op, const Place* place, int32_t head,
                                    int32_t first, int32_t count, T* tile) {
  const int32_t dim = op.cache.head_dim, pieces = dim / 8;
#pragma unroll 4
  for (int32_t i = threadIdx.x; i < count * pieces; i += kThreads) {
    const int32_t row = i / pieces, piece = i % pieces;
    const Place at = place[row];
    if (at.block < 0) continue;
    const Eight<T> x = load_eight(op.v + (first + row) * op.v_stride + head * dim + 8 * piece);
    store_eight(tile + row * row_stride(dim) + 8 * piece, x);
    const int64_t stored = (int64_t{at.block} * op.cache.kv_heads + head) * kBlockSize + at.slot;
    store_eight(op.cache.v + stored * dim + 8 * piece, x);
  }
}

template <typename T>
__global__ __launch_bounds__(kThreads) void append_kernel(const AppendOp<T> op) {
  auto& shared = *reinterpret_cast<Shared*>(ptx::shared_memory());
  auto* hidden = reinterpret_cast<float*>(&shared + 1);
  auto* tile = reinterpret_cast<T*>(hidden + kMlpFloats);
  const Cache<T>& cache = op.cache;
  const int32_t thread = threadIdx.x, dim = cache.head_dim, stride = row_stride(dim);
  const int32_t window = blockIdx.x * kWindow, head = blockIdx.y;
  const bool values = blockIdx.z == 1;

  if (thread < 2 * kWindow) {
    const uint32_t word = __ballot_sync(0xffffffffu, starts_slice(op.tokens, window + thread));
    if (lane_id() == 0) shared.starts[warp_id()] = word;
  }
  __syncthreads();
  const Starts starts = {{shared.starts[0] | uint64_t{shared.starts[1]} << 32,
                          shared.starts[2] | uint64_t{shared.starts[3]} << 32}};
  int32_t from = starts.next(0);
  if (from >= kWindow) return;
  const int32_t end = min(starts.next(kWindow), op.tokens.count - window);

  while (from < end) {
    const int32_t to = end - from <= kWindow ? end : starts.last(from + kWindow);
    const int32_t count = to - from, first = window + from;
    if (thread < count) {
      const int32_t seat = op.tokens.seat[first + thread];
      const int32_t position = op.tokens.position[first + thread];
      Place at = {-1, 0};
      if (seat >= 0) {
        at.block = op.tokens.tables[int64_t{seat} * op.tokens.table_stride + position / kBlockSize];
        at.slot = position % kBlockSize;
      }
      shared.place[thread] = at;
    }
    __syncthreads();
    if (values)
      store_values(op, shared.place, head, first, count, tile);
    else
      store_keys(op, shared.place, head, first, count, tile);
    __syncthreads();

    if (!values && op.encoders != nullptr) {
#pragma unroll 1
      for (int32_t plane = 0; plane < kPlanes; plane++) {
        if (cache.codes[plane] == nullptr) continue;
        encode_keys(op.encoders[plane], head, cache.query_heads / cache.kv_heads, dim, tile, stride,
                    count, hidden, [&](int32_t token, int32_t word, uint32_t bits) {
                      const Place at = shared.place[token];
                      if (at.block < 0) return;
                      const int64_t stored =
                          (int64_t{at.block} * cache.kv_heads + head) * kBlockSize + at.slot;
                      cache.codes[plane][stored * cache.code_words + word] = bits;
                    });
      }
    }

    const int32_t pairs = dim / 2;
    for (int32_t i = thread; i < count * pairs; i += kThreads) {
      const int32_t row = i / pairs;
      const Place at = shared.place[row];
      if (at.block < 0 || at.slot != kBlockSize - 1) continue;
      const int32_t slice = starts.last(from + row) - from;
      const int64_t block = int64_t{at.block} * cache.kv_heads + head;
      summarise<8>((values ? cache.v : cache.k) + block * kBlockSize * dim,
                   kBlockSize - 1 - (row - slice), dim, tile + slice * stride, stride, i % pairs,
                   (values ? cache.mean_v : cache.mean_k) + block * dim);
    }
    __syncthreads();
    from = to;
  }
}

__global__ void angles_kernel(const double* inverse, float magnitude, const int32_t* positions,
                              int32_t count, int32_t half, float* angles) {
  const int32_t at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= count * half) return;
  const int32_t token = at / half, i = at % half;
  double sine, cosine;
  sincos(positions[token] * inverse[i], &sine, &cosine);
  float* row = angles + int64_t{token} * 2 * half;
  row[i] = __fmul_rn(static_cast<float>(cosine), magnitude);
  row[half + i] = __fmul_rn(static_cast<float>(sine), magnitude);
}

}  // namespace

template <typename T>
void append(cudaStream_t stream, const AppendOp<T>& op) {
  if (op.tokens.count <= 0) return;
  const size_t bytes = shared_bytes(op.cache.head_dim, sizeof(T));
  const dim3 grid((op.tokens.count + kWindow - 1) / kWindow, op.cache.kv_heads, 2);
  launch(stream, append_kernel<T>, grid, kThreads, bytes, op);
}

template void append(cudaStream_t, const AppendOp<__nv_bfloat16>&);
template void append(cudaStream_t, const AppendOp<__half>&);

void make_angles(cudaStream_t stream, const double* inverse, float magnitude,
                 const int32_t* positions, int32_t count, int32_t head_dim, float* angles) {
  if (count <= 0) return;
  const int32_t half = head_dim / 2;
  launch(stream, angles_kernel, dim3((count * half + kThreads - 1) / kThreads), kThreads, 0,
         inverse, magnitude, positions, count, half, angles);
}

}  // namespace spotlight::gpu
