// Head dimension 96, which FlashInfer has no kernels for: FlashAttention 2 in its plainest form on
// tensor cores. A block holds 64 keys at a time; prefill gives each of its four warps 16 packed
// queries (token, head of the group), decode gives all of them the same 16 and a quarter of the
// keys, and adds up what they found at the end.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>

#include "attention/backend.h"
#include "attention/dense/gpu/launch.h"
#include "attention/spotlight/encode/number.cuh"
#include "device/cuda/runtime/cuda_error.h"

namespace spotlight::gpu {
namespace {

constexpr int D = 96;
constexpr int kPitch = D + 8;  // eight rows of 16 bytes lie in all banks
constexpr int kWarps = 4;
constexpr float kLog2E = 1.44269504f;

template <typename T>
__device__ uint32_t pack(float low, float high) {
  const T pair[2] = {narrow<T>(low), narrow<T>(high)};
  return *reinterpret_cast<const uint32_t*>(pair);
}

// c[16 x 8] += a[16 x 16] b[16 x 8].
template <typename T>
__device__ void multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  if constexpr (std::is_same_v<T, __half>)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Eight rows by two of eight columns, transposed: B fragments of V, whose rows are keys.
template <typename T>
__device__ void load_transposed(uint32_t& b0, uint32_t& b1, const T* row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(b0), "=r"(b1)
               : "r"(address));
}

// One block's queries and keys.
struct Span {
  int32_t token;            // of the row's first query, into q
  int32_t tokens, context;  // of the row
  int32_t table;
  int32_t packed;      // first packed query of the block
  int32_t begin, end;  // keys
};

// What a warp has of its 16 queries: a lane holds rows lane / 4 and lane / 4 + 8, columns
// 2 (lane % 4) + {0, 1} of every 8.
struct Partial {
  float values[D / 8][4] = {};
  float max[2] = {-INFINITY, -INFINITY};  // of logits * scale * log2(e)
  float sum[2] = {};
};

template <typename T>
__device__ const T* query(const DenseTensors<T>& tensors, const Span& span, int32_t group,
                          int32_t head, int32_t packed) {
  return tensors.q + (span.token + packed / group) * tensors.q_stride +
         static_cast<int64_t>(head * group + packed % group) * D;
}

// Keys and values of a block of tokens; `shared` holds both.
constexpr int kTileBytes = 2 * kBlockSize * kPitch * 2;

template <typename T, bool Split>
__device__ void walk(const DenseTensors<T>& tensors, const Span& span, unsigned char* shared,
                     Partial& partial) {
  T* keys = reinterpret_cast<T*>(shared);
  T* values = keys + kBlockSize * kPitch;
  const int32_t head = blockIdx.y, group = tensors.query_heads / tensors.kv_heads;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int32_t packed_end = span.tokens * group;
  const int32_t first = span.packed + (Split ? 0 : warp * 16);

  uint32_t q[D / 16][4];
  int32_t limit[2];  // keys a row sees
  for (int half = 0; half < 2; half++) {
    const int32_t packed = first + lane / 4 + 8 * half;
    const bool real = packed < packed_end;
    limit[half] = real ? span.context - span.tokens + packed / group + 1 : 0;
    const T* from = query(tensors, span, group, head, real ? packed : 0) + lane % 4 * 2;
    for (int d = 0; d < D / 16; d++) {
      q[d][half] = real ? *reinterpret_cast<const uint32_t*>(from + 16 * d) : 0;
      q[d][2 + half] = real ? *reinterpret_cast<const uint32_t*>(from + 16 * d + 8) : 0;
    }
  }

  for (int32_t begin = span.begin; begin < span.end; begin += kBlockSize) {
    const int64_t block = tensors.tables[span.table + begin / kBlockSize];
    const int64_t from = (block * tensors.kv_heads + head) * kBlockSize * D;
    __syncthreads();
    for (int i = threadIdx.x; i < kBlockSize * D / 8; i += blockDim.x) {
      const int row = i / (D / 8), column = i % (D / 8) * 8;
      Eight<T> key{}, value{};
      if (begin + row < span.end) {
        key = load_eight(tensors.k + from + row * D + column);
        value = load_eight(tensors.v + from + row * D + column);
      }
      store_eight(keys + row * kPitch + column, key);
      store_eight(values + row * kPitch + column, value);
    }
    __syncthreads();
    for (int part = Split ? warp : 0; part < kBlockSize / 16; part += Split ? kWarps : 1) {
      // Logits of 16 queries by 16 keys.
      float logits[2][4] = {};
      for (int side = 0; side < 2; side++) {
        const T* key = keys + (part * 16 + side * 8 + lane / 4) * kPitch + lane % 4 * 2;
        for (int d = 0; d < D / 16; d++)
          multiply<T>(logits[side], q[d], *reinterpret_cast<const uint32_t*>(key + 16 * d),
                      *reinterpret_cast<const uint32_t*>(key + 16 * d + 8));
      }
      float top[2] = {partial.max[0], partial.max[1]};
      for (int side = 0; side < 2; side++) {
        for (int i = 0; i < 4; i++) {
          const int32_t at = begin + part * 16 + side * 8 + lane % 4 * 2 + i % 2;
          float& logit = logits[side][i];
          logit = at < limit[i / 2] && at < span.end ? logit * (tensors.scale * kLog2E) : -INFINITY;
          top[i / 2] = fmaxf(top[i / 2], logit);
        }
      }
      for (int half = 0; half < 2; half++) {
        top[half] = fmaxf(top[half], __shfl_xor_sync(0xffffffffu, top[half], 1));
        top[half] = fmaxf(top[half], __shfl_xor_sync(0xffffffffu, top[half], 2));
        // A row that has seen no key yet: everything stays 0.
        const float base = top[half] == -INFINITY ? 0.f : top[half];
        const float keep = exp2f(partial.max[half] - base);
        partial.max[half] = top[half];
        partial.sum[half] *= keep;
        for (auto& value : partial.values) {
          value[2 * half] *= keep;
          value[2 * half + 1] *= keep;
        }
        for (int side = 0; side < 2; side++) {
          for (int i = 2 * half; i < 2 * half + 2; i++) {
            logits[side][i] = exp2f(logits[side][i] - base);
            partial.sum[half] += logits[side][i];
          }
        }
      }
      const uint32_t weights[4] = {
          pack<T>(logits[0][0], logits[0][1]), pack<T>(logits[0][2], logits[0][3]),
          pack<T>(logits[1][0], logits[1][1]), pack<T>(logits[1][2], logits[1][3])};
      const T* value = values + (part * 16 + lane % 16) * kPitch;
      for (int d = 0; d < D / 8; d++) {
        uint32_t b0, b1;
        load_transposed(b0, b1, value + 8 * d);
        multiply<T>(partial.values[d], weights, b0, b1);
      }
    }
  }
  for (int half = 0; half < 2; half++) {
    partial.sum[half] += __shfl_xor_sync(0xffffffffu, partial.sum[half], 1);
    partial.sum[half] += __shfl_xor_sync(0xffffffffu, partial.sum[half], 2);
  }
}

template <typename T>
__global__ void __launch_bounds__(32 * kWarps)
    prefill_96(DenseTensors<T> tensors, PrefillTiles tiles) {
  __shared__ alignas(16) unsigned char shared[kTileBytes];
  const int32_t row = tiles.row[blockIdx.x];
  const int32_t group = tensors.query_heads / tensors.kv_heads;
  Span span;
  span.token = tiles.first[row];
  span.tokens = tiles.tokens[row];
  span.context = tiles.context[row];
  span.table = tiles.table[row];
  span.packed = tiles.tile[blockIdx.x] * ampere_tile(D);
  span.begin = 0;
  Partial partial;
  for (int32_t from = 0; from < ampere_tile(D); from += 16 * kWarps) {
    const int32_t last = min(span.tokens - 1, (span.packed + 16 * kWarps - 1) / group);
    span.end = span.context - span.tokens + last + 1;
    if (span.packed >= span.tokens * group) return;
    partial = Partial();
    walk<T, /*Split=*/false>(tensors, span, shared, partial);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int half = 0; half < 2; half++) {
      const int32_t packed = span.packed + warp * 16 + lane / 4 + 8 * half;
      if (packed >= span.tokens * group) continue;
      T* out = tensors.out +
               (static_cast<int64_t>(span.token + packed / group) * tensors.query_heads +
                blockIdx.y * group + packed % group) *
                   D +
               lane % 4 * 2;
      for (int d = 0; d < D / 8; d++)
        *reinterpret_cast<uint32_t*>(out + 8 * d) =
            pack<T>(partial.values[d][2 * half] / partial.sum[half],
                    partial.values[d][2 * half + 1] / partial.sum[half]);
    }
    span.packed += 16 * kWarps;
  }
}

