// Record lines: one usage record as one line of a ledger segment, and back. docs/formats/ledger.md tells the fields.
//
// Threads     any; pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "meter/usage.h"

namespace sundog::meter {

// "<CRC-32 of the JSON, 8 hexadecimal digits> <JSON>\n"
std::string record_line(const UsageRecord& record);
// nullopt for anything that is not whole and right. `line` without its end.
std::optional<UsageRecord> parse_record_line(std::string_view line);

Json record_json(const UsageRecord& record);

}  // namespace sundog::meter
