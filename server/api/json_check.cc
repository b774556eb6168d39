#include "api/json_check.h"

#include <array>
#include <vector>

namespace sundog::api {
namespace {

// What may follow in a string without a second look: everything but '"', '\', control characters and bytes over 0x7f.
constexpr std::array<bool, 256> make_plain() {
  std::array<bool, 256> plain{};
  for (size_t c = 0x20; c < 0x80; ++c) plain[c] = c != '"' && c != '\\';
  return plain;
}
constexpr auto kPlain = make_plain();

class Checker {
 public:
  explicit Checker(std::string_view text)
      : at_(reinterpret_cast<const unsigned char*>(text.data())), end_(at_ + text.size()) {}

  bool run() {
    if (!value()) return false;
    while (!in_object_.empty()) {
      space();
      if (at_ == end_) return false;
      const bool object = in_object_.back();
      if (*at_ == ',') {
        ++at_;
        if (!(object ? member() : value())) return false;
      } else if (*at_ == static_cast<unsigned char>(object ? '}' : ']')) {
        ++at_;
        in_object_.pop_back();
      } else {
        return false;
      }
    }
    space();
    return at_ == end_;
  }

 private:
  void space() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\t' || *at_ == '\r')) ++at_;
  }

  bool take(char c) {
    if (at_ == end_ || *at_ != static_cast<unsigned char>(c)) return false;
    ++at_;
    return true;
  }

  bool word(std::string_view rest) {
    for (const char c : rest) {
      if (!take(c)) return false;
    }
    return true;
  }

  // A value, or the opening of one: what is inside, run() goes on with.
  bool value() {
    while (true) {
      space();
      if (at_ == end_) return false;
      switch (*at_) {
        case '{':
          ++at_;
          space();
          if (take('}')) return true;
          in_object_.push_back(true);
          if (!name()) return false;
          continue;
        case '[':
          ++at_;
          space();
          if (take(']')) return true;
          in_object_.push_back(false);
          continue;
        case '"':
          return string();
        case 't':
          return word("true");
        case 'f':
          return word("false");
        case 'n':
          return word("null");
        default:
          return number();
      }
    }
  }

  bool name() {
    space();
    if (at_ == end_ || *at_ != '"' || !string()) return false;
    space();
    return take(':');
  }

  bool member() { return name() && value(); }

  bool digits() {
    const auto* begin = at_;
    while (at_ != end_ && *at_ >= '0' && *at_ <= '9') ++at_;
    return at_ != begin;
  }

  bool number() {
    take('-');
    if (!take('0') && !digits()) return false;
    if (take('.') && !digits()) return false;
    if (take('e') || take('E')) {
      if (!take('+')) take('-');
      return digits();
    }
    return true;
  }

  bool string() {
    ++at_;
    while (true) {
      while (at_ != end_ && kPlain[*at_]) ++at_;
      if (at_ == end_ || *at_ < 0x20) return false;
      if (*at_ == '"') {
        ++at_;
        return true;
      }
      if (!(*at_ == '\\' ? escape() : wide())) return false;
    }
  }

  int hex4() {
    if (end_ - at_ < 4) return -1;
    int value = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const int c = *at_;
      int digit = -1;
      if (c >= '0' && c <= '9') digit = c - '0';
      if (c >= 'a' && c <= 'f') digit = c - 'a' + 10;
      if (c >= 'A' && c <= 'F') digit = c - 'A' + 10;
      if (digit < 0) return -1;
      value = value * 16 + digit;
    }
    return value;
  }

  bool escape() {
    ++at_;
    if (at_ == end_) return false;
    const unsigned char c = *at_++;
    if (c != 'u') return std::string_view("\"\\/bfnrt").find(static_cast<char>(c)) != std::string_view::npos;
    const int first = hex4();
    if (first < 0 || (first >= 0xdc00 && first <= 0xdfff)) return false;
    if (first < 0xd800 || first > 0xdbff) return true;
    if (!take('\\') || !take('u')) return false;
    const int second = hex4();
    return second >= 0xdc00 && second <= 0xdfff;
  }

  // One character of more than one byte, well-formed as of RFC 3629.
  bool wide() {
    const unsigned char lead = *at_++;
    if (lead < 0xc2 || lead > 0xf4) return false;
    const int more = lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
    if (end_ - at_ < more) return false;
    unsigned char low = 0x80;
    unsigned char high = 0xbf;
    if (lead == 0xe0) low = 0xa0;
    if (lead == 0xed) high = 0x9f;
    if (lead == 0xf0) low = 0x90;
    if (lead == 0xf4) high = 0x8f;
    for (int i = 0; i < more; ++i, ++at_) {
      if (*at_ < low || *at_ > high) return false;
      low = 0x80;
      high = 0xbf;
    }
    return true;
  }

  const unsigned char* at_;
  const unsigned char* end_;
  std::vector<bool> in_object_;
};

}  // namespace

bool is_json(std::string_view text) {
  return Checker(text).run();
}

}  // namespace sundog::api
