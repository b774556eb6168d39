// Any bytes as a ledger line: refused or read, and what was read is written as it was.
#include <cstdlib>

#include "meter/record_line.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view line(reinterpret_cast<const char*>(data), size);
  const auto record = sundog::meter::parse_record_line(line);
  if (!record) return 0;
  const auto written = sundog::meter::record_line(*record);
  if (!sundog::meter::parse_record_line(std::string_view(written).substr(0, written.size() - 1))) std::abort();
  return 0;
}
