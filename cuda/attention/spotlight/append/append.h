// Append on the GPU: what a step's tokens leave in the cache, one launch a layer. RoPE on k; K and
// V as stored; the summary of every block that closes; codes in each plane that carries an artifact
// with codes of the layer, derived from the stored K so that a rehash gives the same bits. Decode
// steps take hash/ instead, where this and the queries' share are one launch.
#pragma once

#include <cstdint>

#include "attention/gpu/view.h"

struct CUstream_st;
typedef struct CUstream_st* cudaStream_t;

namespace spotlight::gpu {

// T: __nv_bfloat16 or __half. Tokens of one row of the batch follow each other with ascending
// positions; how rows are cut into steps does not change a bit of what is stored. head_dim is a
// multiple of 16 up to 256. k, v, angles and the cache are 16-byte aligned, strides multiples of 8.
template <typename T>
struct AppendOp {
  Cache<T> cache;
  Tokens tokens;
  const T* k = nullptr;                    // [count, kv_heads, head_dim] before RoPE
  const T* v = nullptr;                    // [count, kv_heads, head_dim]
  int64_t k_stride = 0, v_stride = 0;      // elements from one token to the next
  const float* angles = nullptr;           // [count, head_dim], of make_angles
  const LayerEncoder* encoders = nullptr;  // [kPlanes] in device memory; null: store no codes
};
template <typename T>
void append(cudaStream_t stream, const AppendOp<T>& op);

// angles: [count, head_dim] floats, a row the cosines then the sines of positions[t], as rope_table
// of model/rope.h. inverse: [head_dim / 2] radians a token. All in device memory. Once a step.
void make_angles(cudaStream_t stream, const double* inverse, float magnitude,
                 const int32_t* positions, int32_t count, int32_t head_dim, float* angles);

}  // namespace spotlight::gpu
