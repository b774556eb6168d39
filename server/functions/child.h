// Child: runs one program to its end, with a deadline. Used to build environments; instances are the sandbox's.
//
// Threads     stateless; any thread; blocks until the program has ended.
// Failure     unavailable (cannot be started) · cancelled (stopped) · deadline_exceeded (its whole process group was
// killed)
#pragma once

#include <atomic>
#include <map>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "base/result.h"

namespace sundog::functions {

struct ChildSpec {
  std::vector<std::string> command;  // command[0] is the program's path
  std::map<std::string, std::string> environment;
  Path folder;  // working directory
  Millis timeout{600'000};
  const std::atomic<bool>* stop = nullptr;  // once true, the program is killed within 200 ms
  size_t keep = 16 << 10;                   // of the output, the last so many bytes
};

struct ChildEnd {
  int status = 0;      // exit status, or 128 + signal
  std::string output;  // standard output and error together
};

// Real time, whatever the server's clock is: it waits for a real process. The program is killed if this process dies.
Result<ChildEnd> run_child(const ChildSpec& spec);

}  // namespace sundog::functions
