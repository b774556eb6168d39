#include "sandbox/output_reader.h"

#include <cerrno>
#include <string>

namespace sundog::sandbox {

OutputReader::OutputReader(net::Loop& loop, UniqueFd pipe, std::function<void(std::string_view)> on_output)
    : loop_(loop), pipe_(std::move(pipe)), on_output_(std::move(on_output)) {
  watch_ = loop_.watch_readable(pipe_.get(), [this] { drain(64 << 10); });
}

OutputReader::~OutputReader() {
  close();
  *here_ = false;
}

void OutputReader::close() {
  if (watch_ != 0) loop_.unwatch(watch_);
  watch_ = 0;
  pipe_.reset();
}

void OutputReader::drain(size_t limit) {
  const auto here = here_;
  char text[64 << 10];
  while (limit > 0 && *here && pipe_) {
    const ssize_t bytes = read(pipe_.get(), text, std::min(limit, sizeof(text)));
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0 && errno == EAGAIN) return;
    if (bytes <= 0) return close();
    limit -= size_t(bytes);
    on_output_({text, size_t(bytes)});
  }
}

}  // namespace sundog::sandbox
