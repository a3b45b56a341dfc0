// Dense decode by cuDNN: attention of one query a sequence over the paged cache, or over contiguous
// keys and values, where cuDNN is fastest. The peer that benchmarks compare with; sequence i's
// block table is row i.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>

namespace spotlight::gpu {

enum class CudnnLayout {
  kPaged,       // [blocks, kv_heads, 64, head_dim] and block tables
  kContiguous,  // [batch, kv_heads, context, head_dim]
};

struct CudnnShape {
  CudnnLayout layout = CudnnLayout::kPaged;
  bool half = false;  // fp16 instead of bf16
  int32_t batch = 0, query_heads = 0, kv_heads = 0, head_dim = 0;
  int32_t context = 0;       // of every sequence, at most
  int32_t blocks = 0;        // of the cache; paged only
  int32_t table_stride = 0;  // paged only, >= ceil(context / 64)
};

class CudnnDecode {
 public:
  // Plans for the current device. Throws DEVICE_UNAVAILABLE without cuDNN, INTERNAL when cuDNN
  // refuses the shape, OUT_OF_MEMORY.
  explicit CudnnDecode(const CudnnShape& shape);
  ~CudnnDecode();
  CudnnDecode(const CudnnDecode&) = delete;
  CudnnDecode& operator=(const CudnnDecode&) = delete;

  // All pointers on the device. q, out: [batch, query_heads, head_dim], contiguous, 16-byte
  // aligned; tables: [batch, table_stride]; contexts: [batch], 1 to the shape's. Contiguous layout:
  // tables and contexts are not looked at, every context is the shape's. One thread at a time; may
  // be captured.
  void attend(const void* k, const void* v, const int32_t* tables, const int32_t* contexts,
              const void* q, void* out, cudaStream_t stream) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace spotlight::gpu
