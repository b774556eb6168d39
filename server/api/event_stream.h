// Event stream: AWS's binary framing of a streamed answer (application/vnd.amazon.eventstream). Pure; any thread.
//
// A message: its length, its headers' length, CRC-32 of the two; headers (name, type 7, value); payload; CRC-32 of all
// of it. Numbers are big endian.
#pragma once

#include <string>
#include <string_view>

namespace sundog::api {

// One event of the type `event`, e.g. "PayloadChunk".
std::string event_message(std::string_view event, std::string_view content_type, std::string_view payload);

}  // namespace sundog::api
