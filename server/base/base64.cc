// The base64 half of crypto.h: without OpenSSL, for programs that need no more of it.
#include <array>

#include "base/crypto.h"

namespace sundog {
namespace {

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr std::array<int8_t, 256> make_values() {
  std::array<int8_t, 256> values{};
  values.fill(-1);
  for (size_t i = 0; i < kAlphabet.size(); ++i)
    values[static_cast<unsigned char>(kAlphabet[i])] = static_cast<int8_t>(i);
  return values;
}
constexpr std::array<int8_t, 256> kValues = make_values();

}  // namespace

std::string base64(std::string_view bytes) {
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t at = 0; at < bytes.size(); at += 3) {
    const auto piece = bytes.substr(at, 3);
    uint32_t word = 0;
    for (size_t i = 0; i < 3; ++i) word = word << 8 | (i < piece.size() ? static_cast<unsigned char>(piece[i]) : 0U);
    for (size_t i = 0; i < 4; ++i) out += i <= piece.size() ? kAlphabet[word >> (18 - 6 * i) & 63] : '=';
  }
  return out;
}

Result<std::string> from_base64(std::string_view text) {
  if (text.size() % 4 != 0)
    return fail(Code::invalid_argument, "The base64 text has a length that is not a multiple of 4.");
  const auto bad = [] { return fail(Code::invalid_argument, "The base64 text has characters that are not base64."); };
  const size_t end = text.find_last_not_of('=') + 1;
  if (text.size() - end > 2) return bad();
  std::string out;
  out.reserve(text.size() / 4 * 3);
  uint32_t word = 0;
  for (size_t i = 0; i < end; ++i) {
    const int8_t value = kValues[static_cast<unsigned char>(text[i])];
    if (value < 0) return bad();
    word = word << 6 | static_cast<uint32_t>(value);
    if (i % 4 == 0) continue;
    out += static_cast<char>(word >> (6 - 2 * (i % 4)) & 0xff);
  }
  return out;
}

}  // namespace sundog
