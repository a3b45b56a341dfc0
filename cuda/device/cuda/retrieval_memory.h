// Device memory of the retrieval kernels, made for the codes of the artifacts that are loaded: both
// slots of a deployment share encoder and bits, so there is one shape at a time. Artifacts enter it
// when they are made (any thread), which is where one of another shape is refused; the engine
// thread reads it while steps use one.
#pragma once

#include <cstdint>
#include <mutex>

#include "attention/gpu/retrieval.h"
#include "attention/spotlight/query/query_code.h"
#include "device/cuda/runtime/device_memory.h"

namespace spotlight {

class RetrievalMemory {
 public:
  // base: everything but encoder and bits. codes: most queries of one layer and step. Makes room
  // for linear-asym codes of `bits`, the default, so that loading such an artifact takes no more.
  RetrievalMemory(const gpu::RetrievalShape& base, int32_t codes, int32_t bits);

  // An artifact with such codes lives until leave(). Throws ARTIFACT_MISMATCH while another shape's
  // does, OUT_OF_MEMORY.
  void enter(gpu::EncoderKind kind, int32_t bits);
  void leave();

  // What launches are given. Addresses stay while an artifact lives; without one they may change
  // at any time, and no launch follows them then.
  struct View {
    gpu::Workspace workspace;
    gpu::QueryCodes codes;
    uint32_t generation = 0;  // changes with the addresses: graphs captured before are void
  };
  View view() const;

 private:
  void make(gpu::EncoderKind kind, int32_t bits);

  gpu::RetrievalShape base_;
  int32_t most_codes_;
  mutable std::mutex mutex_;
  int32_t alive_ = 0;
  uint32_t generation_ = 0;
  gpu::Workspace workspace_;
  DeviceBuffer<std::byte> memory_;
  DeviceBuffer<uint32_t> codes_;
};

}  // namespace spotlight
