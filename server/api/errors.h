// Errors on the wire: one table from Code to HTTP status and to the exception names of AWS Lambda's API.
//
// Threads     pure functions.
// Shapes      sundog: {"error":{"code","message","hint"}} · lambda: {"Type","Message","message"} and x-amzn-ErrorType,
// which is
//             where botocore's rest-json parser looks for the exception's name.
#pragma once

#include <string>
#include <string_view>

#include "api/router.h"
#include "base/json.h"
#include "base/result.h"
#include "net/http.h"

namespace sundog::api {

struct ErrorRow {
  Code code;
  int status;  // Sundog's routes
  std::string_view lambda_exception;
  int lambda_status;
};
const ErrorRow& error_row(Code code);

// The paths that AWS Lambda's API has: "/2015-03-31/…" and its other dated ones.
ErrorShape shape_of_path(std::string_view path);

net::Response error_response(const Error& error, ErrorShape shape);
// With an exception of Lambda's that no Code stands for.
net::Response lambda_error_response(int status, std::string_view exception, std::string_view message);

// What Call::json() gives for a body that is not JSON; Lambda's shape names it InvalidRequestContentException.
Error not_json(const Error& parse_error);

}  // namespace sundog::api
