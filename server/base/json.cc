#include "base/json.h"

namespace sundog {
namespace {

constexpr int kDepthLimit = 64;

// Refuses what nests too deep before the parser recurses into it.
bool too_deep(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kDepthLimit) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

Error wrong_type(std::string_view key, std::string_view wanted, const Json& found) {
  return fail(Code::invalid_argument, "Field \"" + std::string(key) + "\" must be " + std::string(wanted) +
                                          ", but is " + found.type_name() + ".");
}

const Json* find(const Json& object, std::string_view key) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

Error missing(std::string_view key) {
  return fail(Code::invalid_argument, "Field \"" + std::string(key) + "\" is missing.");
}

}  // namespace

Result<Json> parse_json(std::string_view text, std::string_view what) {
  if (too_deep(text)) {
    return fail(Code::invalid_argument,
                "The JSON of " + std::string(what) + " nests deeper than " + std::to_string(kDepthLimit) + " levels.");
  }
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& e) {
    return fail(Code::invalid_argument,
                "The JSON of " + std::string(what) + " does not parse at byte " + std::to_string(e.byte) + ".");
  } catch (const Json::exception& e) {
    return fail(Code::invalid_argument, "The JSON of " + std::string(what) + " is not usable: " + e.what() + ".");
  }
}

Result<std::string> get_string(const Json& object, std::string_view key) {
  const Json* field = find(object, key);
  if (field == nullptr) return missing(key);
  if (!field->is_string()) return wrong_type(key, "a string", *field);
  return field->get<std::string>();
}

Result<int64_t> get_int(const Json& object, std::string_view key) {
  const Json* field = find(object, key);
  if (field == nullptr) return missing(key);
  if (!field->is_number_integer()) return wrong_type(key, "a whole number", *field);
  return field->get<int64_t>();
}

Result<std::string> get_string(const Json& object, std::string_view key, std::string fallback) {
  if (find(object, key) == nullptr) return fallback;
  return get_string(object, key);
}

Result<int64_t> get_int(const Json& object, std::string_view key, int64_t fallback) {
  if (find(object, key) == nullptr) return fallback;
  return get_int(object, key);
}

Result<double> get_double(const Json& object, std::string_view key, double fallback) {
  const Json* field = find(object, key);
  if (field == nullptr) return fallback;
  if (!field->is_number()) return wrong_type(key, "a number", *field);
  return field->get<double>();
}

Result<bool> get_bool(const Json& object, std::string_view key, bool fallback) {
  const Json* field = find(object, key);
  if (field == nullptr) return fallback;
  if (!field->is_boolean()) return wrong_type(key, "true or false", *field);
  return field->get<bool>();
}

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace sundog
