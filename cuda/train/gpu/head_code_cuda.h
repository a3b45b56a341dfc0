// head_code.h on a GPU: the same codes, forward and backward, for several heads at once. A gradient
// comes in parts, a fixed number of vectors each, which the layer adds up in their order: that a
// key's and a query's side share parameters (mlp) is then a longer sum and nothing else.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>

#include "train/recipe.h"

namespace spotlight::train {

// x of head h and row i is data[h * head + i * row ...], head_dim floats, on the device.
struct HeadVectors {
  const float* data = nullptr;
  int64_t row = 0, head = 0;
  int32_t heads = 0, rows = 0;
};

class CudaHeadCode {
 public:
  virtual ~CudaHeadCode() = default;
  // Each head's parameters lie parameters() floats behind those of the one before. z [heads, rows,
  // bits].
  virtual void forward(const float* weights, const HeadVectors& x, float* z) = 0;
  // Parts of d loss / d parameters, from dz [heads, rows, bits]: head h's part p goes to parts[h *
  // stride + p * parameters() ...], p < code_parts(rows).
  virtual void backward(const float* weights, const HeadVectors& x, const float* dz, float* parts,
                        int64_t stride) = 0;
};

// How many parts a gradient over `rows` vectors has.
int32_t code_parts(int32_t rows);

// Takes all the memory it will need for `heads` heads at once. Throws OUT_OF_MEMORY.
std::unique_ptr<CudaHeadCode> make_cuda_head_code(const Recipe& recipe, int32_t head_dim,
                                                  int32_t heads, cudaStream_t stream);

}  // namespace spotlight::train
