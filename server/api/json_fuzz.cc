// A request's body → Call::json() and the fields that routes read from it; what was read can be written again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "api/errors.h"
#include "api/router.h"

using namespace sundog;  // NOLINT(google-build-using-namespace)

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  api::Call call;
  call.request.body.assign(reinterpret_cast<const char*>(data), size);
  const auto json = call.json();
  if (!json.ok()) {
    // The refusal itself must be JSON, whatever bytes it quotes.
    for (const auto shape : {api::ErrorShape::sundog, api::ErrorShape::lambda}) {
      if (!parse_json(api::error_response(json.error(), shape).body, "the answer").ok()) std::abort();
    }
    return 0;
  }
  if (!json->is_object()) std::abort();
  // As POST /v1/keys reads it, and by every other type.
  for (const auto* field : {"role", "tenant", "name"}) {
    const auto text = get_string(*json, field, "");
    if (text.ok()) (void)api::role_from(*text);
    (void)get_int(*json, field, 0);
    (void)get_double(*json, field, 0);
    (void)get_bool(*json, field, false);
  }
  if (!parse_json(dump(*json), "the copy").ok()) std::abort();
  return 0;
}
