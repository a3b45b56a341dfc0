#include "model/gguf_reader.h"

#include <ggml.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "error.h"
#include "model/loaded_weights.h"

namespace spotlight {
namespace {

constexpr uint64_t kMaxName = 1 << 16;
constexpr uint64_t kMaxAlignment = 1 << 20;
constexpr uint32_t kTypes = 13;

// Bytes of one value; a string has at least its length's 8.
uint64_t least_bytes(GgufType type) {
  static constexpr uint8_t kBytes[kTypes] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 0, 8, 8, 8};
  return kBytes[static_cast<uint32_t>(type)];
}

template <typename T>
T load(const uint8_t* data) {
  T value;
  std::memcpy(&value, data, sizeof value);
  return value;
}

std::optional<int64_t> integer_at(GgufType type, const uint8_t* data) {
  switch (type) {
    case GgufType::kUint8:
      return load<uint8_t>(data);
    case GgufType::kInt8:
      return load<int8_t>(data);
    case GgufType::kUint16:
      return load<uint16_t>(data);
    case GgufType::kInt16:
      return load<int16_t>(data);
    case GgufType::kUint32:
      return load<uint32_t>(data);
    case GgufType::kInt32:
      return load<int32_t>(data);
    case GgufType::kInt64:
      return load<int64_t>(data);
    case GgufType::kUint64: {
      const uint64_t value = load<uint64_t>(data);
      if (value > INT64_MAX) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    default:
      return std::nullopt;
  }
}

std::optional<double> number_at(GgufType type, const uint8_t* data) {
  if (type == GgufType::kFloat32) return load<float>(data);
  if (type == GgufType::kFloat64) return load<double>(data);
  const auto whole = integer_at(type, data);
  if (!whole) return std::nullopt;
  return static_cast<double>(*whole);
}

std::string type_text(uint32_t type) {
  const char* name =
      type < GGML_TYPE_COUNT ? ggml_type_name(static_cast<ggml_type>(type)) : nullptr;
  return (name == nullptr ? "" : std::string(name) + " ") + "number " + std::to_string(type);
}

}  // namespace

// Walks the header; every step checks what is left first.
class GgufReader::Cursor {
 public:
  explicit Cursor(const MappedFile& file) : file_(file) {}

  uint64_t at() const { return at_; }
  uint64_t left() const { return file_.size() - at_; }

  const uint8_t* take(uint64_t bytes, const std::string& what) {
    if (bytes > left())
      fail(what + " needs " + std::to_string(bytes) + " bytes, " + std::to_string(left()) +
           " are left");
    const uint8_t* data = file_.data() + at_;
    at_ += bytes;
    return data;
  }

  template <typename T>
  T read(const std::string& what) {
    return load<T>(take(sizeof(T), what));
  }

  std::string name(const std::string& what) {
    const auto length = read<uint64_t>(what);
    if (length == 0 || length > kMaxName) fail(what + " has " + std::to_string(length) + " bytes");
    return std::string(reinterpret_cast<const char*>(take(length, what)), length);
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(kModelCorrupt, file_.path() + ": " + what + " (at byte " + std::to_string(at_) +
                                   " of " + std::to_string(file_.size()) + ")");
  }

