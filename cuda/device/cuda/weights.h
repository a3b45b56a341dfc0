// The model's weights on a GPU, all in one 16-bit type whatever the file has: what tensor cores
// multiply. Several host threads turn a matrix into that type piece by piece in pinned memory, and
// each piece goes up while the next is made; a matrix that is in the type already is only copied.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "device/cuda/runtime/device_memory.h"
#include "device/device.h"

namespace spotlight {

enum class Dtype : uint8_t { kBf16, kFp16 };

class CudaWeights {
 public:
  explicit CudaWeights(Dtype dtype);
  ~CudaWeights();

  // As Device::load: stacked by rows, vectors end to end.
  Weight load(const std::vector<const WeightView*>& views);
  const uint16_t* at(Weight weight) const {
    return weights_[static_cast<size_t>(weight.id)].data();
  }
  // No more weights come: gives the pinned memory back.
  void loaded();

 private:
  class Uploader;
  Dtype dtype_;
  std::vector<DeviceBuffer<uint16_t>> weights_;
  std::unique_ptr<Uploader> uploader_;
};

}  // namespace spotlight
