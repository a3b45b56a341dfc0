// What the kernels of one dense launch are given: device pointers of a plan and of a layer. A head
// dimension and kind is a file of its own, so that each compiles in seconds; this is what they
// share.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace spotlight::gpu {

// A layer's tensors, as dense_attention() takes them.
template <typename T>
struct DenseTensors {
  const T* k = nullptr;
  const T* v = nullptr;
  const int32_t* tables = nullptr;
  const T* q = nullptr;
  int64_t q_stride = 0;
  T* out = nullptr;
  int32_t query_heads = 0, kv_heads = 0;
  int32_t tokens = 0;
  float scale = 0;
};

// Tiles of queries dealt to multiprocessors (schedule.h's PrefillSchedule on the device).
struct PrefillWork {
  const int32_t* work_start = nullptr;  // [multiprocessors + 1]
  const int32_t *tile = nullptr, *head = nullptr, *first = nullptr, *tokens = nullptr,
                *context = nullptr, *table = nullptr, *row = nullptr;  // [work]
};

// The same rows for kernels that take a list of tiles of one KV head's whole group (FlashAttention
// 2): `tiles` pairs of row and tile.
struct PrefillTiles {
  const int32_t *row = nullptr, *tile = nullptr;                          // [tiles]
  const int32_t *first = nullptr, *tokens = nullptr, *context = nullptr;  // [rows]
  const int32_t* table = nullptr;                                         // [rows + 1]
  const int32_t* zero = nullptr;                                          // [tiles]
  int32_t tiles = 0, rows = 0;
};

// Pieces of decode rows (DecodeSchedule on the device) and where their partial results go.
struct DecodePieces {
  const int32_t *token = nullptr, *context = nullptr;  // [rows]
  const int32_t *table = nullptr, *part = nullptr;     // [rows + 1]
  const int32_t *row = nullptr, *chunk = nullptr;      // [pieces]
  const int32_t* zero = nullptr;                       // [pieces]
  const uint8_t* valid = nullptr;                      // [pieces]
  const int32_t* chunk_tokens = nullptr;               // one number
  float* values = nullptr;  // [pieces, query_heads, head_dim], each normalised by its own sum
  float* lse = nullptr;     // [pieces, query_heads] log2 of the sum of 2^logit
  int32_t pieces = 0, rows = 0;
};

// Prefill by FlashAttention 3: compute capability 9.0 only. D: 64, 128, 256. Queries of a tile:
inline constexpr int32_t hopper_tile(int32_t head_dim) { return head_dim == 64 ? 192 : 128; }
template <typename T, int D>
void prefill_hopper(const DenseTensors<T>& tensors, const PrefillWork& work, cudaStream_t stream);

// Prefill by FlashAttention 2, on any GPU. Packed queries (token, head of the group) of a tile:
inline constexpr int32_t ampere_tile(int32_t head_dim) { return head_dim == 256 ? 64 : 128; }
template <typename T, int D>
void prefill_ampere(const DenseTensors<T>& tensors, const PrefillTiles& tiles, cudaStream_t stream);

// Partial results of decode rows. D: 64, 96, 128, 256 (FlashInfer's all but 96).
template <typename T, int D>
void decode_pieces(const DenseTensors<T>& tensors, const DecodePieces& pieces, cudaStream_t stream);

}  // namespace spotlight::gpu
