// HeldMemory: bytes that are held now, and how long how many were: what standing memory costs its operator.
//
// Threads     one at a time.
#pragma once

#include <cstdint>

#include "base/clock.h"

namespace sundog::meter {

class HeldMemory {
 public:
  explicit HeldMemory(const Clock& clock) : clock_(clock), since_(clock.mono()) {}
  HeldMemory(const HeldMemory&) = delete;
  HeldMemory& operator=(const HeldMemory&) = delete;

  operator int64_t() const { return bytes_; }  // NOLINT(google-explicit-constructor): it is a number of bytes
  HeldMemory& operator+=(int64_t bytes) {
    held_ = byte_seconds();
    since_ = clock_.mono();
    bytes_ += bytes;
    return *this;
  }
  HeldMemory& operator-=(int64_t bytes) { return *this += -bytes; }
  double gb_seconds() const { return byte_seconds() / (1 << 30); }

 private:
  double byte_seconds() const {
    return held_ + static_cast<double>(bytes_) * std::chrono::duration<double>(clock_.mono() - since_).count();
  }

  const Clock& clock_;
  MonoTime since_;
  int64_t bytes_ = 0;
  double held_ = 0;
};

}  // namespace sundog::meter
