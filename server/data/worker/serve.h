// Serving invocations as a sandboxed native instance, through sandbox/native_instance.h.
#pragma once

namespace sundog::data::worker {

// Until the server lets the instance go. Returns the process's exit status.
int serve();

}  // namespace sundog::data::worker
