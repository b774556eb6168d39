// Bootstrap: the user's own runtime process: how it is started and how it ended.
//
// Ownership   reaped by whoever calls wait(); left running when dropped (the tree's end ends it).
// Threads     one.
// Failure     unavailable, in Lambda's words for a bootstrap that cannot be executed.
#pragma once

#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace sundog::sandbox {

struct ProcessEnd {
  int exit_status = 0;
  int signal = 0;  // that ended it; 0: it exited
};

class Bootstrap {
 public:
  // Executes `program` in `folder`; `variables` ("NAME=value") are its whole environment.
  static Result<Bootstrap> start(const std::string& program, const std::string& folder,
                                 const std::vector<std::string>& variables);

  // Readable once it has ended.
  int ended_fd() const { return ended_.get(); }
  // Blocks until it has.
  ProcessEnd wait();

 private:
  Bootstrap(int pid, UniqueFd ended) : pid_(pid), ended_(std::move(ended)) {}
  int pid_;
  UniqueFd ended_;
};

}  // namespace sundog::sandbox
