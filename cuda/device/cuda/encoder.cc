#include "device/cuda/encoder.h"

#include <ggml.h>

#include <cstring>

#include "attention/spotlight/encode/encoder.h"
#include "attention/spotlight/encode/limits.h"
#include "device/cuda/stream.h"

namespace spotlight {
namespace {

constexpr size_t kAlign = 256;

// Lays arrays end to end in host memory; their places in device memory are the same distances from
// its start.
class Image {
 public:
  size_t bf16(const std::vector<float>& values) {
    const size_t at = grow(values.size() * sizeof(ggml_bf16_t));
    ggml_fp32_to_bf16_row(values.data(), reinterpret_cast<ggml_bf16_t*>(bytes_.data() + at),
                          static_cast<int64_t>(values.size()));
    return at;
  }
  size_t f32(const std::vector<float>& values) {
    const size_t at = grow(values.size() * sizeof(float));
    std::memcpy(bytes_.data() + at, values.data(), values.size() * sizeof(float));
    return at;
  }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  size_t grow(size_t bytes) {
    const size_t at = bytes_.size();
    bytes_.resize(at + (bytes + kAlign - 1) / kAlign * kAlign);
    return at;
  }
  std::vector<std::byte> bytes_;
};

}  // namespace

CudaEncoder::CudaEncoder(const Artifact& artifact, int32_t layers,
                         std::shared_ptr<RetrievalMemory> retrieval) {
  check_artifact(artifact, layers);
  gpu::check_limits(artifact);
  const bool linear = artifact.encoder == "linear-asym";
  const gpu::EncoderKind kind = linear ? gpu::kLinearAsym : gpu::kMlp;
  plane_words_ = artifact.plane_bits() / 32;
  selections_ = linear ? 1 : artifact.query_heads / artifact.kv_heads;
  stay_.emplace(std::move(retrieval), kind, artifact.bits);

  struct Places {
    bool present = false;
    size_t key = 0, query = 0, w1 = 0, b1 = 0, w2 = 0, b2 = 0;
  };
  Image image;
  std::vector<Places> places(static_cast<size_t>(layers));
  for (size_t i = 0; i < artifact.layers.size(); i++) {
    const LayerCode& layer = artifact.layers[i];
    Places& place = places[i];
    place.present = linear ? !layer.key.empty() : !layer.w1.empty();
    if (!place.present) continue;
    if (linear) {
      place.key = image.bf16(layer.key);
      place.query = image.bf16(layer.query);
    } else {
      place.w1 = image.bf16(layer.w1);
      place.b1 = image.f32(layer.b1);
      place.w2 = image.bf16(layer.w2);
      place.b2 = image.f32(layer.b2);
    }
  }
  memory_ = DeviceBuffer<std::byte>(image.bytes().size());
  if (memory_.size() > 0) {
    const CudaStream stream;
    CUDA_CHECK(cudaMemcpyAsync(memory_.data(), image.bytes().data(), memory_.bytes(),
                               cudaMemcpyHostToDevice, stream.get()));
    CUDA_CHECK(cudaStreamSynchronize(stream.get()));
  }
  layers_.resize(static_cast<size_t>(layers));
  for (size_t i = 0; i < layers_.size(); i++) {
    const Places& place = places[i];
    if (!place.present) continue;
    gpu::LayerEncoder& layer = layers_[i];
    const std::byte* base = memory_.data();
    layer.kind = kind;
    if (linear) {
      layer.linear = {base + place.key, base + place.query, artifact.bits};
    } else {
      layer.mlp = {base + place.w1, reinterpret_cast<const float*>(base + place.b1),
                   base + place.w2, reinterpret_cast<const float*>(base + place.b2),
                   artifact.bits,   artifact.hidden};
    }
  }
}

}  // namespace spotlight
