// What the loaders share: views into mapped files or into own memory, and the check of each tensor
// against the plan. Vectors (norms, biases) are always handed on as float32, so no device needs a
// path for them in the file's type.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "model/mapped_file.h"
#include "model/weight_plan.h"
#include "model/weights.h"

namespace spotlight {

class LoadedWeights : public WeightFile {
 public:
  ModelConfig& config_for_loader() { return config_; }
  TokenizerFields& tokenizer_for_loader() { return tokenizer_; }
  // Keeps a mapping alive as long as the views.
  void keep(std::unique_ptr<MappedFile> file) { files_.push_back(std::move(file)); }
  // Own memory, 64-byte aligned, uninitialised. Throws OUT_OF_MEMORY.
  void* allocate(size_t bytes);
  // Takes a tensor's bytes as the planned weight, converting vectors to float32 and copying what
  // lies misaligned in its file. `where` names the tensor in errors. Throws MODEL_CORRUPT or
  // MODEL_UNSUPPORTED.
  void add(const PlannedWeight& planned, const WeightView& tensor, const std::string& where);

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::vector<std::unique_ptr<MappedFile>> files_;
  std::vector<std::unique_ptr<void, Free>> memory_;
};

// Bytes of `count` values in a row of a ggml type; the type must be one that is_weight_type()
// allows.
size_t row_bytes(int ggml_type, int64_t count);
// Types a matrix may have: float32, float16, bfloat16 and ggml's storage quantisations.
bool is_weight_type(int64_t ggml_type);

}  // namespace spotlight
