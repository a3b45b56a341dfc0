// JSON as the loaders read it: typed getters that name file and field, null taken as absent.
// Parsing is strict (a key twice in one object is refused, as readers differ on which one counts)
// and does not recurse on nesting.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace spotlight {

using Json = nlohmann::json;

// Throws Error{corrupt} with `where` and the position of the mistake.
Json parse_json(std::string_view text, const std::string& where, const char* corrupt);

// The object of a JSON file. Getters throw MODEL_CORRUPT naming file and field when the value has
// another type.
class JsonObject {
 public:
  JsonObject(Json object, std::string where);
  // Throws MODEL_NOT_FOUND when the file is missing, MODEL_CORRUPT when it is no JSON object or
  // above 64 MB.
  static JsonObject read(const std::string& path);

  bool has(const char* field) const { return find(field) != nullptr; }
  std::optional<int64_t> integer(const char* field) const;
  std::optional<double> number(const char* field) const;
  std::optional<bool> boolean(const char* field) const;
  std::optional<std::string> text(const char* field) const;
  std::optional<JsonObject> object(const char* field) const;
  const Json* find(const char* field) const;  // null when absent or null
  const Json& json() const { return object_; }
  const std::string& where() const { return where_; }

  [[noreturn]] void wrong(const std::string& field, const std::string& what) const;

 private:
  Json object_;
  std::string where_;
};

}  // namespace spotlight
