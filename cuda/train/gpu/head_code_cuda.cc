#include "train/gpu/head_code_cuda.h"

#include <algorithm>

#include "device/cuda/runtime/device_memory.h"
#include "train/gpu/kernels.h"
#include "train/gpu/mlp_kernels.h"
#include "train/head_code.h"

namespace spotlight::train {
namespace {

constexpr int32_t kPart = 512;         // vectors of a part of a gradient
constexpr int32_t kPiece = 8 * kPart;  // whose hidden layers are held at once

class CudaLinear final : public CudaHeadCode {
 public:
  CudaLinear(int32_t head_dim, int32_t bits, cudaStream_t stream)
      : head_dim_(head_dim), bits_(bits), stream_(stream) {}
  void forward(const float* weights, const HeadVectors& x, float* z) override {
    kernels::Product code;
    code.a = {x.data, x.row, 1, x.head, 0};
    code.b = {weights, bits_, 1, size(), 0};
    code.c = {z, bits_, int64_t{x.rows} * bits_, 0};
    code.m = x.rows;
    code.n = bits_;
    code.k = head_dim_;
    code.outer = x.heads;
    kernels::multiply(code, stream_);
  }
  void backward(const float*, const HeadVectors& x, const float* dz, float* parts,
                int64_t stride) override {
    kernels::Product gradient;
    gradient.a = {x.data, 1, x.row, x.head, 0};
    gradient.b = {dz, bits_, 1, int64_t{x.rows} * bits_, 0};
    gradient.c = {parts, bits_, stride, size()};
    gradient.m = head_dim_;
    gradient.n = bits_;
    gradient.k = x.rows;
    gradient.outer = x.heads;
    gradient.inner = code_parts(x.rows);
    gradient.split = kPart;
    kernels::multiply(gradient, stream_);
  }

 private:
  int64_t size() const { return int64_t{head_dim_} * bits_; }

  int32_t head_dim_, bits_;
  cudaStream_t stream_;
};

// Hidden layers of a piece of the vectors at a time, made again on the way back: what they take
// does not grow with the text.
class CudaMlp final : public CudaHeadCode {
 public:
  CudaMlp(const Recipe& recipe, int32_t head_dim, int32_t heads, cudaStream_t stream)
      : head_dim_(head_dim), hidden_(recipe.hidden), bits_(recipe.bits), stream_(stream) {
    const int64_t longest = std::max(recipe.sequence, recipe.rows);
    const auto values = static_cast<size_t>(heads * std::min<int64_t>(kPiece, longest) * hidden_);
    before_ = DeviceBuffer<float>(values);
    y_ = DeviceBuffer<float>(values);
    dy_ = DeviceBuffer<float>(values);
  }
  void forward(const float* weights, const HeadVectors& x, float* z) override {
    const int64_t head = int64_t{x.rows} * bits_;
    for (int32_t from = 0; from < x.rows; from += kPiece) {
      const HeadVectors piece = part(x, from);
      hide(weights, piece);
      float* out = z + int64_t{from} * bits_;
      kernels::Product code = product(piece.heads, piece.rows, bits_, hidden_);
      code.a = {y_.data(), hidden_, 1, hidden_size(piece), 0};
      code.b = {weights + w2(), bits_, 1, size(), 0};
      code.c = {out, bits_, head, 0};
      kernels::multiply(code, stream_);
      const kernels::Values values = {piece.heads, piece.rows, bits_};
      const kernels::Operand y = {y_.data(), hidden_, 1, hidden_size(piece), 0};
      kernels::add_bias(values, {out, bits_, head, 0}, {weights + b2(), 0, 1, size(), 0},
                        hidden_ == bits_ ? y : kernels::Operand{}, stream_);
    }
  }
  void backward(const float* weights, const HeadVectors& x, const float* dz, float* parts,
                int64_t stride) override {
    for (int32_t from = 0; from < x.rows; from += kPiece) {
      const HeadVectors piece = part(x, from);
      const kernels::Operand slopes = {dz + int64_t{from} * bits_, bits_, 1,
                                       int64_t{x.rows} * bits_, 0};
      float* out = parts + from / kPart * size();
      hide(weights, piece);
      const int64_t of_hidden = hidden_size(piece);
      const kernels::Values values = {piece.heads, piece.rows, hidden_};

      const kernels::Operand y_columns = {y_.data(), 1, hidden_, of_hidden, 0};
      add_up(y_columns, hidden_, slopes, bits_, piece, out + w2(), stride);
      kernels::sum_rows({piece.heads, piece.rows, bits_}, slopes, kPart,
                        {out + b2(), 0, stride, size()}, stream_);

      kernels::Product to_hidden = product(piece.heads, piece.rows, hidden_, bits_);
      to_hidden.a = slopes;
      to_hidden.b = {weights + w2(), 1, bits_, size(), 0};
      to_hidden.c = {dy_.data(), hidden_, of_hidden, 0};
      kernels::multiply(to_hidden, stream_);
      kernels::silu_slope(values, before_.data(), hidden_ == bits_ ? slopes : kernels::Operand{},
                          dy_.data(), stream_);

      const kernels::Operand x_columns = {piece.data, 1, piece.row, piece.head, 0};
      const kernels::Operand hidden_slopes = {dy_.data(), hidden_, 1, of_hidden, 0};
      add_up(x_columns, head_dim_, hidden_slopes, hidden_, piece, out, stride);
      kernels::sum_rows(values, hidden_slopes, kPart, {out + b1(), 0, stride, size()}, stream_);
    }
  }

