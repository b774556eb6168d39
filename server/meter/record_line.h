// Record lines: one usage record as one line of a ledger segment, and back. docs/formats/ledger.md tells the fields.
//
// Threads     any; pure.
// Failure     data_loss: not whole, or not right · unsupported: written by a newer Sundog
#pragma once

#include <string>
#include <string_view>

#include "meter/usage.h"

namespace sundog::meter {

// "<CRC-32 of the JSON, 8 hexadecimal digits> <JSON>\n"
std::string record_line(const UsageRecord& record);
// `line` without its end.
Result<UsageRecord> parse_record_line(std::string_view line);
// Whether it came to the disk as it was written, in whatever format.
bool is_whole_line(std::string_view line);

Json record_json(const UsageRecord& record);

// The CRC-32 (as in zlib) as 8 hexadecimal digits.
std::string checksum(std::string_view text);

}  // namespace sundog::meter
