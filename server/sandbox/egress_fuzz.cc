// Any bytes from a function to its way out, and any entry of an allow list: parsed without a fault, and what is
// accepted names a host that is one, sends no second head, and leads nowhere inside.
#include <cstdint>
#include <cstdlib>

#include "sandbox/egress_policy.h"
#include "sandbox/egress_request.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sundog;
  using namespace sundog::sandbox;
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  const auto request = parse_egress_request(bytes);
  if (request.ok() && *request) {
    const auto& found = **request;
    if (found.host.empty() || found.port == 0 || found.bytes > size || found.bytes > kMaxEgressHead) std::abort();
    const auto end = found.head.find("\r\n\r\n");
    if (!found.tunnel && end != found.head.size() - 4) std::abort();
    if (found.tunnel && !found.head.empty()) std::abort();
  }
  const auto policy = EgressPolicy::parse({bytes});
  Address loopback{};
  loopback[10] = loopback[11] = 0xff;
  loopback[12] = 127;
  loopback[15] = 1;
  if (policy.ok() && !policy->names_private()) {
    for (const auto* host : {"127.0.0.1", "localhost", bytes.c_str()}) {
      if (policy->allows_address(host, 443, loopback, {})) std::abort();
    }
  }
  const auto name = host_name(bytes);
  if (!name.empty() && host_name(name) != name) std::abort();
  return 0;
}
