#include "base/clock.h"

#include <ctime>

namespace sundog {
namespace {

constexpr int64_t kStartOf2026 = 1767225600;

std::string formatted(WallTime time, const char* suffix) {
  const auto millis = epoch_millis(time);
  const std::time_t seconds = millis / 1000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[40];
  const auto length = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  const auto fraction = std::to_string(1000 + millis % 1000).substr(1);
  return std::string(text, length) + "." + fraction + suffix;
}

}  // namespace

WallTime FakeClock::wall() const {
  return WallTime{std::chrono::seconds{kStartOf2026}} + Duration{since_start_.load()};
}

std::string lambda_time(WallTime time) {
  return formatted(time, "+0000");
}
std::string iso_time(WallTime time) {
  return formatted(time, "Z");
}

int64_t epoch_millis(WallTime time) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
}

WallTime from_epoch_millis(int64_t millis) {
  return WallTime{std::chrono::milliseconds{millis}};
}

std::string iso_day(WallTime time) {
  return iso_time(time).substr(0, 10);
}

}  // namespace sundog
