// OutputReader: hands on what a process writes to its standard output and error, as it comes.
//
// Ownership   owns the pipe's read end.
// Threads     the loop thread; the callback may destroy the reader.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "base/fd.h"
#include "net/loop.h"

namespace sundog::sandbox {

class OutputReader {
 public:
  OutputReader(net::Loop& loop, UniqueFd pipe, std::function<void(std::string_view)> on_output);
  ~OutputReader();
  OutputReader(const OutputReader&) = delete;
  OutputReader& operator=(const OutputReader&) = delete;

  // Takes what is in the pipe now, at most `limit` bytes.
  void drain(size_t limit = 1 << 20);
  void close();

 private:
  net::Loop& loop_;
  UniqueFd pipe_;
  std::function<void(std::string_view)> on_output_;
  net::Loop::Id watch_ = 0;
  std::shared_ptr<bool> here_ = std::make_shared<bool>(true);
};

}  // namespace sundog::sandbox
