// The JSON scanner agrees with a parser that builds the document, whatever the bytes.
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "api/json_check.h"

namespace {
bool parses(std::string_view text) {
  try {
    return !nlohmann::json::parse(text).is_discarded();
  } catch (const nlohmann::json::out_of_range&) {
    return true;  // 1e999: JSON, but no double
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  // The parser skips a byte order mark and lets a NUL end the text; a payload may have neither.
  if (text.starts_with("\xef\xbb\xbf") || text.find('\0') != std::string_view::npos) return 0;
  // The parser stops at a number that is too large, before it sees what is wrong after it.
  const bool too_large = parses(text) && !nlohmann::json::accept(text);
  if (!too_large && sundog::api::is_json(text) != parses(text)) std::abort();
  return 0;
}
