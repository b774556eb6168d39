// Zips for tests, made by hand byte for byte, so that they can hold what no zip program writes. For tests only.
#pragma once

#include <boost/crc.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sundog::functions {

struct ZipEntry {
  std::string name;
  std::string content;
  unsigned mode = 0100644;
  uint16_t flags = 0;
};

namespace zip_bytes {
inline void put16(std::string& out, unsigned value) {
  out += static_cast<char>(value & 0xff);
  out += static_cast<char>((value >> 8) & 0xff);
}
inline void put32(std::string& out, uint32_t value) {
  put16(out, value & 0xffff);
  put16(out, value >> 16);
}
inline uint32_t crc32(std::string_view data) {
  boost::crc_32_type sum;
  sum.process_bytes(data.data(), data.size());
  return sum.checksum();
}
// What the local header and the central directory have in common.
inline std::string header(const ZipEntry& entry) {
  std::string out;
  put16(out, 20);
  put16(out, entry.flags);
  put16(out, 0);  // stored
  put32(out, 0x5a210000);
  put32(out, crc32(entry.content));
  put32(out, static_cast<uint32_t>(entry.content.size()));
  put32(out, static_cast<uint32_t>(entry.content.size()));
  put16(out, static_cast<unsigned>(entry.name.size()));
  put16(out, 0);
  return out;
}
}  // namespace zip_bytes

inline std::string make_zip(const std::vector<ZipEntry>& entries) {
  using namespace zip_bytes;
  std::string files;
  std::string directory;
  for (const auto& entry : entries) {
    const auto offset = static_cast<uint32_t>(files.size());
    files += "PK\x03\x04" + header(entry) + entry.name + entry.content;
    directory += "PK\x01\x02";
    put16(directory, (3 << 8) | 20);  // made on Unix
    directory += header(entry);
    put16(directory, 0);  // comment
    put16(directory, 0);  // disk
    put16(directory, 0);  // internal attributes
    put32(directory, static_cast<uint32_t>(entry.mode) << 16);
    put32(directory, offset);
    directory += entry.name;
  }
  std::string end = "PK\x05\x06";
  put16(end, 0);
  put16(end, 0);
  put16(end, static_cast<unsigned>(entries.size()));
  put16(end, static_cast<unsigned>(entries.size()));
  put32(end, static_cast<uint32_t>(directory.size()));
  put32(end, static_cast<uint32_t>(files.size()));
  put16(end, 0);
  return files + directory + end;
}

// A package of one module, as most tests need.
inline std::string handler_zip(const std::string& source = "def handler(event, context):\n    return event\n") {
  return make_zip({{"app.py", source}});
}

}  // namespace sundog::functions
