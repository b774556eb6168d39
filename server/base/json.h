// Json: nlohmann's document, parsed from outside bytes without exceptions and with a depth limit.
//
// Threads     plain values; no sharing.
// Failure     invalid_argument with the byte where parsing stopped; a field of the wrong type names the field.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sundog {

using Json = nlohmann::json;

// Parses one document. `what` names it in the error ("the request body"). At most 64 levels deep.
Result<Json> parse_json(std::string_view text, std::string_view what);

// The field `key` of an object as T; invalid_argument when absent or of another type.
Result<std::string> get_string(const Json& object, std::string_view key);
Result<int64_t> get_int(const Json& object, std::string_view key);
// The same, with a value for when the field is absent or null.
Result<std::string> get_string(const Json& object, std::string_view key, std::string fallback);
Result<int64_t> get_int(const Json& object, std::string_view key, int64_t fallback);
Result<double> get_double(const Json& object, std::string_view key, double fallback);
Result<bool> get_bool(const Json& object, std::string_view key, bool fallback);

// Serialises; bytes that are not UTF-8 are replaced, never thrown over.
std::string dump(const Json& json);

}  // namespace sundog
