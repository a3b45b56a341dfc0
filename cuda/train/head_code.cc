#include "train/head_code.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "sampling/exact.h"
#include "train/multiply.h"

namespace spotlight::train {
namespace {

inline float logistic(float x) {
  const float e = exact::exp_straight(x < 0 ? x : -x);
  const float larger = 1 / (1 + e);
  return x < 0 ? e * larger : larger;
}

// sum[j] = sum over rows of x[row, j].
void sum_rows(const float* x, int32_t rows, int32_t columns, float* sum) {
  std::fill_n(sum, columns, 0.f);
  for (int32_t i = 0; i < rows; i++)
    for (int32_t j = 0; j < columns; j++) sum[j] += x[int64_t{i} * columns + j];
}

class Linear final : public HeadCode {
 public:
  Linear(int32_t head_dim, int32_t bits) : head_dim_(head_dim), bits_(bits) {}
  int64_t parameters() const override { return int64_t{head_dim_} * bits_; }
  int64_t scratch_floats(int32_t) const override { return 0; }
  void forward(const float* w, const float* x, int64_t stride, int32_t rows, float* z,
               float*) const override {
    multiply({x, stride, 1}, w, bits_, z, bits_, rows, bits_, head_dim_, false);
  }
  void backward(const float*, const float* x, int64_t stride, int32_t rows, const float* dz,
                float* gradient, float*) const override {
    multiply({x, 1, stride}, dz, bits_, gradient, bits_, head_dim_, bits_, rows, false);
  }

 private:
  int32_t head_dim_, bits_;
};

class Mlp final : public HeadCode {
 public:
  Mlp(int32_t head_dim, int32_t hidden, int32_t bits)
      : head_dim_(head_dim), hidden_(hidden), bits_(bits) {}
  int64_t parameters() const override { return b2() + bits_; }
  // Hidden values before and after the activation, their gradient, and W2 transposed.
  int64_t scratch_floats(int32_t rows) const override {
    return 3 * int64_t{rows} * hidden_ + int64_t{hidden_} * bits_;
  }
  void forward(const float* p, const float* x, int64_t stride, int32_t rows, float* z,
               float* scratch) const override {
    float* before = scratch;
    float* y = scratch + int64_t{rows} * hidden_;
    hide(p, x, stride, rows, before, y);
    for (int32_t i = 0; i < rows; i++) {
      float* row = z + int64_t{i} * bits_;
      std::memcpy(row, p + b2(), bits_ * sizeof(float));
      if (hidden_ != bits_) continue;
      for (int32_t j = 0; j < bits_; j++) row[j] += y[int64_t{i} * hidden_ + j];
    }
    multiply({y, hidden_, 1}, p + w2(), bits_, z, bits_, rows, bits_, hidden_, true);
  }
  void backward(const float* p, const float* x, int64_t stride, int32_t rows, const float* dz,
                float* gradient, float* scratch) const override {
    const int64_t size = int64_t{rows} * hidden_;
    float *before = scratch, *y = before + size, *dy = y + size, *w2t = dy + size;
    hide(p, x, stride, rows, before, y);
    multiply({y, 1, hidden_}, dz, bits_, gradient + w2(), bits_, hidden_, bits_, rows, false);
    sum_rows(dz, rows, bits_, gradient + b2());
    transpose(p + w2(), bits_, w2t, hidden_, hidden_, bits_);
    const bool residual = hidden_ == bits_;
    if (residual) std::memcpy(dy, dz, size * sizeof(float));
    multiply({dz, bits_, 1}, w2t, hidden_, dy, hidden_, rows, hidden_, bits_, residual);
    for (int64_t i = 0; i < size; i++) {
      const float s = logistic(before[i]);
      dy[i] *= s * (1 + before[i] * (1 - s));
    }
    multiply({x, 1, stride}, dy, hidden_, gradient, hidden_, head_dim_, hidden_, rows, false);
    sum_rows(dy, rows, hidden_, gradient + b1());
  }

 private:
  int64_t b1() const { return int64_t{head_dim_} * hidden_; }
  int64_t w2() const { return b1() + hidden_; }
  int64_t b2() const { return w2() + int64_t{hidden_} * bits_; }
  void hide(const float* p, const float* x, int64_t stride, int32_t rows, float* before,
            float* y) const {
    for (int32_t i = 0; i < rows; i++)
      std::memcpy(before + int64_t{i} * hidden_, p + b1(), hidden_ * sizeof(float));
    multiply({x, stride, 1}, p, hidden_, before, hidden_, rows, hidden_, head_dim_, true);
    for (int64_t i = 0; i < int64_t{rows} * hidden_; i++) y[i] = before[i] * logistic(before[i]);
    if (hidden_ != head_dim_) return;
    for (int32_t i = 0; i < rows; i++)
      for (int32_t j = 0; j < hidden_; j++) y[int64_t{i} * hidden_ + j] += x[i * stride + j];
  }

  int32_t head_dim_, hidden_, bits_;
};

}  // namespace

std::unique_ptr<HeadCode> make_head_code(const Recipe& recipe, int32_t head_dim) {
  if (recipe.encoder == CodeKind::kMlp)
    return std::make_unique<Mlp>(head_dim, recipe.hidden, recipe.bits);
  return std::make_unique<Linear>(head_dim, recipe.bits);
}

}  // namespace spotlight::train
