// Ids: random, so that no two servers ever make the same one. Any thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace sundog {

std::string uuid4();                          // "xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx"
std::string id_digits(size_t count);          // so many random hexadecimal digits
std::string short_id(std::string_view kind);  // "run-3f9a0c2b7d1e", 48 random bits

}  // namespace sundog
