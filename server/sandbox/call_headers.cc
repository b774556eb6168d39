#include "sandbox/call_headers.h"

#include <array>
#include <cstring>

namespace sundog::sandbox {
namespace {

constexpr size_t kInvokeFixed = 36;
constexpr size_t kResultBytes = 24;
constexpr uint8_t kOk = 1, kStreamed = 2, kCpuKnown = 4;

// Both sides run on one machine, and it is little endian (sundog builds for no other).
template <class T>
void put(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

template <class T>
T get(std::string_view bytes, size_t at) {
  T value{};
  std::memcpy(&value, bytes.data() + at, sizeof(value));
  return value;
}

// The texts in the order of their lengths; for writing and for reading.
template <class Header>
auto texts_of(Header& header) {
  return std::array{&header.request_id,     &header.arn, &header.name, &header.version,
                    &header.client_context, &header.meta};
}

}  // namespace

std::string encode(const InvokeHeader& header) {
  const auto texts = texts_of(header);
  size_t size = kInvokeFixed;
  for (const auto* text : texts) size += text->size();
  std::string bytes;
  bytes.reserve(size);
  put(bytes, header.deadline_ms);
  put(bytes, header.memory_mb);
  for (const auto* text : texts) put(bytes, static_cast<uint32_t>(text->size()));
  for (const auto* text : texts) bytes += *text;
  return bytes;
}

Result<InvokeHeader> parse_invoke_header(std::string_view bytes) {
  if (bytes.size() < kInvokeFixed) return fail(Code::invalid_argument, "An invocation's header is too short.");
  InvokeHeader header;
  header.deadline_ms = get<int64_t>(bytes, 0);
  header.memory_mb = get<uint32_t>(bytes, 8);
  size_t at = kInvokeFixed, length_at = 12;
  for (auto* text : texts_of(header)) {
    const size_t length = get<uint32_t>(bytes, length_at);
    if (length > bytes.size() - at) return fail(Code::invalid_argument, "An invocation's header ends within a text.");
    *text = bytes.substr(at, length);
    at += length;
    length_at += sizeof(uint32_t);
  }
  if (at != bytes.size()) return fail(Code::invalid_argument, "An invocation's header is longer than its texts.");
  return header;
}

std::string encode(const ResultHeader& header) {
  std::string bytes;
  bytes.reserve(kResultBytes);
  put(bytes, uint64_t{(header.ok ? kOk : 0U) | (header.streamed ? kStreamed : 0U) | (header.cpu ? kCpuKnown : 0U)});
  put(bytes, int64_t{header.handler.count()});
  put(bytes, int64_t{header.cpu.value_or(Duration{}).count()});
  return bytes;
}

Result<ResultHeader> parse_result_header(std::string_view bytes) {
  if (bytes.size() != kResultBytes) return fail(Code::invalid_argument, "A result's header is not of 24 bytes.");
  const auto flags = get<uint64_t>(bytes, 0);
  if ((flags & ~uint64_t{kOk | kStreamed | kCpuKnown}) != 0) {
    return fail(Code::invalid_argument, "A result's header has flags that nobody knows.");
  }
  ResultHeader header;
  header.ok = (flags & kOk) != 0;
  header.streamed = (flags & kStreamed) != 0;
  header.handler = Duration{get<int64_t>(bytes, 8)};
  const Duration cpu{get<int64_t>(bytes, 16)};
  if (header.handler < Duration{} || cpu < Duration{}) {
    return fail(Code::invalid_argument, "A result's header has a time that is negative.");
  }
  if ((flags & kCpuKnown) != 0) header.cpu = cpu;
  return header;
}

}  // namespace sundog::sandbox
