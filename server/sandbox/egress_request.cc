#include "sandbox/egress_request.h"

#include <algorithm>
#include <charconv>

namespace sundog::sandbox {
namespace {

Error malformed(std::string what) {
  return fail(Code::invalid_argument, "The request to the proxy is malformed: " + std::move(what) + ".");
}

bool is_token(std::string_view text) {
  constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::ranges::all_of(text, [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           kMarks.find(c) != std::string_view::npos;
  });
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = char(c | 0x20);
  }
  return out;
}

// "host:port", "[::1]:port"; without a port `fallback`, if that is not 0.
bool split_authority(std::string_view authority, uint16_t fallback, EgressRequest& out) {
  std::string_view port;
  if (authority.starts_with('[')) {
    const auto close = authority.find(']');
    if (close == std::string_view::npos) return false;
    out.host = authority.substr(1, close - 1);
    port = authority.substr(close + 1);
  } else {
    const auto colon = authority.find(':');
    out.host = authority.substr(0, colon);
    port = colon == std::string_view::npos ? std::string_view() : authority.substr(colon);
  }
  if (out.host.empty() || out.host.find_first_of("@/\\?#[]% ") != std::string::npos) return false;
  out.port = fallback;
  if (port.empty()) return fallback != 0;
  if (port.front() != ':') return false;
  port.remove_prefix(1);
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), out.port);
  return error == std::errc() && end == port.data() + port.size() && out.port != 0;
}

// The header lines that the target gets; what is between a client and its proxy stays here.
Result<std::string> fields_for_target(std::string_view lines, std::string_view authority) {
  std::string fields = "Host: " + std::string(authority) + "\r\nConnection: close\r\n";
  while (!lines.empty()) {
    const auto end = lines.find("\r\n");
    const auto line = lines.substr(0, end);
    lines.remove_prefix(end + 2);
    const auto name = line.substr(0, line.find(':'));
    if (name.size() == line.size() || !is_token(name)) return malformed("a header line has no name");
    const auto known = lower(name);
    if (known == "host" || known == "connection" || known == "keep-alive" || known.starts_with("proxy-")) continue;
    fields.append(line).append("\r\n");
  }
  return fields;
}

}  // namespace

Result<std::optional<EgressRequest>> parse_egress_request(std::string_view bytes) {
  const auto end = bytes.substr(0, kMaxEgressHead).find("\r\n\r\n");
  if (end == std::string_view::npos) {
    if (bytes.size() < kMaxEgressHead) return std::optional<EgressRequest>();
    return fail(Code::too_large, "The request's head is over " + std::to_string(kMaxEgressHead) + " bytes.");
  }
  const auto head = bytes.substr(0, end + 2);
  for (size_t at = 0; at < head.size(); ++at) {
    const auto c = static_cast<unsigned char>(head[at]);
    const bool line_end =
        (c == '\r' && at + 1 < head.size() && head[at + 1] == '\n') || (c == '\n' && at > 0 && head[at - 1] == '\r');
    if ((c < 0x20 && c != '\t' && !line_end) || c == 0x7f) return malformed("it holds a control character");
  }
  const auto line = head.substr(0, head.find("\r\n"));
  const auto method_end = line.find(' '), target_end = line.rfind(' ');
  if (method_end == std::string_view::npos || target_end <= method_end)
    return malformed("its first line has no target");
  const auto method = line.substr(0, method_end);
  auto target = line.substr(method_end + 1, target_end - method_end - 1);
  const auto version = line.substr(target_end + 1);
  if (!is_token(method) || (version != "HTTP/1.1" && version != "HTTP/1.0")) return malformed("it is no HTTP/1");
  EgressRequest request;
  request.bytes = end + 4;
  request.tunnel = method == "CONNECT";
  if (request.tunnel) {
    if (!split_authority(target, 0, request)) return malformed("CONNECT needs host:port");
    return std::optional(std::move(request));
  }
  if (lower(target.substr(0, 7)) != "http://") return malformed("its target is no http:// URL");
  target.remove_prefix(7);
  const auto path_at = std::min(target.find_first_of("/?#"), target.size());
  const auto authority = target.substr(0, path_at);
  auto path = target.substr(path_at);
  path = path.substr(0, path.find('#'));
  if (!split_authority(authority, 80, request)) return malformed("its URL has no host");
  if (path.find(' ') != std::string_view::npos) return malformed("its URL holds a space");
  SUNDOG_TRY(fields, fields_for_target(head.substr(line.size() + 2), authority));
  request.head = std::string(method) + " " + (path.starts_with('/') ? "" : "/") + std::string(path) + " HTTP/1.1\r\n" +
                 fields + "\r\n";
  return std::optional(std::move(request));
}

}  // namespace sundog::sandbox
