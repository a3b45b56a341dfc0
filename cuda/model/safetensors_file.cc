#include "model/safetensors_file.h"

#include <ggml.h>

#include <algorithm>
#include <cstring>

#include "error.h"
#include "model/json.h"

namespace spotlight {
namespace {

constexpr uint64_t kMaxHeader = 100'000'000;  // as the format's own reader allows

// Bytes of one value; 0 for a dtype the format does not know.
uint64_t width_of(const std::string& dtype) {
  static const std::map<std::string, uint64_t> kWidths = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1},
      {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},     {"U32", 4},
      {"F32", 4},  {"F64", 8}, {"I64", 8}, {"U64", 8}};
  const auto found = kWidths.find(dtype);
  return found == kWidths.end() ? 0 : found->second;
}

// A header's entry, checked as far as it can be without the others.
class Entry {
 public:
  Entry(const std::string& name, const Json& value, const std::string& path, const char* corrupt)
      : name_(name), path_(&path), corrupt_(corrupt) {
    if (!value.is_object()) fail("its header entry is not an object");
    tensor_.dtype = field(value, "dtype", Json::value_t::string).get<std::string>();
    const uint64_t width = width_of(tensor_.dtype);
    if (width == 0) fail("unknown dtype " + tensor_.dtype);
    uint64_t bytes = width;
    for (const Json& extent : field(value, "shape", Json::value_t::array)) {
      const uint64_t size = whole(extent, "shape");
      if (size > INT32_MAX) fail("an extent of " + std::to_string(size));
      tensor_.shape.push_back(static_cast<int64_t>(size));
      if (__builtin_mul_overflow(bytes, size, &bytes)) fail("its shape overflows");
    }
    const Json& offsets = field(value, "data_offsets", Json::value_t::array);
    if (offsets.size() != 2) fail("data_offsets must have two entries");
    begin_ = whole(offsets[0], "data_offsets");
    end_ = whole(offsets[1], "data_offsets");
    if (end_ < begin_ || end_ - begin_ != bytes)
      fail("data_offsets [" + std::to_string(begin_) + ", " + std::to_string(end_) +
           "] where its shape needs " + std::to_string(bytes) + " bytes");
    tensor_.bytes = bytes;
  }

  const std::string& name() const { return name_; }
  uint64_t begin() const { return begin_; }
  uint64_t end() const { return end_; }

  SafetensorsTensor at(const uint8_t* data) const {
    SafetensorsTensor tensor = tensor_;
    tensor.data = data + begin_;
    return tensor;
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(corrupt_, *path_ + ": tensor " + name_ + ": " + what);
  }

 private:
  const Json& field(const Json& value, const char* key, Json::value_t type) const {
    const auto found = value.find(key);
    if (found == value.end()) fail(std::string("no ") + key);
    if (found->type() != type) fail(std::string(key) + " has the wrong type");
    return *found;
  }

  uint64_t whole(const Json& value, const char* key) const {
    if (!value.is_number_unsigned()) fail(std::string(key) + " must hold whole numbers");
    return value.get<uint64_t>();
  }

  std::string name_;
  const std::string* path_;
  const char* corrupt_;
  SafetensorsTensor tensor_;
  uint64_t begin_ = 0, end_ = 0;
};

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path, const char* missing, const char* corrupt)
    : file_(std::make_unique<MappedFile>(path, missing)) {
  const size_t size = file_->size();
  if (size < 8)
    throw Error(corrupt,
                path + ": " + std::to_string(size) + " bytes: shorter than a header's length");
  uint64_t length;
  std::memcpy(&length, file_->data(), sizeof length);
  if (length > kMaxHeader)
    throw Error(corrupt, path + ": a header of " + std::to_string(length) + " bytes; at most " +
                             std::to_string(kMaxHeader));
  if (length > size - 8)
    throw Error(corrupt, path + ": truncated: a header of " + std::to_string(length) +
                             " bytes in a file of " + std::to_string(size));
  const Json header = parse_json({reinterpret_cast<const char*>(file_->data()) + 8, length},
                                 path + ": header", corrupt);
  if (!header.is_object()) throw Error(corrupt, path + ": header: not a JSON object");

  std::vector<Entry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name != "__metadata__") {
      entries.emplace_back(name, value, path, corrupt);
      continue;
    }
    if (!value.is_object()) throw Error(corrupt, path + ": __metadata__ is not an object");
    for (const auto& [key, text] : value.items()) {
      if (!text.is_string()) throw Error(corrupt, path + ": __metadata__." + key + " is not text");
      metadata_[key] = text.get<std::string>();
    }
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.begin() != b.begin() ? a.begin() < b.begin() : a.end() < b.end();
  });
  const uint64_t available = size - 8 - length;
  uint64_t reached = 0;
  for (const Entry& entry : entries) {
    if (entry.begin() < reached) entry.fail("overlaps another");
    if (entry.begin() > reached) entry.fail("leaves a hole before it");
    if (entry.end() > available)
      entry.fail("reaches to byte " + std::to_string(entry.end()) + " of " +
                 std::to_string(available) + " bytes of data: the file is truncated");
    reached = entry.end();
    tensors_.emplace(entry.name(), entry.at(file_->data() + 8 + length));
  }
  if (reached != available)
    throw Error(corrupt,
                path + ": " + std::to_string(available - reached) + " bytes after the last tensor");
}

int ggml_type_of(const std::string& dtype) {
  return dtype == "F32"    ? GGML_TYPE_F32
         : dtype == "F16"  ? GGML_TYPE_F16
         : dtype == "BF16" ? GGML_TYPE_BF16
                           : -1;
}

std::vector<float> to_float(const SafetensorsTensor& tensor) {
  if (tensor.bytes == 0) return {};
  if (tensor.dtype == "F32") {
    std::vector<float> values(tensor.bytes / 4);
    std::memcpy(values.data(), tensor.data, tensor.bytes);
    return values;
  }
  std::vector<uint16_t> halves(tensor.bytes / 2);
  std::memcpy(halves.data(), tensor.data, tensor.bytes);
  std::vector<float> values(halves.size());
  for (size_t i = 0; i < values.size(); i++)
    values[i] =
        tensor.dtype == "F16" ? ggml_fp16_to_fp32(halves[i]) : ggml_bf16_to_fp32({halves[i]});
  return values;
}

}  // namespace spotlight
