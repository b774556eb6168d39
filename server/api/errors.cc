#include "api/errors.h"

#include <array>

namespace sundog::api {
namespace {

constexpr std::string_view kNotJson = "The request's body is not a JSON object: ";

constexpr std::array kRows = {
    ErrorRow{Code::invalid_argument, 400, "InvalidParameterValueException", 400},
    ErrorRow{Code::unauthenticated, 401, "UnrecognizedClientException", 403},
    ErrorRow{Code::permission_denied, 403, "AccessDeniedException", 403},
    ErrorRow{Code::not_found, 404, "ResourceNotFoundException", 404},
    ErrorRow{Code::already_exists, 409, "ResourceConflictException", 409},
    ErrorRow{Code::conflict, 409, "ResourceConflictException", 409},
    ErrorRow{Code::too_large, 413, "RequestTooLargeException", 413},
    ErrorRow{Code::resource_exhausted, 429, "TooManyRequestsException", 429},
    // Lambda has no such error; a name of our own, and a status that no client of AWS retries.
    ErrorRow{Code::budget_exceeded, 402, "BudgetExceededException", 402},
    ErrorRow{Code::deadline_exceeded, 504, "ServiceException", 504},
    ErrorRow{Code::unavailable, 503, "ServiceException", 503},
    ErrorRow{Code::data_loss, 500, "ServiceException", 500},
    ErrorRow{Code::unsupported, 501, "InvalidParameterValueException", 400},
    ErrorRow{Code::cancelled, 409, "ServiceException", 500},
    ErrorRow{Code::internal, 500, "ServiceException", 500},
};

void add_headers_of_code(net::Response& response, Code code) {
  if (code == Code::resource_exhausted || code == Code::unavailable) response.headers.emplace_back("Retry-After", "1");
}

}  // namespace

const ErrorRow& error_row(Code code) {
  for (const auto& row : kRows) {
    if (row.code == code) return row;
  }
  return kRows.back();
}

ErrorShape shape_of_path(std::string_view path) {
  // "/2015-03-31/functions", "/2017-10-31/functions/…/concurrency", …
  constexpr std::string_view kDated = "/dddd-dd-dd/";
  if (path.size() < kDated.size()) return ErrorShape::sundog;
  for (size_t i = 0; i < kDated.size(); ++i) {
    const bool fits = kDated[i] == 'd' ? path[i] >= '0' && path[i] <= '9' : path[i] == kDated[i];
    if (!fits) return ErrorShape::sundog;
  }
  return ErrorShape::lambda;
}

net::Response error_response(const Error& error, ErrorShape shape) {
  const auto& row = error_row(error.code);
  if (shape == ErrorShape::lambda) {
    const bool not_json = error.code == Code::invalid_argument && error.message.starts_with(kNotJson);
    auto response = lambda_error_response(
        row.lambda_status, not_json ? "InvalidRequestContentException" : row.lambda_exception, error.text());
    add_headers_of_code(response, error.code);
    return response;
  }
  const Json body = {
      {"error", {{"code", std::string(name(error.code))}, {"message", error.message}, {"hint", error.hint}}}};
  net::Response response{row.status, {{"Content-Type", "application/json"}}, dump(body)};
  if (error.code == Code::unauthenticated) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  add_headers_of_code(response, error.code);
  return response;
}

net::Response lambda_error_response(int status, std::string_view exception, std::string_view message) {
  // Some of the service's exceptions are modelled with "Message" and some with "message": both are there.
  const Json body = {{"Type", status < 500 ? "User" : "Service"}, {"Message", message}, {"message", message}};
  return {status, {{"Content-Type", "application/json"}, {"x-amzn-ErrorType", std::string(exception)}}, dump(body)};
}

Error not_json(const Error& parse_error) {
  return fail(Code::invalid_argument, std::string(kNotJson) + parse_error.message, parse_error.hint);
}

void reply(net::Responder& responder, int status, const Json& body, net::Pairs headers) {
  headers.emplace_back("Content-Type", "application/json");
  responder.send({status, std::move(headers), status == 204 ? std::string() : dump(body)});
}

void reply_error(net::Responder& responder, const Error& error, ErrorShape shape) {
  responder.send(error_response(error, shape));
}

}  // namespace sundog::api
