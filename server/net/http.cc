#include "net/http.h"

#include <algorithm>

namespace sundog::net {
namespace {

constexpr std::string_view kHex = "0123456789ABCDEF";

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool unreserved(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
         c == '.' || c == '~';
}

std::string_view find(const Pairs& pairs, std::string_view name) {
  for (const auto& [key, value] : pairs) {
    if (key == name) return value;
  }
  return {};
}

Error bad_target(std::string_view what) {
  return fail(Code::invalid_argument, "The request's path has " + std::string(what) + ".",
              "Percent-encode the names in it and send it without \".\" or \"..\" segments.");
}

Result<std::string> decode_query_part(std::string_view text) {
  if (text.find('+') == std::string_view::npos) return percent_decode(text);
  std::string spaced(text);
  for (auto& c : spaced) {
    if (c == '+') c = ' ';
  }
  return percent_decode(spaced);
}

Status check_path(std::string_view path) {
  for (const char c : path) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return bad_target("a control character");
  }
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const auto segment = path.substr(begin, end - begin);
    if (segment == "." || segment == "..") return bad_target("a \"" + std::string(segment) + "\" segment");
    begin = end + 1;
  }
  return done;
}

}  // namespace

std::string_view Request::header(std::string_view lower_case_name) const {
  return find(headers, lower_case_name);
}
std::string_view Request::query_value(std::string_view name) const {
  return find(query, name);
}

std::string percent_encode(std::string_view text, bool keep_slash) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    if (unreserved(c) || (keep_slash && c == '/')) {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += '%';
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return out;
}

Result<std::string> percent_decode(std::string_view text) {
  if (text.find('%') == std::string_view::npos) return std::string(text);
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    const int high = i + 1 < text.size() ? hex_value(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? hex_value(text[i + 2]) : -1;
    if (high < 0 || low < 0) {
      return fail(Code::invalid_argument, "\"" + std::string(text.substr(i, 3)) + "\" is not a percent-encoded byte.",
                  "Write a literal percent sign as %25.");
    }
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

Status parse_target(Request& request) {
  std::string_view rest = request.target;
  if (const auto scheme = rest.find("://"); scheme != std::string_view::npos && rest.front() != '/') {
    const auto path = rest.find('/', scheme + 3);  // the absolute form that proxies send
    rest = path == std::string_view::npos ? std::string_view("/") : rest.substr(path);
  }
  if (rest.empty() || (rest.front() != '/' && rest != "*")) return bad_target("no leading \"/\"");
  rest = rest.substr(0, rest.find('#'));
  const auto mark = rest.find('?');
  SUNDOG_TRY(path, percent_decode(rest.substr(0, mark)));
  SUNDOG_CHECK(check_path(path));
  request.path = std::move(path);
  request.query.clear();
  if (mark == std::string_view::npos) return done;
  rest.remove_prefix(mark + 1);
  while (!rest.empty()) {
    const auto pair = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(pair.size() + 1, rest.size()));
    if (pair.empty()) continue;
    const auto equals = pair.find('=');
    SUNDOG_TRY(name, decode_query_part(pair.substr(0, equals)));
    SUNDOG_TRY(value,
               decode_query_part(equals == std::string_view::npos ? std::string_view() : pair.substr(equals + 1)));
    request.query.emplace_back(std::move(name), std::move(value));
  }
  return done;
}

}  // namespace sundog::net
