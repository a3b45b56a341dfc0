#include "device/cuda/retrieval_memory.h"

#include <string>

#include "error.h"

namespace spotlight {
namespace {

template <typename T>
void zero(const DeviceBuffer<T>& buffer) {
  CUDA_CHECK(cudaMemset(buffer.data(), 0, buffer.bytes()));
}

// Words of one query's codes of one KV head.
int32_t stride_of(const gpu::RetrievalShape& shape) {
  return shape.selections() * shape.query_words();
}

std::string describe(gpu::EncoderKind kind, int32_t bits) {
  return std::string(kind == gpu::kMlp ? "mlp" : "linear-asym") + " codes of " +
         std::to_string(bits) + " bits";
}

}  // namespace

RetrievalMemory::RetrievalMemory(const gpu::RetrievalShape& base, int32_t codes, int32_t bits)
    : base_(base), most_codes_(codes) {
  make(gpu::kLinearAsym, bits);
}

void RetrievalMemory::make(gpu::EncoderKind kind, int32_t bits) {
  gpu::RetrievalShape shape = base_;
  shape.encoder = kind;
  shape.bits = bits;
  workspace_ = {};
  memory_ = {};
  codes_ = {};
  generation_++;
  DeviceBuffer<std::byte> memory(gpu::workspace_bytes(shape));
  workspace_ = gpu::make_workspace(shape, memory.data());
  memory_ = std::move(memory);
  codes_ =
      DeviceBuffer<uint32_t>(static_cast<size_t>(most_codes_) * shape.kv_heads * stride_of(shape));
  zero(memory_);
  zero(codes_);
  CUDA_CHECK(cudaDeviceSynchronize());
}

RetrievalMemory::View RetrievalMemory::view() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  View view;
  view.workspace = workspace_;
  view.codes = {codes_.data(), stride_of(workspace_.shape)};
  view.generation = generation_;
  return view;
}

void RetrievalMemory::enter(gpu::EncoderKind kind, int32_t bits) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const gpu::RetrievalShape& shape = workspace_.shape;
  if (shape.encoder != kind || shape.bits != bits) {
    if (alive_ > 0)
      throw Error(kArtifactMismatch, "the artifact has " + describe(kind, bits) +
                                         ", the other slot's has " +
                                         describe(shape.encoder, shape.bits) +
                                         "; on a GPU both slots share one kind: unload that first");
    make(kind, bits);
  }
  alive_++;
}

void RetrievalMemory::leave() {
  const std::lock_guard<std::mutex> lock(mutex_);
  alive_--;
}

}  // namespace spotlight
