// An Authorization header, a target and a header's value → parsing, canonical request and verification. No input may
// pass.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "api/router.h"
#include "api/sigv4.h"

using namespace sundog;  // NOLINT(google-build-using-namespace)

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  // Three lines: Authorization, target, x-amz-date.
  const auto first = input.find('\n');
  if (first == std::string_view::npos) return 0;
  const auto second = input.find('\n', first + 1);
  if (second == std::string_view::npos) return 0;

  static const api::Router& router = []() -> const api::Router& {
    static api::Router made;
    made.add("GET", "/v1/{name}/versions/{rest*}", api::Role::viewer, [](const std::shared_ptr<api::Call>&) {});
    made.add("GET", "/2015-03-31/functions/{name}", api::Role::viewer, [](const std::shared_ptr<api::Call>&) {});
    return made;
  }();

  net::Request request;
  request.method = "GET";
  request.target = std::string(input.substr(first + 1, second - first - 1));
  request.headers = {{"host", "localhost"}, {"x-amz-date", std::string(input.substr(second + 1))}};
  std::map<std::string, std::string, std::less<>> params;
  bool exists = false;
  if (router.match("GET", request.target, params, exists) != nullptr && !exists) std::abort();

  const auto parts = api::parse_sigv4(input.substr(0, first));
  if (!parts.ok()) return 0;
  const auto status = api::verify_sigv4(request, *parts,
                                        {.secret = "a secret that the input cannot know",
                                         .service = "lambda",
                                         .payload_hash = api::kUnsignedPayload,
                                         .now = from_epoch_millis(1'440'938'160'000)});
  if (status.ok()) std::abort();
  (void)api::canonical_request(request, parts->signed_headers, "");
  return 0;
}
