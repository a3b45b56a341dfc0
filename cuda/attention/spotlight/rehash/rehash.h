// Rehash on the GPU: one plane's codes of cached blocks anew, from the stored K, bit for bit as
// append would have made them for this artifact. A launch is one layer and one range of blocks, so
// that the host paces it between steps on a low-priority stream.
#pragma once

#include <cstdint>

#include "attention/gpu/view.h"

struct CUstream_st;
typedef struct CUstream_st* cudaStream_t;

namespace spotlight::gpu {

// T: __nv_bfloat16 or __half.
template <typename T>
struct RehashOp {
  Cache<T> cache;                          // of the layer
  const LayerEncoder* encoders = nullptr;  // [kPlanes] in device memory, of the layer
  int32_t plane = 0;
  const int32_t* blocks = nullptr;  // [count] block ids, in device memory
  const int32_t* filled = nullptr;  // [count] tokens of each, in device memory
  int32_t count = 0;                // blocks of this launch
};
// Nothing happens in a layer that the plane's artifact has no codes of.
template <typename T>
void rehash(cudaStream_t stream, const RehashOp<T>& op);

}  // namespace spotlight::gpu
