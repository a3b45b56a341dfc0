// Matrix products by cuBLASLt. Which of its kernels serves a shape is asked once and kept: asking
// takes longer than a decode step's product. Rows come in a few buckets (step_shape.h), so there
// are few shapes.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>

#include "device/cuda/ops.h"
#include "device/cuda/runtime/cublaslt.h"
#include "device/cuda/runtime/device_memory.h"
#include "device/cuda/weights.h"

namespace spotlight {

class Matmul {
 public:
  // Opens cuBLASLt. Throws DEVICE_UNAVAILABLE.
  explicit Matmul(Dtype dtype);
  ~Matmul();
  Matmul(const Matmul&) = delete;
  Matmul& operator=(const Matmul&) = delete;

  // out[i] = weight x[i] + bias for `rows` rows. weight: [weight_rows, x.columns], rows contiguous;
  // bias: [weight_rows] or null. Values are of the dtype, sums f32. Throws MODEL_UNSUPPORTED when
  // cuBLASLt has no kernel for the shape.
  void run(gpu::Rows<const uint16_t> x, const uint16_t* weight, int64_t weight_rows,
           const uint16_t* bias, int32_t rows, gpu::Rows<uint16_t> out, cudaStream_t stream);

 private:
  struct Plan;
  // Rows, weight rows and columns, strides of input and output, bias, alignment of the pointers.
  using Key = std::tuple<int32_t, int64_t, int64_t, int64_t, int64_t, bool, uint32_t>;
  std::unique_ptr<Plan> plan(const Key& key, const uint16_t* bias) const;

  const CublasLt& lib_;
  cudaDataType_t type_;
  cublasLtHandle_t handle_ = nullptr;
  DeviceBuffer<std::byte> workspace_;
  std::map<Key, std::unique_ptr<Plan>> plans_;
};

}  // namespace spotlight
