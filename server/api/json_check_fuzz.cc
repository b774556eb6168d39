// The JSON scanner agrees with a parser that builds the document, whatever the bytes.
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "api/json_check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  // The parser skips a byte order mark and lets a NUL end the text; a payload may have neither.
  if (text.starts_with("\xef\xbb\xbf") || text.find('\0') != std::string_view::npos) return 0;
  if (sundog::api::is_json(text) != nlohmann::json::accept(text)) std::abort();
  return 0;
}
