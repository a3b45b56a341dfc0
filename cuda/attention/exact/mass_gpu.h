// Softmax mass of one query's KV head over its whole context, on the GPU: what a probe of a sampled
// step compares its selection with. Launched between the kernels of a step that no graph runs.
#pragma once

#include <cstdint>

#include "attention/gpu/view.h"

struct CUstream_st;
typedef struct CUstream_st* cudaStream_t;

namespace spotlight::gpu {

// T: __nv_bfloat16 or __half.
template <typename T>
struct MassOp {
  Cache<T> cache;                  // of the layer
  const int32_t* table = nullptr;  // the sequence's block table
  int32_t context = 0;
  int32_t head = 0;            // KV head
  const T* q = nullptr;        // the token's [query_heads, head_dim], post-RoPE
  float* mass = nullptr;       // [context], sums to the group's size
  float* workspace = nullptr;  // mass_workspace() floats
};
size_t mass_workspace(int32_t group, int32_t context);

template <typename T>
void softmax_mass(cudaStream_t stream, const MassOp<T>& op);

}  // namespace spotlight::gpu
