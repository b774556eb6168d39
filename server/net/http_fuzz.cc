// Bytes of a connection → RequestParser, the target's decoding, and its way back.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "net/http.h"
#include "net/request_parser.h"

using namespace sundog;  // NOLINT(google-build-using-namespace)

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  const size_t step = 1 + data[0];  // arrives in pieces of this size

  net::RequestParser parser(1024);
  std::string pending;
  while (!input.empty()) {
    pending.append(input.substr(0, step));
    input.remove_prefix(std::min(step, input.size()));
    size_t used = 1;
    while (!pending.empty() && used > 0) {
      const auto consumed = parser.feed(pending);
      if (!consumed.ok()) return 0;
      used = *consumed;
      if (used > pending.size()) std::abort();
      pending.erase(0, used);
      if (!parser.done()) continue;
      auto& request = parser.request();
      if (net::parse_target(request).ok()) {
        if (request.path.empty() || request.path.find('\0') != std::string::npos) std::abort();
        if (*net::percent_decode(net::percent_encode(request.path, true)) != request.path) std::abort();
      }
      parser.reset();
    }
    if (pending.size() > (64 << 10)) return 0;
  }
  return 0;
}
