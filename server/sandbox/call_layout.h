// CallLayout: the bytes of INVOKE's and RESULT's headers (docs/formats/instance.md), for the server's side of the
// socket and for the native extension's: one reader and one writer of each.
//
// Ownership   an InvokeHeader points into the bytes that it was read from.
// Threads     any; only what returns a string allocates.
// Failure     false for bytes that are no such header; any bytes are safe to read.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace sundog::sandbox {

struct InvokeHeader {
  int64_t deadline_ms = 0;  // since 1970
  uint32_t memory_mb = 0;
  std::string_view request_id, arn, name, version;
  std::string_view client_context, meta;  // JSON or empty
};

inline constexpr size_t kInvokeFixed = 36;
inline constexpr size_t kResultBytes = 24;
enum ResultFlag : uint8_t { kOk = 1, kStreamed = 2, kCpuKnown = 4 };
using ResultBytes = std::array<char, kResultBytes>;

// The texts in the order of their lengths; for writing and for reading.
template <class Header>
auto texts_of(Header& header) {
  return std::array{&header.request_id,     &header.arn, &header.name, &header.version,
                    &header.client_context, &header.meta};
}

// Both sides run on one machine, and it is little endian (sundog builds for no other).
template <class T>
T number_at(std::string_view bytes, size_t at) {
  T value{};
  memcpy(&value, bytes.data() + at, sizeof(value));
  return value;
}

inline bool read_invoke(std::string_view bytes, InvokeHeader& header) {
  if (bytes.size() < kInvokeFixed) return false;
  header.deadline_ms = number_at<int64_t>(bytes, 0);
  header.memory_mb = number_at<uint32_t>(bytes, 8);
  size_t at = kInvokeFixed, length_at = 12;
  for (auto* text : texts_of(header)) {
    const size_t length = number_at<uint32_t>(bytes, length_at);
    if (length > bytes.size() - at) return false;
    *text = bytes.substr(at, length);
    at += length;
    length_at += sizeof(uint32_t);
  }
  return at == bytes.size();
}

inline ResultBytes result_bytes(uint64_t flags, int64_t handler_ns, int64_t cpu_ns) {
  ResultBytes bytes;
  memcpy(bytes.data(), &flags, sizeof(flags));
  memcpy(bytes.data() + 8, &handler_ns, sizeof(handler_ns));
  memcpy(bytes.data() + 16, &cpu_ns, sizeof(cpu_ns));
  return bytes;
}

}  // namespace sundog::sandbox
