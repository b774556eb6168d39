// Event bodies: an asynchronous invocation as the queue's message, and back. docs/formats/event.md tells the fields.
//
// Threads     any; pure.
// Failure     invalid_argument: not one of ours, or of a version that this server does not know.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "invoke/invoker.h"

namespace sundog::invoke {

struct Event {
  Invocation invocation;
  WallTime accepted;
  std::optional<WallTime> throttled;  // since when it has found no room
  int earlier_attempts = 0;           // made by earlier messages of the same event
};

std::string event_body(const Event& event);
Result<Event> parse_event(std::string_view body);

}  // namespace sundog::invoke