 private:
  const MappedFile& file_;
  uint64_t at_ = 0;
};

GgufReader::GgufReader(const std::string& path)
    : path_(path), file_(std::make_unique<MappedFile>(path, kModelNotFound)) {
  Cursor cursor(*file_);
  if (std::memcmp(cursor.take(4, "the magic"), "GGUF", 4) != 0)
    cursor.fail("not a GGUF file: the magic is wrong");
  const auto version = cursor.read<uint32_t>("the version");
  if (version > 0 && (version & 0xffff) == 0)
    throw Error(kModelUnsupported, path + ": a big-endian GGUF; convert it to little-endian");
  if (version != 2 && version != 3)
    throw Error(kModelUnsupported,
                path + ": GGUF version " + std::to_string(version) + "; supported: 2, 3");
  const auto tensor_count = cursor.read<uint64_t>("the tensor count");
  const auto value_count = cursor.read<uint64_t>("the metadata count");
  // A tensor's entry takes at least 25 bytes and a value's 14, so a count beyond the file is
  // refused before any work.
  if (tensor_count > cursor.left() / 25)
    cursor.fail("the file cannot hold " + std::to_string(tensor_count) + " tensors");
  if (value_count > cursor.left() / 14)
    cursor.fail("the file cannot hold " + std::to_string(value_count) + " metadata values");
  for (uint64_t i = 0; i < value_count; i++) {
    const std::string key = cursor.name("metadata key " + std::to_string(i));
    const Value value = read_value(cursor, key);
    if (!values_.emplace(key, value).second) cursor.fail("metadata key " + key + " appears twice");
  }
  read_tensors(cursor, tensor_count);
}

GgufReader::Value GgufReader::read_value(Cursor& cursor, const std::string& key) {
  const auto read_type = [&] {
    const auto type = cursor.read<uint32_t>("the type of " + key);
    if (type >= kTypes) cursor.fail(key + " has unknown type " + std::to_string(type));
    return static_cast<GgufType>(type);
  };
  Value value;
  value.type = read_type();
  if (value.type == GgufType::kArray) {
    value.array = true;
    value.type = read_type();
    if (value.type == GgufType::kArray) cursor.fail(key + " is an array of arrays");
    value.count = cursor.read<uint64_t>("the length of " + key);
    if (value.count > cursor.left() / least_bytes(value.type))
      cursor.fail(key + " has " + std::to_string(value.count) +
                  " entries, more than the file holds");
  }
  if (value.type != GgufType::kString) {
    value.data = cursor.take(value.count * least_bytes(value.type), key);
    return value;
  }
  value.data = file_->data() + cursor.at();
  for (uint64_t i = 0; i < value.count; i++) cursor.take(cursor.read<uint64_t>(key), key);
  return value;
}

void GgufReader::read_tensors(Cursor& cursor, uint64_t count) {
  std::vector<std::pair<uint64_t, GgufTensor*>> starts;
  for (uint64_t i = 0; i < count; i++) {
    GgufTensor tensor;
    tensor.name = cursor.name("the name of tensor " + std::to_string(i));
    const auto dims = cursor.read<uint32_t>(tensor.name);
    if (dims < 1 || dims > 4)
      cursor.fail("tensor " + tensor.name + " has " + std::to_string(dims) + " dimensions");
    uint64_t extents[4] = {1, 1, 1, 1};
    for (uint32_t d = 0; d < dims; d++) {
      extents[d] = cursor.read<uint64_t>(tensor.name);
      if (extents[d] < 1 || extents[d] > INT32_MAX)
        cursor.fail("tensor " + tensor.name + " has extent " + std::to_string(extents[d]));
    }
    if (extents[2] != 1 || extents[3] != 1)
      throw Error(kModelUnsupported, path_ + ": tensor " + tensor.name +
                                         " has more than two dimensions (mixture of experts?)");
    tensor.cols = static_cast<int64_t>(extents[0]);
    tensor.rows = static_cast<int64_t>(extents[1]);
    const auto type = cursor.read<uint32_t>(tensor.name);
    if (!is_weight_type(type))
      throw Error(kModelUnsupported, path_ + ": tensor " + tensor.name + " has type " +
                                         type_text(type) + ", which is not supported");
    tensor.ggml_type = static_cast<int>(type);
    if (tensor.cols % ggml_blck_size(static_cast<ggml_type>(type)) != 0)
      cursor.fail("tensor " + tensor.name + ": rows of " + std::to_string(tensor.cols) +
                  " values do not divide into blocks of " +
                  ggml_type_name(static_cast<ggml_type>(type)));
    // Below 2^33 times below 2^31: the product holds in 64 bits.
    tensor.bytes = row_bytes(tensor.ggml_type, tensor.cols) * static_cast<uint64_t>(tensor.rows);
    const auto offset = cursor.read<uint64_t>(tensor.name);
    const auto added = tensors_.emplace(tensor.name, tensor);
    if (!added.second) cursor.fail("tensor " + tensor.name + " appears twice");
    starts.emplace_back(offset, &added.first->second);
  }

  const int64_t alignment = integer("general.alignment").value_or(32);
  if (alignment < 1 || static_cast<uint64_t>(alignment) > kMaxAlignment ||
      (alignment & (alignment - 1)) != 0)
    cursor.fail("general.alignment is " + std::to_string(alignment) +
                ", not a power of two up to 2^20");
  const uint64_t data = (cursor.at() + alignment - 1) / alignment * alignment;
  const uint64_t size = data > file_->size() ? 0 : file_->size() - data;
  std::sort(starts.begin(), starts.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  uint64_t reached = 0;
  for (const auto& [offset, tensor] : starts) {
    if (offset % alignment != 0)
      cursor.fail("tensor " + tensor->name + ": offset " + std::to_string(offset) +
                  " is not aligned");
    if (offset < reached) cursor.fail("tensor " + tensor->name + " overlaps another");
    if (offset > size || tensor->bytes > size - offset)
      cursor.fail("tensor " + tensor->name + " reaches to byte " +
                  std::to_string(offset + tensor->bytes) + " of " + std::to_string(size) +
                  " bytes of data: the file is truncated");
    tensor->data = file_->data() + data + offset;
    reached = offset + tensor->bytes;
  }
}

const GgufReader::Value* GgufReader::find(const std::string& key, bool array) const {
  const auto found = values_.find(key);
  if (found == values_.end()) return nullptr;
  if (found->second.array != array) wrong_type(key, array ? "an array" : "a single value");
  return &found->second;
}

void GgufReader::wrong_type(const std::string& key, const char* wanted) const {
  throw Error(kModelCorrupt, path_ + ": metadata " + key + " is not " + wanted);
}

bool GgufReader::is_array(const std::string& key) const {
  const auto found = values_.find(key);
  return found != values_.end() && found->second.array;
}

std::optional<int64_t> GgufReader::integer(const std::string& key) const {
  const Value* value = find(key, false);
  if (value == nullptr) return std::nullopt;
  const auto whole = integer_at(value->type, value->data);
  if (!whole) wrong_type(key, "an integer");
  return whole;
}

std::optional<double> GgufReader::number(const std::string& key) const {
  const Value* value = find(key, false);
  if (value == nullptr) return std::nullopt;
  const auto number = number_at(value->type, value->data);
  if (!number) wrong_type(key, "a number");
  return number;
}

std::optional<bool> GgufReader::boolean(const std::string& key) const {
  const Value* value = find(key, false);
  if (value == nullptr) return std::nullopt;
  if (value->type != GgufType::kBool) wrong_type(key, "true or false");
  return *value->data != 0;
}

std::optional<std::string> GgufReader::text(const std::string& key) const {
  const Value* value = find(key, false);
  if (value == nullptr) return std::nullopt;
  if (value->type != GgufType::kString) wrong_type(key, "text");
  return std::string(reinterpret_cast<const char*>(value->data + 8), load<uint64_t>(value->data));
}

std::optional<std::vector<std::string>> GgufReader::texts(const std::string& key) const {
  const Value* value = find(key, true);
  if (value == nullptr) return std::nullopt;
  if (value->type != GgufType::kString) wrong_type(key, "an array of texts");
  std::vector<std::string> texts;
  texts.reserve(value->count);
  const uint8_t* at = value->data;
  for (uint64_t i = 0; i < value->count; i++) {
    const auto length = load<uint64_t>(at);
    texts.emplace_back(reinterpret_cast<const char*>(at + 8), length);
    at += 8 + length;
  }
  return texts;
}

std::optional<std::vector<int32_t>> GgufReader::integers(const std::string& key) const {
  const Value* value = find(key, true);
  if (value == nullptr) return std::nullopt;
  std::vector<int32_t> integers(value->count);
  for (uint64_t i = 0; i < value->count; i++) {
    const auto whole = integer_at(value->type, value->data + i * least_bytes(value->type));
    if (!whole || *whole < INT32_MIN || *whole > INT32_MAX)
      wrong_type(key, "an array of 32-bit integers");
    integers[i] = static_cast<int32_t>(*whole);
  }
  return integers;
}

std::optional<std::vector<float>> GgufReader::numbers(const std::string& key) const {
  const Value* value = find(key, true);
  if (value == nullptr) return std::nullopt;
  std::vector<float> numbers(value->count);
  for (uint64_t i = 0; i < value->count; i++) {
    const auto number = number_at(value->type, value->data + i * least_bytes(value->type));
    if (!number) wrong_type(key, "an array of numbers");
    numbers[i] = static_cast<float>(*number);
  }
  return numbers;
}

}  // namespace spotlight
