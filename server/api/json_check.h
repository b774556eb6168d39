// JsonCheck: whether bytes are one JSON document, without building it. Pure; any thread, the loop thread too: it reads
// some hundreds of megabytes a second and holds one bit for each level of nesting.
#pragma once

#include <string_view>

namespace sundog::api {

// RFC 8259, UTF-8 included.
bool is_json(std::string_view text);

}  // namespace sundog::api
