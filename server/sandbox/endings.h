// Endings: Lambda's words for how a process ended, of an instance as of an init.
//
// Threads     pure functions.
#pragma once

#include <cstdint>
#include <string>

#include "sandbox/sandbox.h"

namespace sundog::sandbox {

// "Runtime exited with error: exit status 3", "… signal: segmentation fault", "… without providing a reason" for 0.
std::string how_it_ended(int exit_status, int signal);
// The same of one that the kernel ended at its memory limit, with the limit and the peak.
std::string how_memory_ended_it(int64_t limit_bytes, int64_t peak_bytes);

// The names of an init failure's fields: ours, and Lambda's Runtime API's.
struct InitFailureFields {
  const char *type, *message, *stack;
};
inline constexpr InitFailureFields kOurFields{"type", "message", "stack"};
inline constexpr InitFailureFields kLambdasFields{"errorType", "errorMessage", "stackTrace"};
// What a process says of its failed init; whatever it says is text to show and no more. What it does not say, or not as
// text, is as in `unsaid`.
InitFailure init_failure_of(const Json& said, const InitFailureFields& fields = kOurFields,
                            InitFailure unsaid = {"Runtime.Unknown", "", {}});

}  // namespace sundog::sandbox
