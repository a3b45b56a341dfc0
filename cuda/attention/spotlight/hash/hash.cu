// A cluster serves 8 tokens of one KV head. Its blocks share out the slots: one a query head, the
// last the key's. A slot's weights are asked for before anything is waited for; u of a query head
// goes straight into the shared memory of the block that owns the token, which sums and quantises.
#include <cuda_runtime.h>

#include "attention/spotlight/encode/encode.cuh"
#include "attention/spotlight/encode/launch.cuh"
#include "attention/spotlight/hash/hash.h"
#include "attention/spotlight/query/quantise.cuh"
#include "attention/spotlight/tail/summary.cuh"

namespace spotlight::gpu {
namespace {

// Few enough to leave room for the launches in front and behind; a warp a word of 128 bits.
constexpr int32_t kThreads = 128;
constexpr int32_t kTokens = kTile;  // of a cluster
constexpr int32_t kPrefetched = 8;  // steps of weights in flight: a head of 128 whole

struct alignas(16) Shared {
  LayerEncoder encoder[kPlanes];
  int32_t seat[kTokens], position[kTokens], block[kTokens];  // seat -1: padding
  int32_t query[kTokens], plane[kTokens];                    // plane -1: makes no code
  ptx::Mailbox mailbox;                                      // of the sums
};

// The block's shared memory. Rows [0, 8) of the tile are the slot's queries, [8, 16) the keys.
template <typename T>
struct Memory {
  Shared* shared;
  T* tile;        // [2 kTokens, stride]
  float* hidden;  // [kMlpFloats]
  float* sums;    // [tokens owned, group, bits]
};

__host__ __device__ constexpr size_t tile_bytes(int32_t head_dim, size_t element) {
  return 2 * kTokens * static_cast<size_t>(head_dim + kRowPad) * element;
}

template <typename T>
__device__ inline Memory<T> carve(int32_t head_dim) {
  unsigned char* at = ptx::shared_memory();
  Memory<T> memory;
  memory.shared = reinterpret_cast<Shared*>(at);
  at += sizeof(Shared);
  memory.tile = reinterpret_cast<T*>(at);
  at += tile_bytes(head_dim, sizeof(T));
  memory.hidden = reinterpret_cast<float*>(at);
  memory.sums = memory.hidden + kMlpFloats;
  return memory;
}

// What this block's warps project for a slot: one word of one plane each, both planes' words in a
// row.
struct Units {
  int32_t words[kPlanes] = {};
  __device__ int32_t count() const { return words[0] + words[1]; }
  __device__ int32_t plane(int32_t unit) const { return unit < words[0] ? 0 : 1; }
  __device__ int32_t word(int32_t unit) const { return unit < words[0] ? unit : unit - words[0]; }
};

// Both matrices of a query head into the L2.
__device__ inline void prefetch_mlp(const Shared& shared, int32_t dim, int32_t query_head) {
  constexpr int32_t kLine = 128;
#pragma unroll 1
  for (int32_t p = 0; p < kPlanes; p++) {
    if (shared.encoder[p].kind != kMlp) continue;
    const MlpWeights& mlp = shared.encoder[p].mlp;
    const Matrix both[] = {head_matrix(mlp.w1, query_head, dim, mlp.hidden),
                           head_matrix(mlp.w2, query_head, mlp.hidden, mlp.bits)};
    for (const Matrix& matrix : both) {
      const int32_t bytes = matrix.rows * matrix.columns * 2;
#pragma unroll 1
      for (int32_t at = kLine * threadIdx.x; at < bytes; at += kLine * kThreads)
        ptx::prefetch_l2(reinterpret_cast<const char*>(matrix.data) + at);
    }
  }
}

// A thread's row of the tile and the first of its pieces: a division by a head's own would be on
// the path that everything waits for.
constexpr int32_t kLanes = kThreads / kTokens;
static_assert(kLanes * 16 >= kMaxHeadDim);
__device__ inline int32_t own_row() { return static_cast<int32_t>(threadIdx.x / kLanes); }
__device__ inline int32_t own_piece() { return static_cast<int32_t>(threadIdx.x % kLanes); }

template <typename T>
__device__ inline void stage_heads(const HashOp<T>& op, const Shared& shared, int32_t first,
                                   int32_t query_head, T* tile) {
  const int32_t dim = op.cache.head_dim, half = dim / 2, row = own_row(), piece = own_piece();
  if (8 * piece >= half || shared.seat[row] < 0) return;
  const int64_t token = first + row;
  T* head = op.q + token * op.q_stride + query_head * dim;
  RopePiece<T> x = load_piece(head, half, piece);
  rotate(x, load_angles(op.angles + token * dim, half, piece));
  store_piece(tile + row * (dim + kRowPad), half, piece, x);
  store_piece(head, half, piece, x);
}

template <typename T>
__device__ inline void stage_keys(const HashOp<T>& op, const Shared& shared, int32_t first,
                                  int32_t kv_head, T* tile) {
  const int32_t dim = op.cache.head_dim, half = dim / 2, row = own_row(), piece = own_piece();
  if (8 * piece >= half || shared.seat[row] < 0) return;
  const int64_t token = first + row;
  RopePiece<T> x = load_piece(op.k + token * op.k_stride + kv_head * dim, half, piece);
  rotate(x, load_angles(op.angles + token * dim, half, piece));
  store_piece(tile + row * (dim + kRowPad), half, piece, x);
}

// A thread's piece of the values, asked for with the keys' and stored with them.
template <typename T>
__device__ inline void load_value(const HashOp<T>& op, const Shared& shared, int32_t first,
                                  int32_t kv_head, RopePiece<T>& value) {
  const int32_t dim = op.cache.head_dim, half = dim / 2, row = own_row(), piece = own_piece();
  if (8 * piece >= half || shared.seat[row] < 0) return;
  value = load_piece(op.v + (first + row) * op.v_stride + kv_head * dim, half, piece);
}

// K and V into the cache, by the threads that staged them: nothing waits for it.
template <typename T>
__device__ inline void store_token(const HashOp<T>& op, const Shared& shared, int32_t kv_head,
                                   const T* tile, const RopePiece<T>& value) {
  const int32_t dim = op.cache.head_dim, half = dim / 2, row = own_row(), piece = own_piece();
  if (8 * piece >= half || shared.seat[row] < 0) return;
  const int64_t at = (int64_t{shared.block[row]} * op.cache.kv_heads + kv_head) * kBlockSize +
                     shared.position[row] % kBlockSize;
  store_piece(op.cache.v + at * dim, half, piece, value);
  store_piece(op.cache.k + at * dim, half, piece,
              load_piece(tile + row * (dim + kRowPad), half, piece));
}

// Summaries of the blocks that the tile's tokens close. keys: the tile's, behind a barrier.
template <typename T>
__device__ inline void summarise_closed(const HashOp<T>& op, const Shared& shared, int32_t first,
                                        int32_t kv_head, const T* keys) {
  const Cache<T>& cache = op.cache;
  const int32_t dim = cache.head_dim;
  for (int32_t i = threadIdx.x; i < kTokens * dim; i += kThreads) {
    const int32_t row = i / dim, lane = i % dim;  // half the lanes for K, half for V
    if (shared.seat[row] < 0 || shared.position[row] % kBlockSize != kBlockSize - 1) continue;
    const int64_t block = int64_t{shared.block[row]} * cache.kv_heads + kv_head;
    const bool value = lane >= dim / 2;
    const T* fresh =
        value ? op.v + (first + row) * op.v_stride + kv_head * dim : keys + row * (dim + kRowPad);
    summarise<32>((value ? cache.v : cache.k) + block * kBlockSize * dim, kBlockSize - 1, dim,
                  fresh, 0, value ? lane - dim / 2 : lane,
                  (value ? cache.mean_v : cache.mean_k) + block * dim);
  }
}

template <typename T>
__global__ __launch_bounds__(kThreads) void hash_kernel(const HashOp<T> op, int32_t group) {
  const Cache<T>& cache = op.cache;
  const int32_t dim = cache.head_dim;
  const int32_t blocks = gridDim.x, rank = blockIdx.x, kv_head = blockIdx.y;
  const int32_t first = blockIdx.z * kTokens, thread = threadIdx.x;
  const int32_t stride = dim + kRowPad;
  const Memory<T> memory = carve<T>(dim);
  Shared& shared = *memory.shared;
  if (thread == 0) shared.mailbox.open();
  __syncwarp();
  ptx::cluster_arrive();

  // Every load before the barrier is on its way at once; only what the weights' addresses need is
  // waited for before these are asked for.
  constexpr int32_t kWords = sizeof(LayerEncoder) / sizeof(uint64_t);
  if (thread < kPlanes * kWords)
    reinterpret_cast<uint64_t*>(shared.encoder)[thread] =
        reinterpret_cast<const uint64_t*>(op.encoders)[thread];
  if (thread < kTokens) {
    const int32_t token = first + thread;
    const bool there = token < op.tokens.count;
    shared.seat[thread] = there ? op.tokens.seat[token] : -1;
    shared.position[thread] = there ? op.tokens.position[token] : 0;
    shared.plane[thread] = -1;
  }
  Query query;
  if (thread < op.queries.count) query = op.queries.list[thread];
  __syncthreads();
  for (int32_t i = thread; i < op.queries.count; i += kThreads) {
    if (i != thread) query = op.queries.list[i];
    const int32_t row = query.token - first;
    if (row < 0 || row >= kTokens) continue;
    if (query.mode != kQuerySparse && query.mode != kQueryTail) continue;
    shared.query[row] = i;
    shared.plane[row] = query.plane;
  }
  __syncthreads();
  const LayerEncoder(&encoder)[kPlanes] = shared.encoder;
  bool asked[kPlanes] = {};  // some query of the tile scores with the plane
#pragma unroll
  for (int row = 0; row < kTokens; row++)
#pragma unroll
    for (int p = 0; p < kPlanes; p++) asked[p] |= shared.plane[row] == p;
  bool by_mlp = false;  // some plane's key codes take every query head's weights
#pragma unroll
  for (int p = 0; p < kPlanes; p++) by_mlp |= encoder[p].kind == kMlp && cache.codes[p] != nullptr;
  const int32_t bits = min(kMaxLinearBits, 32 * cache.code_words);  // room of a sum

  Units units;
  const auto matrix = [&](int32_t slot, int32_t unit) {
    const LinearAsymWeights& linear = encoder[units.plane(unit)].linear;
    return slot == group ? head_matrix(linear.key, kv_head, dim, linear.bits)
                         : head_matrix(linear.query, kv_head * group + slot, dim, linear.bits);
  };
  Weights<kPrefetched> weights;
  const auto ask = [&](int32_t slot) {
#pragma unroll
    for (int p = 0; p < kPlanes; p++) {
      const bool wanted = slot == group ? cache.codes[p] != nullptr : asked[p];
      const bool here = encoder[p].kind == kLinearAsym && wanted;
      units.words[p] = here ? encoder[p].linear.bits / 32 : 0;
    }
    const int32_t unit = warp_id();
    if (unit < units.count()) load_weights<true>(matrix(slot, unit), units.word(unit), 0, weights);
  };
  if (rank <= group) ask(rank);
  ptx::let_next_start();
  if (rank < group && by_mlp) prefetch_mlp(shared, dim, kv_head * group + rank);
  if (thread < kTokens && shared.seat[thread] >= 0)
    shared.block[thread] = op.tokens.tables[int64_t{shared.seat[thread]} * op.tokens.table_stride +
                                            shared.position[thread] / kBlockSize];
  __syncthreads();
  ptx::wait_for_inputs();

#pragma unroll 1
  for (int32_t slot = rank; slot <= group; slot += blocks) {
    const bool is_key = slot == group;
    const int32_t query_head = kv_head * group + slot;
    if (slot != rank) ask(slot);
    if (!is_key) stage_heads(op, shared, first, query_head, memory.tile);
    RopePiece<T> value;
    if (is_key) load_value(op, shared, first, kv_head, value);
    if (is_key || by_mlp) stage_keys(op, shared, first, kv_head, memory.tile + kTokens * stride);
    __syncthreads();
    if (slot == rank) ptx::cluster_wait();  // every block's mailbox is open

#pragma unroll 1
    for (int32_t unit = warp_id(); unit < units.count(); unit += kThreads / kWarp) {
      const int32_t plane = units.plane(unit), word = units.word(unit);
      if (unit != warp_id()) load_weights<true>(matrix(slot, unit), word, 0, weights);
      const Rows<1, T> rows(memory.tile + (is_key ? kTokens * stride : 0), stride);
      Sums z[1];
      project_from<true>(matrix(slot, unit), word, weights, rows.row, z);
      if (is_key) {
        store_words(z[0], 0, kTokens, [&](int32_t row, uint32_t code) {
          if (shared.seat[row] < 0) return;
          const int64_t at = (int64_t{shared.block[row]} * cache.kv_heads + kv_head) * kBlockSize +
                             shared.position[row] % kBlockSize;
          cache.codes[plane][at * cache.code_words + word] = code;
        });
        continue;
      }
#pragma unroll
      for (int t = 0; t < 2; t++) {
        const int32_t row = 2 * lane_column() + t;
        if (shared.plane[row] != plane) continue;
        float* to =
            memory.sums + (row / blocks * group + slot) * bits + 32 * word + 4 * lane_group();
        ptx::send(reinterpret_cast<float4*>(to), &shared.mailbox, row % blocks,
                  make_float4(softsign(z[0].at(t, 0)), softsign(z[0].at(t, 1)),
                              softsign(z[0].at(t, 2)), softsign(z[0].at(t, 3))));
      }
    }

    if (!is_key && by_mlp) {
#pragma unroll 1
      for (int32_t p = 0; p < kPlanes; p++) {
        if (encoder[p].kind != kMlp || cache.codes[p] == nullptr) continue;
        const int32_t words = encoder[p].mlp.bits / 32;
        encode_mlp(encoder[p].mlp, query_head, dim, memory.tile, stride, 2 * kTokens, memory.hidden,
                   [&](int32_t token, int32_t word, uint32_t code) {
                     const int32_t row = token % kTokens;
                     if (shared.seat[row] < 0) return;
                     if (token < kTokens) {
                       if (shared.plane[row] != p) return;
                       op.codes.words[(int64_t{shared.query[row]} * cache.kv_heads + kv_head) *
                                          op.codes.stride +
                                      slot * words + word] = code;
                       return;
                     }
                     const int64_t at =
                         (int64_t{shared.block[row]} * cache.kv_heads + kv_head) * kBlockSize +
                         shared.position[row] % kBlockSize;
                     cache.codes[p][at * cache.code_words + slot * words + word] = code;
                   });
      }
    }
    if (is_key) {
      store_token(op, shared, kv_head, memory.tile + kTokens * stride, value);
      summarise_closed(op, shared, first, kv_head, memory.tile + kTokens * stride);
    }
    __syncthreads();
  }
  if (rank > group) ptx::cluster_wait();

  // The tokens that this block owns.
  if (thread == 0) {
    uint32_t sums = 0;
    for (int32_t row = rank; row < kTokens; row += blocks)
      if (shared.plane[row] >= 0 && encoder[shared.plane[row]].kind == kLinearAsym)
        sums += group * encoder[shared.plane[row]].linear.bits;
    shared.mailbox.expect(sums * sizeof(float));
  }
  for (int32_t i = warp_id(); i < kTokens / blocks; i += kThreads / kWarp) {
    const int32_t row = i * blocks + rank;
    if (shared.plane[row] < 0) continue;
    const LayerEncoder& own = encoder[shared.plane[row]];
    if (own.kind != kLinearAsym) continue;
    shared.mailbox.wait();
    const float* sums = memory.sums + i * group * bits;
    quantise(
        own.linear.bits / 32,
        [&](int32_t bit) {
          float u = 0.f;
#pragma unroll 8
          for (int32_t g = 0; g < group; g++) u = __fadd_rn(u, sums[g * bits + bit]);
          return u;
        },
        op.codes.words + (int64_t{shared.query[row]} * cache.kv_heads + kv_head) * op.codes.stride);
  }
}

// Blocks of a cluster: a power of two up to 8, the most that every GPU of sm_90 places.
int32_t cluster_blocks(int32_t group) {
  int32_t blocks = 2;
  while (blocks < group + 1 && blocks < 8) blocks *= 2;
  return blocks;
}

// Whether the code that runs here was compiled with clusters: that of sm_80 serves newer GPUs, too.
template <typename T>
bool has_clusters() {
  static const bool has = [] {
    cudaFuncAttributes attributes;
    CUDA_CHECK(cudaFuncGetAttributes(&attributes, hash_kernel<T>));
    return attributes.ptxVersion >= 90;
  }();
  return has;
}

}  // namespace

template <typename T>
void hash(cudaStream_t stream, const HashOp<T>& op, bool programmatic) {
  if (op.tokens.count <= 0) return;
  const bool clusters = has_clusters<T>();
  const int32_t group = op.cache.query_heads / op.cache.kv_heads;
  const int32_t blocks = clusters ? cluster_blocks(group) : 1;
  const int32_t bits =
      kMaxLinearBits < 32 * op.cache.code_words ? kMaxLinearBits : 32 * op.cache.code_words;
  const size_t bytes = sizeof(Shared) + tile_bytes(op.cache.head_dim, sizeof(T)) +
                       sizeof(float) * (kMlpFloats + size_t(kTokens / blocks) * group * bits);
  allow_shared_memory(hash_kernel<T>, bytes);
  prefer_shared_memory(hash_kernel<T>);
  cudaLaunchAttribute attributes[2] = {};
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(blocks, op.cache.kv_heads, (op.tokens.count + kTokens - 1) / kTokens);
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = bytes;
  config.stream = stream;
  config.attrs = attributes;
  if (clusters) {
    cudaLaunchAttribute& cluster = attributes[config.numAttrs++];
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = blocks;
    cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  }
  if (clusters && programmatic) {
    cudaLaunchAttribute& early = attributes[config.numAttrs++];
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
  }
  CUDA_CHECK(cudaLaunchKernelEx(&config, hash_kernel<T>, op, group));
}

template void hash(cudaStream_t, const HashOp<__nv_bfloat16>&, bool);
template void hash(cudaStream_t, const HashOp<__half>&, bool);

}  // namespace spotlight::gpu
