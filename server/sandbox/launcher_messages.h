// The server's side of the launcher's protocol (launcher/protocol.h): builds requests, reads replies.
//
// Threads     pure functions.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "sandbox/launcher/protocol.h"

namespace sundog::sandbox::launcher {

// Lays the strings out as parse_request expects them; a mount is its source, its place and "r" or "w".
std::string encode_request(RequestHeader header, const std::vector<std::string>& argv,
                           const std::vector<std::string>& environment,
                           const std::vector<std::array<std::string, 3>>& mounts);

bool parse_reply(std::string_view message, ReplyHeader& out);

}  // namespace sundog::sandbox::launcher
