// Serving invocations on descriptor 3: docs/formats/instance.md from the instance's side, one invocation at a time.
#pragma once

#include "base/json.h"
#include "base/result.h"

namespace sundog::data::worker {

// Until the server closes the socket. Returns the process's exit status.
int serve(int socket = 3);

// An Error as Lambda's error object; jobs read code and hint back from it (server/data/job_context.cc).
Json error_object(const Error& error, const std::string& request_id);

}  // namespace sundog::data::worker
