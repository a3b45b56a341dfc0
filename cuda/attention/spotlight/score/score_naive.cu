// The obvious score kernels: one thread a token, one thread a threshold count. What the shipped one
// is checked against and compared with.
#include <cuda_runtime.h>

#include "attention/spotlight/score/bits.cuh"
#include "attention/spotlight/score/score_gpu.h"
#include "device/cuda/runtime/cuda_error.h"

namespace spotlight::gpu {
namespace {

// A CTA is 64 threads and one block of one query and virtual head at a time.
__global__ void score_tokens(const ScoreOp op) {
  const RetrievalShape& shape = op.workspace.shape;
  const int32_t heads = shape.virtual_heads(), selections = shape.selections();
  for (int32_t unit = blockIdx.y; unit < op.queries.count * heads; unit += gridDim.y) {
    const int32_t i = unit / heads, head = unit % heads;
    const Query query = op.queries.list[i];
    if (op.queries.shares[i + 1].score_start == op.queries.shares[i].score_start) continue;
    const int32_t start = op.queries.block_start[i];
    const int32_t blocks = op.queries.block_start[i + 1] - start;
    const uint32_t* code = op.query_codes + static_cast<int64_t>(unit) * shape.query_words();
    for (int32_t block = blockIdx.x; block < blocks; block += gridDim.x) {
      const int64_t entry = op.tables[static_cast<int64_t>(query.seat) * op.table_stride + block];
      const int64_t token = (entry * shape.kv_heads + head / selections) * kBlockSize + threadIdx.x;
      const uint32_t* key =
          op.codes[query.plane] + token * op.code_words + head % selections * shape.words();
      const int32_t score = score_words(key, code, shape.words(), shape.magnitudes());
      const int64_t linear =
          static_cast<int64_t>(heads) * start + static_cast<int64_t>(head) * blocks + block;
      const int32_t position = block * kBlockSize + static_cast<int32_t>(threadIdx.x);
      const bool counts = position >= query.sink && position < query.context - query.recent;
      // The low half of the word is that of the token 32 before; halves are stored apart.
      reinterpret_cast<uint16_t*>(
          op.workspace.scores)[(linear * 32 + threadIdx.x % 32) * 2 + threadIdx.x / 32] =
          static_cast<uint16_t>(score);
      if (counts)
        for (int32_t bin = 0; bin <= score; bin++)
          atomicAdd(op.workspace.at_least + static_cast<int64_t>(unit) * shape.histogram() + bin,
                    1u);
    }
  }
}

}  // namespace

void score_naive(cudaStream_t stream, const ScoreOp& op) {
  if (op.queries.count == 0) return;
  score_tokens<<<dim3(256, 64), kBlockSize, 0, stream>>>(op);
  CUDA_CHECK_LAUNCH("score_tokens");
}

}  // namespace spotlight::gpu
