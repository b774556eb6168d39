// Any bytes as a ledger line, with the right checksum in front as well: refused or read, and what was read is written
// so that it reads as the same.
#include <cstdlib>

#include "meter/record_line.h"

namespace {

void read_and_write(std::string_view line) {
  const auto record = sundog::meter::parse_record_line(line);
  if (!record.ok()) return;
  const auto written = sundog::meter::record_line(*record);
  const auto again = sundog::meter::parse_record_line(std::string_view(written).substr(0, written.size() - 1));
  if (!again.ok() || sundog::meter::record_line(*again) != written) std::abort();
  if (sundog::meter::record_json(*again) != sundog::meter::record_json(*record)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  read_and_write(text);
  read_and_write(sundog::meter::checksum(text) + " " + std::string(text));
  return 0;
}
