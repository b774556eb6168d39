#include "functions/naming.h"

#include <algorithm>
#include <charconv>

#include "functions/functions.h"

namespace sundog::functions {
namespace {

constexpr std::string_view kFunctionArn = "arn:aws:lambda:local:000000000000:function:";
constexpr std::string_view kLayerArn = "arn:aws:lambda:local:000000000000:layer:sundog-environment-";

bool letters(std::string_view text, std::string_view also) {
  return !text.empty() && std::ranges::all_of(text, [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           also.find(c) != std::string_view::npos;
  });
}

bool digits(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

Error bad_name(std::string_view text) {
  return fail(Code::invalid_argument, "\"" + std::string(text.substr(0, 200)) + "\" names no function.",
              "Give a name of 1 to 64 letters, digits, - and _, or its ARN " + std::string(kFunctionArn) + "NAME.");
}

// What stands before the name in an ARN or in a partial one ("000000000000:function:NAME"); nothing if neither.
std::string_view without_arn(std::string_view text) {
  const size_t marker = text.find("function:");
  if (marker == std::string_view::npos) return text;
  const std::string_view before = text.substr(0, marker);
  const bool whole = before.starts_with("arn:aws") && std::ranges::count(before, ':') == 5 && before.ends_with(':');
  const bool partial = before.empty() || (before.ends_with(':') && digits(before.substr(0, before.size() - 1)));
  return whole || partial ? text.substr(marker + 9) : text;
}

}  // namespace

std::string function_arn(std::string_view name, std::string_view qualifier) {
  std::string arn(kFunctionArn);
  arn += name;
  if (!qualifier.empty()) arn += ":" + std::string(qualifier);
  return arn;
}

Status check_function_name(std::string_view name) {
  if (name.size() > 64 || !letters(name, "-_")) return bad_name(name);
  return done;
}

Status check_alias_name(std::string_view name) {
  if (name.size() > 128 || !letters(name, "-_") || digits(name)) {
    return fail(Code::invalid_argument, "\"" + std::string(name.substr(0, 200)) + "\" is no name for an alias.",
                "Use 1 to 128 letters, digits, - and _, not digits alone.");
  }
  return done;
}

std::optional<int64_t> version_number(std::string_view text) {
  if (!digits(text) || text.size() > 18) return std::nullopt;
  int64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

std::string environment_layer_arn(std::string_view environment_id) {
  return std::string(kLayerArn) + std::string(environment_id) + ":1";
}

Result<std::string> environment_of_layer(std::string_view arn) {
  if (!arn.starts_with(kLayerArn) || !arn.ends_with(":1") || arn.size() <= kLayerArn.size() + 2) {
    return fail(Code::invalid_argument, "\"" + std::string(arn.substr(0, 200)) + "\" is no environment of this server.",
                "Layers other than environments are not there yet; make one with POST /v1/environments and name it " +
                    std::string(kLayerArn) + "<id>:1.");
  }
  return std::string(arn.substr(kLayerArn.size(), arn.size() - kLayerArn.size() - 2));
}

Result<FunctionName> parse_function_name(const std::string& text) {
  const std::string_view rest = without_arn(text);
  const size_t colon = rest.find(':');
  FunctionName found;
  found.name = rest.substr(0, colon);
  if (found.name.size() > 64 || !letters(found.name, "-_")) return bad_name(text);
  if (colon == std::string_view::npos) return found;
  found.qualifier = rest.substr(colon + 1);
  if (found.qualifier.size() > 128 || !letters(found.qualifier, "-_$")) return bad_name(text);
  return found;
}

}  // namespace sundog::functions