template <typename T>
__global__ void __launch_bounds__(32 * kWarps)
    decode_96(DenseTensors<T> tensors, DecodePieces pieces) {
  __shared__ alignas(16) unsigned char shared[kTileBytes];
  __shared__ float all_max[kWarps][16], all_sum[kWarps][16];
  using Values = float[kWarps][16][D];
  static_assert(sizeof(Values) <= kTileBytes, "what the warps found takes the tile's place");
  const int32_t piece = blockIdx.x;
  if (pieces.valid[piece] == 0) return;
  const int32_t row = pieces.row[piece];
  const int32_t group = tensors.query_heads / tensors.kv_heads;
  Span span;
  span.token = pieces.token[row];
  span.tokens = 1;
  span.context = pieces.context[row];
  span.table = pieces.table[row];
  span.packed = 0;
  span.begin = pieces.chunk[piece] * *pieces.chunk_tokens;
  span.end = min(span.context, span.begin + *pieces.chunk_tokens);
  Partial partial;
  walk<T, /*Split=*/true>(tensors, span, shared, partial);
  __syncthreads();
  Values& all_values = *reinterpret_cast<Values*>(shared);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int half = 0; half < 2; half++) {
    const int query = lane / 4 + 8 * half;
    for (int d = 0; d < D / 8; d++)
      for (int i = 0; i < 2; i++)
        all_values[warp][query][8 * d + lane % 4 * 2 + i] = partial.values[d][2 * half + i];
    all_max[warp][query] = partial.max[half];
    all_sum[warp][query] = partial.sum[half];
  }
  __syncthreads();
  for (int i = threadIdx.x; i < group * D; i += blockDim.x) {
    const int query = i / D, d = i % D;
    float top = -INFINITY, sum = 0.f, value = 0.f;
    for (int w = 0; w < kWarps; w++) top = fmaxf(top, all_max[w][query]);
    for (int w = 0; w < kWarps; w++) {
      const float weight = exp2f(all_max[w][query] - top);
      sum += weight * all_sum[w][query];
      value += weight * all_values[w][query][d];
    }
    const int64_t at = int64_t{piece} * tensors.query_heads + blockIdx.y * group + query;
    pieces.values[at * D + d] = value / sum;
    if (d == 0) pieces.lse[at] = top + log2f(sum);
  }
}

}  // namespace

