// One safetensors file: u64 header length, JSON header, tensors without holes or overlaps. Read
// from untrusted bytes for both model weights and artifacts, so the caller names the error codes.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/mapped_file.h"

namespace spotlight {

struct SafetensorsTensor {
  std::string dtype;           // "F32", "BF16", … as the file says
  std::vector<int64_t> shape;  // every extent fits 32 bits
  const uint8_t* data = nullptr;
  size_t bytes = 0;
};

class SafetensorsFile {
 public:
  // Throws Error{missing} or Error{corrupt} saying which tensor and why.
  SafetensorsFile(const std::string& path, const char* missing, const char* corrupt);

  const std::map<std::string, SafetensorsTensor>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::string& path() const { return file_->path(); }
  // Hands the mapping over; the tensors' data lives as long as it does.
  std::unique_ptr<MappedFile> release() { return std::move(file_); }

 private:
  std::unique_ptr<MappedFile> file_;
  std::map<std::string, SafetensorsTensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

// Values of an F32, F16 or BF16 tensor as float32. The dtype must be one of these.
std::vector<float> to_float(const SafetensorsTensor& tensor);
// enum ggml_type of F32, F16 and BF16; -1 for other dtypes.
int ggml_type_of(const std::string& dtype);

}  // namespace spotlight
