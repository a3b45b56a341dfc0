// A GGUF file's metadata and tensor table, read from untrusted bytes: every count, length, offset
// and extent is checked against what is left of the file before it is used. Own code, since ggml's
// reader asserts on some bad files.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/mapped_file.h"

namespace spotlight {

enum class GgufType : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};

struct GgufTensor {
  std::string name;
  int ggml_type = 0;  // one that is_weight_type() allows
  int64_t rows = 1, cols = 0;
  const uint8_t* data = nullptr;
  size_t bytes = 0;
};

// Getters give nothing for an absent key and throw MODEL_CORRUPT naming the key when its value has
// another type.
class GgufReader {
 public:
  // Throws MODEL_NOT_FOUND, MODEL_CORRUPT (saying where) or MODEL_UNSUPPORTED (version, byte order,
  // tensor type).
  explicit GgufReader(const std::string& path);

  std::optional<int64_t> integer(const std::string& key) const;
  std::optional<double> number(const std::string& key) const;
  std::optional<bool> boolean(const std::string& key) const;
  std::optional<std::string> text(const std::string& key) const;
  std::optional<std::vector<std::string>> texts(const std::string& key) const;
  std::optional<std::vector<int32_t>> integers(const std::string& key) const;
  std::optional<std::vector<float>> numbers(const std::string& key) const;
  bool has(const std::string& key) const { return values_.count(key) > 0; }
  bool is_array(const std::string& key) const;

  const std::map<std::string, GgufTensor>& tensors() const { return tensors_; }
  const std::string& path() const { return path_; }
  // Hands the mapping over; the tensors' data lives as long as it does.
  std::unique_ptr<MappedFile> release() { return std::move(file_); }

 private:
  struct Value {
    GgufType type = GgufType::kUint8;  // an array's element type when `array`
    bool array = false;
    uint64_t count = 1;
    const uint8_t* data = nullptr;  // strings: u64 length and bytes each
  };
  class Cursor;

  Value read_value(Cursor& cursor, const std::string& key);
  void read_tensors(Cursor& cursor, uint64_t count);
  const Value* find(const std::string& key, bool array) const;
  [[noreturn]] void wrong_type(const std::string& key, const char* wanted) const;

  std::string path_;
  std::unique_ptr<MappedFile> file_;
  std::map<std::string, Value> values_;
  std::map<std::string, GgufTensor> tensors_;
};

}  // namespace spotlight
