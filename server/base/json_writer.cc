#include "base/json_writer.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/json.h"

namespace sundog {
namespace {

bool plain(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c >= 0x20 && c < 0x7f && c != '"' && c != '\\'; });
}

}  // namespace

void JsonWriter::begin(std::string_view key) {
  text_ += text_.empty() ? "{\"" : ",\"";
  text_ += key;
  text_ += "\":";
}

JsonWriter& JsonWriter::add(std::string_view key, std::string_view value) {
  begin(key);
  if (plain(value)) {
    text_ += '"';
    text_ += value;
    text_ += '"';
  } else {
    text_ += dump(Json(value));
  }
  return *this;
}

JsonWriter& JsonWriter::add(std::string_view key, int64_t value) {
  begin(key);
  std::array<char, 24> digits{};
  const auto [end, error] = std::to_chars(digits.data(), digits.data() + digits.size(), value);
  text_.append(digits.data(), end);
  return *this;
}

JsonWriter& JsonWriter::add_json(std::string_view key, std::string_view json) {
  begin(key);
  text_ += json;
  return *this;
}

std::string JsonWriter::finish() {
  text_ += text_.empty() ? "{}" : "}";
  return std::move(text_);
}

}  // namespace sundog