template <>
void prefill_ampere<__nv_bfloat16, D>(const DenseTensors<__nv_bfloat16>& tensors,
                                      const PrefillTiles& tiles, cudaStream_t stream) {
  prefill_96<<<dim3(tiles.tiles, tensors.kv_heads), 32 * kWarps, 0, stream>>>(tensors, tiles);
  CUDA_CHECK_LAUNCH("prefill_96");
}
template <>
void prefill_ampere<__half, D>(const DenseTensors<__half>& tensors, const PrefillTiles& tiles,
                               cudaStream_t stream) {
  prefill_96<<<dim3(tiles.tiles, tensors.kv_heads), 32 * kWarps, 0, stream>>>(tensors, tiles);
  CUDA_CHECK_LAUNCH("prefill_96");
}
template <>
void decode_pieces<__nv_bfloat16, D>(const DenseTensors<__nv_bfloat16>& tensors,
                                     const DecodePieces& pieces, cudaStream_t stream) {
  decode_96<<<dim3(pieces.pieces, tensors.kv_heads), 32 * kWarps, 0, stream>>>(tensors, pieces);
  CUDA_CHECK_LAUNCH("decode_96");
}
template <>
void decode_pieces<__half, D>(const DenseTensors<__half>& tensors, const DecodePieces& pieces,
                              cudaStream_t stream) {
  decode_96<<<dim3(pieces.pieces, tensors.kv_heads), 32 * kWarps, 0, stream>>>(tensors, pieces);
  CUDA_CHECK_LAUNCH("decode_96");
}

}  // namespace spotlight::gpu