 private:
  int64_t b1() const { return int64_t{head_dim_} * hidden_; }
  int64_t w2() const { return b1() + hidden_; }
  int64_t b2() const { return w2() + int64_t{hidden_} * bits_; }
  int64_t size() const { return b2() + bits_; }
  int64_t hidden_size(const HeadVectors& x) const { return int64_t{x.rows} * hidden_; }

  static HeadVectors part(HeadVectors x, int32_t from) {
    x.data += from * x.row;
    x.rows = std::min(kPiece, x.rows - from);
    return x;
  }
  static kernels::Product product(int32_t heads, int32_t m, int32_t n, int32_t k) {
    kernels::Product product;
    product.m = m;
    product.n = n;
    product.k = k;
    product.outer = heads;
    return product;
  }
  // A product summed over the vectors, [m, n] a part.
  void add_up(const kernels::Operand& a, int32_t m, const kernels::Operand& b, int32_t n,
              const HeadVectors& x, float* parts, int64_t stride) {
    kernels::Product sum = product(x.heads, m, n, x.rows);
    sum.a = a;
    sum.b = b;
    sum.c = {parts, n, stride, size()};
    sum.inner = code_parts(x.rows);
    sum.split = kPart;
    kernels::multiply(sum, stream_);
  }
  // before_ = x W1 + b1, y_ = SiLU(before_) [+ x].
  void hide(const float* weights, const HeadVectors& x) {
    kernels::Product hidden = product(x.heads, x.rows, hidden_, head_dim_);
    hidden.a = {x.data, x.row, 1, x.head, 0};
    hidden.b = {weights, hidden_, 1, size(), 0};
    hidden.c = {before_.data(), hidden_, hidden_size(x), 0};
    kernels::multiply(hidden, stream_);
    const kernels::Operand own = {x.data, x.row, 1, x.head, 0};
    kernels::activate({x.heads, x.rows, hidden_}, {weights + b1(), 0, 1, size(), 0},
                      hidden_ == head_dim_ ? own : kernels::Operand{}, before_.data(), y_.data(),
                      stream_);
  }

  int32_t head_dim_, hidden_, bits_;
  cudaStream_t stream_;
  DeviceBuffer<float> before_, y_, dy_;  // [heads, piece, hidden]
};

}  // namespace

int32_t code_parts(int32_t rows) { return (rows + kPart - 1) / kPart; }

std::unique_ptr<CudaHeadCode> make_cuda_head_code(const Recipe& recipe, int32_t head_dim,
                                                  int32_t heads, cudaStream_t stream) {
  if (recipe.encoder == CodeKind::kMlp)
    return std::make_unique<CudaMlp>(recipe, head_dim, heads, stream);
  return std::make_unique<CudaLinear>(head_dim, recipe.bits, stream);
}

}  // namespace spotlight::train
