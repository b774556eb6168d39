// A native instance for the tests: echoes, streams, reads a blob of the host, dies on request.
#include <cstdlib>

#include "sandbox/native_instance.h"

#if __has_feature(address_sanitizer)
// It looks for leaks by tracing the process, which the seal forbids: the exit status would be its, not ours.
extern "C" int __lsan_is_turned_off();  // NOLINT(bugprone-reserved-identifier)
extern "C" int __lsan_is_turned_off() {
  return 1;
}
#endif

int main() {
  using namespace sundog;
  return sandbox::serve_native(
      [](sandbox::NativeInstance& host, const sandbox::NativeInvocation& work) -> Result<std::string> {
        if (work.payload == "exit") std::exit(7);
        if (work.payload == "abort") std::abort();
        if (work.payload == "fail") return fail(Code::invalid_argument, "Asked to fail.");
        if (work.payload == "stream and exit") {
          for (const char* piece : {"one ", "two ", "three"}) SUNDOG_CHECK(host.stream(piece));
          SUNDOG_CHECK(host.answer(std::string()));
          std::exit(0);
        }
        if (work.payload != "blob") return work.payload;
        SUNDOG_TRY(blob, host.open_blob("b1"));
        char text[64];
        const ssize_t bytes = read(blob.get(), text, sizeof(text));
        return std::string(text, size_t(std::max<ssize_t>(bytes, 0)));
      });
}
