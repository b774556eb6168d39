// Any bytes as a payload: tasks with odd arguments end in an Error, never in a crash. No blob is ever there.
#include "data/worker/folder_host.h"
#include "data/worker/task.h"

namespace {

class EmptyHost final : public sundog::data::worker::Host {
 public:
  sundog::Result<sundog::UniqueFd> open_blob(const std::string&) override {
    return sundog::fail(sundog::Code::not_found, "No.");
  }
  sundog::Result<sundog::data::worker::NewFile> create_file() override {
    return sundog::fail(sundog::Code::unavailable, "No.");
  }
  sundog::Result<sundog::data::worker::StoredBlob> commit_file(const std::string&) override {
    return sundog::fail(sundog::Code::unavailable, "No.");
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool started = sundog::data::worker::start_arrow(1).ok();
  EmptyHost host;
  if (started) (void)sundog::data::worker::run_payload({reinterpret_cast<const char*>(data), size}, host);
  return 0;
}
