#include "api/event_stream.h"

#include <boost/crc.hpp>
#include <cstdint>

namespace sundog::api {
namespace {

constexpr char kString = 7;  // a header's type

void put_number(std::string& out, uint32_t value, int bytes) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) out += static_cast<char>(value >> shift & 0xff);
}

void put_checksum(std::string& out) {
  boost::crc_32_type checksum;
  checksum.process_bytes(out.data(), out.size());
  put_number(out, checksum.checksum(), 4);
}

void put_header(std::string& out, std::string_view name, std::string_view value) {
  put_number(out, static_cast<uint32_t>(name.size()), 1);
  out += name;
  out += kString;
  put_number(out, static_cast<uint32_t>(value.size()), 2);
  out += value;
}

}  // namespace

std::string event_message(std::string_view event, std::string_view content_type, std::string_view payload) {
  constexpr size_t kAround = 16;  // two lengths and two checksums
  std::string headers;
  put_header(headers, ":event-type", event);
  put_header(headers, ":content-type", content_type);
  put_header(headers, ":message-type", "event");
  std::string out;
  out.reserve(kAround + headers.size() + payload.size());
  put_number(out, static_cast<uint32_t>(kAround + headers.size() + payload.size()), 4);
  put_number(out, static_cast<uint32_t>(headers.size()), 4);
  put_checksum(out);
  out += headers;
  out += payload;
  put_checksum(out);
  return out;
}

}  // namespace sundog::api
