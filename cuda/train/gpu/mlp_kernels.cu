// Elementwise layers of the mlp and the sums of its biases' gradients. Each value has one thread
// and each sum one order, so that a training ends in the same bits every time.
#include "device/cuda/runtime/cuda_error.h"
#include "train/gpu/mlp_kernels.h"

namespace spotlight::train::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kColumns = 32, kLanes = kThreads / kColumns;  // of a block that sums rows

struct Place {
  int64_t head, row, column;
};

// A head's values lie along x, heads along y.
__device__ bool place(const Values& values, Place* at) {
  const int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (i >= int64_t{values.rows} * values.columns) return false;
  *at = {blockIdx.y, i / values.columns, i % values.columns};
  return true;
}

__device__ int64_t index(const Values& values, const Place& at) {
  return (at.head * values.rows + at.row) * values.columns + at.column;
}

__device__ float value(const Operand& x, const Place& at) {
  return x.data[at.head * x.outer + at.row * x.row + at.column * x.column];
}

__device__ float logistic(float x) {
  const float e = expf(-fabsf(x)), larger = 1 / (1 + e);
  return x < 0 ? e * larger : larger;
}

__global__ void activate_kernel(Values values, Operand bias, Operand residual, float* before,
                                float* y) {
  Place at;
  if (!place(values, &at)) return;
  const int64_t i = index(values, at);
  const float x = before[i] + value(bias, {at.head, 0, at.column});
  before[i] = x;
  y[i] = x * logistic(x) + (residual.data != nullptr ? value(residual, at) : 0.f);
}

__global__ void add_bias_kernel(Values values, Result z, Operand bias, Operand residual) {
  Place at;
  if (!place(values, &at)) return;
  float* own = z.data + at.head * z.outer + at.row * z.row + at.column;
  *own +=
      value(bias, {at.head, 0, at.column}) + (residual.data != nullptr ? value(residual, at) : 0.f);
}

__global__ void silu_slope_kernel(Values values, const float* before, Operand residual, float* dy) {
  Place at;
  if (!place(values, &at)) return;
  const int64_t i = index(values, at);
  const float x = before[i], s = logistic(x);
  const float slope = dy[i] + (residual.data != nullptr ? value(residual, at) : 0.f);
  dy[i] = slope * (s * (1 + x * (1 - s)));
}

__global__ void __launch_bounds__(kThreads)
    sum_rows_kernel(Values values, Operand x, int32_t part, Result out) {
  __shared__ float sums[kLanes][kColumns];
  const int lane = threadIdx.x / kColumns, own = threadIdx.x % kColumns;
  const int64_t head = blockIdx.z, column = blockIdx.y * int64_t{kColumns} + own;
  const int32_t from = static_cast<int32_t>(blockIdx.x) * part;
  const int32_t to = min(values.rows, from + part);
  float sum = 0;
  if (column < values.columns)
    for (int32_t row = from + lane; row < to; row += kLanes) sum += value(x, {head, row, column});
  sums[lane][own] = sum;
  __syncthreads();
  if (lane > 0 || column >= values.columns) return;
  for (int l = 1; l < kLanes; l++) sum += sums[l][own];
  out.data[head * out.outer + blockIdx.x * out.inner + column] = sum;
}

dim3 grid_of(const Values& values) {
  const int64_t size = int64_t{values.rows} * values.columns;
  return {static_cast<unsigned>((size + kThreads - 1) / kThreads),
          static_cast<unsigned>(values.heads)};
}

}  // namespace

void activate(const Values& values, const Operand& bias, const Operand& residual, float* before,
              float* y, cudaStream_t stream) {
  activate_kernel<<<grid_of(values), kThreads, 0, stream>>>(values, bias, residual, before, y);
  CUDA_CHECK_LAUNCH("activate");
}

void add_bias(const Values& values, const Result& z, const Operand& bias, const Operand& residual,
              cudaStream_t stream) {
  add_bias_kernel<<<grid_of(values), kThreads, 0, stream>>>(values, z, bias, residual);
  CUDA_CHECK_LAUNCH("add_bias");
}

void silu_slope(const Values& values, const float* before, const Operand& residual, float* dy,
                cudaStream_t stream) {
  silu_slope_kernel<<<grid_of(values), kThreads, 0, stream>>>(values, before, residual, dy);
  CUDA_CHECK_LAUNCH("silu_slope");
}

void sum_rows(const Values& values, const Operand& x, int32_t part, const Result& out,
              cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>((values.rows + part - 1) / part),
                  static_cast<unsigned>((values.columns + kColumns - 1) / kColumns),
                  static_cast<unsigned>(values.heads));
  sum_rows_kernel<<<grid, kThreads, 0, stream>>>(values, x, part, out);
  CUDA_CHECK_LAUNCH("sum_rows");
}

}  // namespace spotlight::train::kernels
