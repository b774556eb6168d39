#include "sandbox/call_headers.h"

namespace sundog::sandbox {
namespace {

template <class T>
void put(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
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
  InvokeHeader header;
  if (read_invoke(bytes, header)) return header;
  return fail(Code::invalid_argument, "An invocation's header is not as long as its lengths say.");
}

std::string encode(const ResultHeader& header) {
  const unsigned flags = (header.ok ? kOk : 0U) | (header.streamed ? kStreamed : 0U) | (header.cpu ? kCpuKnown : 0U);
  const auto bytes = result_bytes(flags, header.handler.count(), header.cpu.value_or(Duration{}).count());
  return {bytes.data(), bytes.size()};
}

Result<ResultHeader> parse_result_header(std::string_view bytes) {
  if (bytes.size() != kResultBytes) return fail(Code::invalid_argument, "A result's header is not of 24 bytes.");
  const auto flags = number_at<uint64_t>(bytes, 0);
  if ((flags & ~uint64_t{kOk | kStreamed | kCpuKnown}) != 0) {
    return fail(Code::invalid_argument, "A result's header has flags that nobody knows.");
  }
  ResultHeader header;
  header.ok = (flags & kOk) != 0;
  header.streamed = (flags & kStreamed) != 0;
  header.handler = Duration{number_at<int64_t>(bytes, 8)};
  const Duration cpu{number_at<int64_t>(bytes, 16)};
  if (header.handler < Duration{} || cpu < Duration{}) {
    return fail(Code::invalid_argument, "A result's header has a time that is negative.");
  }
  if ((flags & kCpuKnown) != 0) header.cpu = cpu;
  return header;
}

}  // namespace sundog::sandbox
