#include "base/ids.h"

#include <algorithm>

#include "base/crypto.h"

namespace sundog {

namespace {

// A call of the generator costs a microsecond, whatever it is asked for: ids, which are no secrets, share one.
std::string id_bytes(size_t count) {
  thread_local std::string pool;
  if (pool.size() < count) pool = random_bytes(std::max<size_t>(count, 1024));
  std::string bytes = pool.substr(pool.size() - count);
  pool.resize(pool.size() - count);
  return bytes;
}

}  // namespace

std::string uuid4() {
  std::string bytes = id_bytes(16);
  bytes[6] = static_cast<char>((bytes[6] & 0x0f) | 0x40);
  bytes[8] = static_cast<char>((bytes[8] & 0x3f) | 0x80);
  std::string text = hex(bytes);
  for (const size_t at : {8, 13, 18, 23}) text.insert(at, 1, '-');
  return text;
}

std::string id_digits(size_t count) {
  return hex(id_bytes((count + 1) / 2)).substr(0, count);
}

std::string short_id(std::string_view kind) {
  return std::string(kind) + "-" + id_digits(12);
}

}  // namespace sundog
