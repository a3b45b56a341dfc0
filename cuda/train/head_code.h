// What turns vectors of one head into code values z, and its gradients: the linear code (z = x W)
// and the paper's MLP (y = SiLU(x W1 + b1) [+ x], z = y W2 + b2 [+ y], a residual where widths
// match). Parameters of a head are one run of floats, so that sums and updates need not know the
// code.
#pragma once

#include <cstdint>
#include <memory>

#include "train/recipe.h"

namespace spotlight::train {

class HeadCode {
 public:
  virtual ~HeadCode() = default;
  // Floats of one head's parameters: W [head_dim, bits], or W1 [head_dim, hidden], b1, W2 [hidden,
  // bits], b2, one after the other.
  virtual int64_t parameters() const = 0;
  virtual int64_t scratch_floats(int32_t rows) const = 0;
  // z [rows, bits] of x, whose rows are x_stride floats apart.
  virtual void forward(const float* parameters, const float* x, int64_t x_stride, int32_t rows,
                       float* z, float* scratch) const = 0;
  // gradient = d loss / d parameters, from dz [rows, bits]; overwrites what it holds.
  virtual void backward(const float* parameters, const float* x, int64_t x_stride, int32_t rows,
                        const float* dz, float* gradient, float* scratch) const = 0;
};

std::unique_ptr<HeadCode> make_head_code(const Recipe& recipe, int32_t head_dim);

}  // namespace spotlight::train
