// Sources of bytes that need not fit in memory.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sundog {

using Bytes = std::string;  // contiguous raw bytes

// Yields a stream once, from one thread.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Appends up to `limit` bytes to `out` and returns how many; 0 is the end. May block up to its own deadline.
  virtual Result<size_t> read(Bytes& out, size_t limit) = 0;
};

// The bytes of a string that outlives the source.
class StringSource final : public ByteSource {
 public:
  explicit StringSource(std::string_view text) : rest_(text) {}
  Result<size_t> read(Bytes& out, size_t limit) override {
    const auto piece = rest_.substr(0, limit);
    out.append(piece);
    rest_.remove_prefix(piece.size());
    return piece.size();
  }

 private:
  std::string_view rest_;
};

}  // namespace sundog
