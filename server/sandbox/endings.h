// Endings: Lambda's words for how a process ended, of an instance as of an init.
//
// Threads     pure functions.
#pragma once

#include <cstdint>
#include <string>

namespace sundog::sandbox {

// "Runtime exited with error: exit status 3", "… signal: segmentation fault", "… without providing a reason" for 0.
std::string how_it_ended(int exit_status, int signal);
// The same of one that the kernel ended at its memory limit, with the limit and the peak.
std::string how_memory_ended_it(int64_t limit_bytes, int64_t peak_bytes);

}  // namespace sundog::sandbox
