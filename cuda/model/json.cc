#include "model/json.h"

#include <set>
#include <vector>

#include "error.h"
#include "model/mapped_file.h"

namespace spotlight {

Json parse_json(std::string_view text, const std::string& where, const char* corrupt) {
  std::vector<std::set<std::string>> open;  // keys of the objects around the parser's position
  constexpr int kDeepest = 64;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kDeepest) throw Error(corrupt, where + ": nested too deep");
    if (event == Json::parse_event_t::object_start) open.emplace_back();
    if (event == Json::parse_event_t::object_end) open.pop_back();
    if (event == Json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!open.back().insert(key).second)
        throw Error(corrupt, where + ": key " + key + " appears twice in one object");
    }
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), watch);
  } catch (const Json::exception& error) {
    // The message quotes what was read last, which may be megabytes.
    throw Error(corrupt, where + ": not JSON: " + std::string(error.what()).substr(0, 200));
  }
}

JsonObject::JsonObject(Json object, std::string where)
    : object_(std::move(object)), where_(std::move(where)) {
  if (!object_.is_object()) throw Error(kModelCorrupt, where_ + ": must be a JSON object");
}

JsonObject JsonObject::read(const std::string& path) {
  constexpr size_t kMost = 64 << 20;
  const MappedFile file(path, kModelNotFound);
  if (file.size() > kMost)
    throw Error(kModelCorrupt, path + ": " + std::to_string(file.size()) +
                                   " bytes of JSON; at most " + std::to_string(kMost));
  return JsonObject(
      parse_json({reinterpret_cast<const char*>(file.data()), file.size()}, path, kModelCorrupt),
      path);
}

void JsonObject::wrong(const std::string& field, const std::string& what) const {
  throw Error(kModelCorrupt, where_ + ": " + field + " " + what);
}

const Json* JsonObject::find(const char* field) const {
  const auto found = object_.find(field);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::optional<int64_t> JsonObject::integer(const char* field) const {
  const Json* value = find(field);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number_integer() ||
      (value->is_number_unsigned() && value->get<uint64_t>() > INT64_MAX))
    wrong(field, "is not an integer");
  return value->get<int64_t>();
}

std::optional<double> JsonObject::number(const char* field) const {
  const Json* value = find(field);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) wrong(field, "is not a number");
  return value->get<double>();
}

std::optional<bool> JsonObject::boolean(const char* field) const {
  const Json* value = find(field);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) wrong(field, "is not true or false");
  return value->get<bool>();
}

std::optional<std::string> JsonObject::text(const char* field) const {
  const Json* value = find(field);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) wrong(field, "is not text");
  return value->get<std::string>();
}

std::optional<JsonObject> JsonObject::object(const char* field) const {
  const Json* value = find(field);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) wrong(field, "is not an object");
  return JsonObject(*value, where_ + ": " + field);
}

}  // namespace spotlight
