// JsonWriter: one flat JSON object written straight into a string, for what is written with every invocation.
//
// Threads     a plain value.
// Failure     none: bytes that are not UTF-8 are replaced and numbers that JSON has no word for are null, as dump()
// does.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sundog {

class JsonWriter {
 public:
  // `size` is a guess of the whole text's; keys are ours and need no escapes.
  explicit JsonWriter(size_t size = 256) { text_.reserve(size); }

  JsonWriter& add(std::string_view key, std::string_view value);
  JsonWriter& add(std::string_view key, const char* value) { return add(key, std::string_view(value)); }
  JsonWriter& add(std::string_view key, int64_t value);
  // A value that is JSON already.
  JsonWriter& add_json(std::string_view key, std::string_view json);

  std::string finish();

 private:
  void begin(std::string_view key);

  std::string text_;
};

}  // namespace sundog
