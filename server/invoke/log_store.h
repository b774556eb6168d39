// LogStore: the lines of one function on disk: two segments, the older of which is dropped when the newer is full.
//
// Ownership   by FunctionLogs. One thread at a time.
// Format      one JSON object a line: {"s":sequence,"t":milliseconds,"r":request id,"x":text}. A torn last line is
// dropped.
#pragma once

#include <list>
#include <vector>

#include "base/fd.h"
#include "base/file.h"
#include "invoke/function_logs.h"

namespace sundog::invoke {

class LogStore {
 public:
  LogStore(Path folder, int64_t segment_bytes) : folder_(std::move(folder)), segment_bytes_(segment_bytes) {}

  // Gives each line the next sequence and writes them. What cannot be written is lost and counted; the lines that can
  // be written again begin with one that says how many.
  Status write(std::vector<LogLine> lines);
  // From memory where it reaches far enough back, else from disk.
  Result<std::vector<LogLine>> read(int64_t after, size_t limit);
  // Holds no file and no lines until it is used again; which sequence comes next stays known.
  void rest();
  // Forgets and removes everything.
  Status remove();

 private:
  Status write_all_of(std::vector<LogLine> lines);
  Status append_block(const std::string& block);
  Status load();
  Status open_segment();
  Status rotate();
  Result<std::vector<LogLine>> read_disk(int64_t after, size_t limit) const;
  void remember(LogLine line);
  Path older() const { return folder_ / "older.log"; }
  Path newer() const { return folder_ / "newer.log"; }

  Path folder_;
  int64_t segment_bytes_;
  bool loaded_ = false;
  UniqueFd file_;
  int64_t bytes_ = 0;  // in the newer segment
  int64_t next_ = 1;
  int64_t lost_ = 0;  // lines since the disk last took some
  std::string why_lost_;
  std::list<LogLine> recent_;
  size_t recent_bytes_ = 0;
};

}  // namespace sundog::invoke
