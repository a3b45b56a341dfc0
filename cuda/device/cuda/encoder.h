// An artifact's weights on the GPU, as its kernels read them: projections in bf16, biases in f32.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "attention/backend.h"
#include "attention/gpu/view.h"
#include "device/cuda/retrieval_memory.h"
#include "device/cuda/runtime/device_memory.h"

namespace spotlight {

class CudaEncoder final : public Encoder {
 public:
  // Enters `retrieval` (null: the dense backend, which keeps no codes), uploads on a stream of its
  // own and waits: any thread. Throws ARTIFACT_MISMATCH, OUT_OF_MEMORY.
  CudaEncoder(const Artifact& artifact, int32_t layers, std::shared_ptr<RetrievalMemory> retrieval);

  bool has_layer(int32_t layer) const override { return at(layer).kind != gpu::kNoEncoder; }
  int32_t plane_words() const override { return plane_words_; }
  int32_t selections() const override { return selections_; }
  // Of a layer: what the slot table gets.
  const gpu::LayerEncoder& at(int32_t layer) const { return layers_[static_cast<size_t>(layer)]; }

 private:
  // While it lives, the retrieval memory fits this artifact's codes.
  class Stay {
   public:
    Stay(std::shared_ptr<RetrievalMemory> memory, gpu::EncoderKind kind, int32_t bits)
        : memory_(std::move(memory)) {
      if (memory_ != nullptr) memory_->enter(kind, bits);
    }
    ~Stay() {
      if (memory_ != nullptr) memory_->leave();
    }
    Stay(const Stay&) = delete;
    Stay& operator=(const Stay&) = delete;

   private:
    std::shared_ptr<RetrievalMemory> memory_;
  };

  int32_t plane_words_, selections_;
  std::optional<Stay> stay_;
  DeviceBuffer<std::byte> memory_;
  std::vector<gpu::LayerEncoder> layers_;
};

}  // namespace spotlight
