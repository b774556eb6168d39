#include "api/sigv4.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/crypto.h"

namespace sundog::api {
namespace {

Error refused(std::string message, std::string hint = {}) {
  return fail(Code::unauthenticated, std::move(message), std::move(hint));
}

std::vector<std::string_view> split(std::string_view text, char mark) {
  std::vector<std::string_view> parts;
  while (true) {
    const auto end = text.find(mark);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// Runs of blanks become one.
std::string folded(std::string_view value) {
  std::string out;
  for (const char c : trim(value)) {
    const bool blank = c == ' ' || c == '\t' || c == '\r' || c == '\n';
    if (!blank) {
      out += c;
    } else if (out.empty() || out.back() != ' ') {
      out += ' ';
    }
  }
  return out;
}

// The path as it was sent, encoded once more, as every service but S3 has it; "//" counts as "/".
std::string canonical_path(std::string_view target) {
  if (const auto scheme = target.find("://"); scheme != std::string_view::npos && !target.starts_with('/')) {
    const auto path = target.find('/', scheme + 3);
    target = path == std::string_view::npos ? std::string_view("/") : target.substr(path);
  }
  const auto path = target.substr(0, target.find_first_of("?#"));
  std::string single;
  for (const char c : path) {
    if (c != '/' || single.empty() || single.back() != '/') single += c;
  }
  return net::percent_encode(single, true);
}

std::string recoded(std::string_view text) {
  const auto decoded = net::percent_decode(text);
  return net::percent_encode(decoded.ok() ? std::string_view(*decoded) : text, false);
}

std::string canonical_query(std::string_view target) {
  target = target.substr(0, target.find('#'));
  const auto mark = target.find('?');
  if (mark == std::string_view::npos) return {};
  std::vector<std::pair<std::string, std::string>> pairs;
  for (const auto pair : split(target.substr(mark + 1), '&')) {
    if (pair.empty()) continue;
    const auto equals = pair.find('=');
    pairs.emplace_back(recoded(pair.substr(0, equals)),
                       equals == std::string_view::npos ? std::string() : recoded(pair.substr(equals + 1)));
  }
  std::ranges::sort(pairs);
  std::string out;
  for (const auto& [name, value] : pairs) {
    if (!out.empty()) out += '&';
    out += name;
    out += '=';
    out += value;
  }
  return out;
}

std::optional<int> digits(std::string_view text, size_t at, size_t count) {
  int value = 0;
  const char* const begin = text.data() + at;
  const auto [end, error] = std::from_chars(begin, begin + count, value);
  return error == std::errc{} && end == begin + count && *begin != '-' ? std::optional(value) : std::nullopt;
}

// "20260101T000000Z"
std::optional<WallTime> parse_amz_date(std::string_view text) {
  if (text.size() != 16 || text[8] != 'T' || text[15] != 'Z') return std::nullopt;
  const auto year = digits(text, 0, 4), month = digits(text, 4, 2), day = digits(text, 6, 2);
  const auto hour = digits(text, 9, 2), minute = digits(text, 11, 2), second = digits(text, 13, 2);
  if (!year || !month || !day || !hour || !minute || !second) return std::nullopt;
  if (*hour > 23 || *minute > 59 || *second > 60) return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year(*year), std::chrono::month(static_cast<unsigned>(*month)),
                                         std::chrono::day(static_cast<unsigned>(*day))};
  if (!date.ok()) return std::nullopt;
  return WallTime{std::chrono::sys_days(date)} + std::chrono::hours(*hour) + std::chrono::minutes(*minute) +
         std::chrono::seconds(*second);
}

// Whoever can change an unsigned header can change what the request means.
Status check_signed_headers(const net::Request& request, const std::vector<std::string>& signed_headers) {
  const auto is_signed = [&](const std::string& name) {
    return std::ranges::find(signed_headers, name) != signed_headers.end();
  };
  if (!is_signed("host")) return refused("The signature does not cover the header \"host\".");
  for (const auto& [name, value] : request.headers) {
    if (name.starts_with("x-amz-") && !is_signed(name)) {
      return refused("The signature does not cover the header \"" + name + "\".");
    }
  }
  for (const auto& name : signed_headers) {
    const bool present = std::ranges::any_of(request.headers, [&](const auto& header) { return header.first == name; });
    if (!present) return refused("The signature covers the header \"" + name + "\", which was not sent.");
  }
  return done;
}

}  // namespace

Result<Sigv4> parse_sigv4(std::string_view authorization) {
  const auto malformed = [] {
    return refused("The Authorization header is not a complete AWS4-HMAC-SHA256 signature.",
                   "It has Credential, SignedHeaders and Signature.");
  };
  if (!authorization.starts_with(kSigv4Algorithm)) return malformed();
  Sigv4 parts;
  std::string_view credential;
  for (const auto field : split(authorization.substr(kSigv4Algorithm.size()), ',')) {
    const auto text = trim(field);
    const auto equals = text.find('=');
    if (equals == std::string_view::npos) return malformed();
    const auto name = text.substr(0, equals);
    const auto value = text.substr(equals + 1);
    if (name == "Credential") credential = value;
    if (name == "Signature") parts.signature = value;
    if (name == "SignedHeaders") {
      for (const auto header : split(value, ';')) parts.signed_headers.emplace_back(header);
    }
  }
  const auto scope = split(credential, '/');
  if (scope.size() != 5 || scope[4] != "aws4_request" || parts.signature.size() != 64) return malformed();
  if (parts.signed_headers.empty() || parts.signed_headers.size() > 64) return malformed();
  if (!std::ranges::is_sorted(parts.signed_headers)) return malformed();
  parts.key_id = scope[0];
  parts.date = scope[1];
  parts.region = scope[2];
  parts.service = scope[3];
  if (parts.key_id.empty() || parts.date.size() != 8) return malformed();
  return parts;
}

std::string canonical_request(const net::Request& request, const std::vector<std::string>& signed_headers,
                              std::string_view payload_hash) {
  std::string text = request.method;
  text += '\n';
  text += canonical_path(request.target);
  text += '\n';
  text += canonical_query(request.target);
  text += '\n';
  std::string names;
  for (const auto& wanted : signed_headers) {
    text += wanted;
    text += ':';
    bool first = true;
    for (const auto& [name, value] : request.headers) {
      if (name != wanted) continue;
      if (!first) text += ',';
      first = false;
      text += folded(value);
    }
    text += '\n';
    if (!names.empty()) names += ';';
    names += wanted;
  }
  text += '\n';
  text += names;
  text += '\n';
  text += payload_hash;
  return text;
}

std::string sigv4_signature(const Sigv4& parts, std::string_view amz_date, std::string_view canonical_request,
                            std::string_view secret) {
  std::string to_sign(kSigv4Algorithm);
  to_sign += '\n';
  to_sign += amz_date;
  to_sign += '\n';
  to_sign += parts.scope();
  to_sign += '\n';
  to_sign += sha256_hex(canonical_request);
  auto key = hmac_sha256("AWS4" + std::string(secret), parts.date);
  key = hmac_sha256(key, parts.region);
  key = hmac_sha256(key, parts.service);
  key = hmac_sha256(key, "aws4_request");
  return hex(hmac_sha256(key, to_sign));
}

Status verify_sigv4(const net::Request& request, const Sigv4& parts, const Sigv4Check& check) {
  if (parts.service != check.service) {
    return refused("The signature is for service \"" + parts.service + "\", not \"" + std::string(check.service) +
                   "\".");
  }
  const auto amz_date = request.header("x-amz-date");
  const auto time = parse_amz_date(amz_date);
  if (!time) return refused("The header x-amz-date is missing or not like 20260101T000000Z.");
  if (amz_date.substr(0, 8) != parts.date) {
    return refused("The signature's date " + parts.date + " is not the day of x-amz-date.");
  }
  const Duration apart = *time > check.now ? *time - check.now : check.now - *time;
  if (apart > check.skew) {
    return refused("The request's time " + std::string(amz_date) + " is more than " +
                       std::to_string(std::chrono::duration_cast<std::chrono::minutes>(check.skew).count()) +
                       " minutes from the server's.",
                   "Set this machine's clock right, or sign again: a signature is good for a few minutes only.");
  }
  SUNDOG_CHECK(check_signed_headers(request, parts.signed_headers));
  const auto expected = sigv4_signature(
      parts, amz_date, canonical_request(request, parts.signed_headers, check.payload_hash), check.secret);
  if (!equal_in_constant_time(expected, parts.signature)) {
    return refused("The request's signature does not match.", "Check the key's secret.");
  }
  return done;
}

}  // namespace sundog::api
