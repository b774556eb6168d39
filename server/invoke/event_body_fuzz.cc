// Any bytes as an event's message: refused or read, and what was read survives being written.
#include <cstdlib>

#include "invoke/event_body.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sundog::invoke;
  const auto event = parse_event(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!event.ok()) return 0;
  const auto again = parse_event(event_body(*event));
  if (!again.ok() || again->invocation.payload != event->invocation.payload) std::abort();
  return 0;
}
