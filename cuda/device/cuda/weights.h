// The model's weights on a GPU, all in one 16-bit type whatever the file has: what tensor cores
// multiply. Several host threads turn a matrix into that type piece by piece in pinned memory, and
// each piece goes up while the next is made; a matrix that is in the type already is only copied.
// A model that is larger than the GPU's memory (of a training) stays in pinned host memory and
// comes matrix by matrix, a few ahead of the products.
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
  // streamed: matrices stay on the host, but those of `vocab` rows, which are looked up by row.
  CudaWeights(Dtype dtype, bool streamed, int64_t vocab);
  ~CudaWeights();

  // As Device::load: stacked by rows, vectors end to end.
  Weight load(const std::vector<const WeightView*>& views);
  const uint16_t* at(Weight weight) const {
    return weights_[static_cast<size_t>(weight.id)].data();
  }
  // A matrix for what is launched on `stream` next, until the next call.
  const uint16_t* ready(Weight weight, cudaStream_t stream);
  // No more weights come: gives the pinned memory back.
  void loaded();

 private:
  class Uploader;
  class Stream;
  Dtype dtype_;
  bool streamed_;
  int64_t vocab_;
  std::vector<DeviceBuffer<uint16_t>> weights_;  // by id; those streamed have none
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Uploader> uploader_;
};

}  // namespace spotlight
