#include "model/weights.h"

#include <ggml.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "error.h"
#include "model/loaded_weights.h"

namespace spotlight {
namespace {

std::string shape_text(int64_t rows, int64_t cols) {
  return rows == 1 ? "[" + std::to_string(cols) + "]"
                   : "[" + std::to_string(rows) + ", " + std::to_string(cols) + "]";
}

}  // namespace

const WeightView& WeightFile::get(const std::string& name) const {
  const auto found = views_.find(name);
  if (found == views_.end()) throw Error(kModelCorrupt, "weight " + name + " is missing");
  return found->second;
}

bool is_weight_type(int64_t type) {
  if (type < 0 || type >= GGML_TYPE_COUNT) return false;
  switch (type) {
    case GGML_TYPE_I8:
    case GGML_TYPE_I16:
    case GGML_TYPE_I32:
    case GGML_TYPE_I64:
    case GGML_TYPE_F64:
    case GGML_TYPE_Q8_1:  // of activations only
    case GGML_TYPE_Q8_K:
      return false;
    default:
      return ggml_blck_size(static_cast<ggml_type>(type)) > 0;  // 0: a type that ggml has removed
  }
}

size_t row_bytes(int type, int64_t count) {
  return ggml_row_size(static_cast<ggml_type>(type), count);
}

void* LoadedWeights::allocate(size_t bytes) {
  constexpr size_t kHugePage = 2 << 20;
  const size_t alignment = bytes < kHugePage ? 64 : kHugePage;
  const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  void* memory =
      rounded < bytes ? nullptr : std::aligned_alloc(alignment, std::max(rounded, alignment));
  if (memory == nullptr)
    throw Error(kOutOfMemory, "no memory for " + std::to_string(bytes) + " bytes of weights");
  memory_.emplace_back(memory);
#if defined(MADV_HUGEPAGE)
  // A hint: fewer faults while filling, fewer TLB misses while serving.
  if (alignment == kHugePage) madvise(memory, rounded, MADV_HUGEPAGE);
#endif
  return memory;
}

void LoadedWeights::add(const PlannedWeight& planned, const WeightView& tensor,
                        const std::string& where) {
  if (tensor.rows != planned.rows || tensor.cols != planned.cols)
    throw Error(kModelCorrupt, where + ": shape " + shape_text(tensor.rows, tensor.cols) +
                                   " where the model's config needs " +
                                   shape_text(planned.rows, planned.cols));
  WeightView view = tensor;
  if (planned.kind == WeightKind::kMatrix || tensor.ggml_type == GGML_TYPE_F32) {
    // Quantised blocks hold float16 members; 4 covers them and float32.
    if (reinterpret_cast<uintptr_t>(tensor.data) % 4 != 0) {
      void* aligned = allocate(tensor.bytes);
      std::memcpy(aligned, tensor.data, tensor.bytes);
      view.data = aligned;
    }
  } else if (tensor.ggml_type == GGML_TYPE_F16 || tensor.ggml_type == GGML_TYPE_BF16) {
    std::vector<uint16_t> halves(tensor.cols);
    std::memcpy(halves.data(), tensor.data, tensor.bytes);
    auto* values = static_cast<float*>(allocate(tensor.cols * sizeof(float)));
    for (int64_t i = 0; i < tensor.cols; i++)
      values[i] = tensor.ggml_type == GGML_TYPE_F16 ? ggml_fp16_to_fp32(halves[i])
                                                    : ggml_bf16_to_fp32({halves[i]});
    view.ggml_type = GGML_TYPE_F32;
    view.data = values;
    view.bytes = tensor.cols * sizeof(float);
  } else {
    throw Error(kModelUnsupported, where + ": a norm or bias of type " +
                                       ggml_type_name(static_cast<ggml_type>(tensor.ggml_type)) +
                                       "; supported: F32, F16, BF16");
  }
  views_[planned.name] = view;
}

}  // namespace spotlight
