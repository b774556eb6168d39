#include "base/ids.h"

#include "base/crypto.h"

namespace sundog {

std::string uuid4() {
  std::string bytes = random_bytes(16);
  bytes[6] = static_cast<char>((bytes[6] & 0x0f) | 0x40);
  bytes[8] = static_cast<char>((bytes[8] & 0x3f) | 0x80);
  const std::string text = hex(bytes);
  return text.substr(0, 8) + "-" + text.substr(8, 4) + "-" + text.substr(12, 4) + "-" + text.substr(16, 4) + "-" +
         text.substr(20);
}

std::string short_id(std::string_view kind) {
  return std::string(kind) + "-" + hex(random_bytes(6));
}

}  // namespace sundog
