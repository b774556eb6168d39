#include "functions/environment_records.h"

namespace sundog::functions {
namespace {

std::vector<std::string> strings_of(const Json& json, std::string_view key) {
  std::vector<std::string> strings;
  const auto found = json.find(key);
  if (found == json.end() || !found->is_array()) return strings;
  for (const auto& each : *found) {
    if (each.is_string()) strings.push_back(each.get<std::string>());
  }
  return strings;
}

}  // namespace

std::string_view name(Environment::State state) {
  switch (state) {
    case Environment::State::building:
      return "building";
    case Environment::State::ready:
      return "ready";
    case Environment::State::failed:
      return "failed";
  }
  return "failed";
}

Json environment_json(const Environment& environment) {
  return {{"id", environment.id},
          {"python", environment.python},
          {"packages", environment.packages},
          {"resolved", environment.resolved},
          {"content", environment.content},
          {"state", name(environment.state)},
          {"log", environment.log},
          {"bytes", environment.bytes},
          {"build_seconds", environment.build_seconds}};
}

Result<Environment> environment_from(const Json& json) {
  Environment environment;
  SUNDOG_TRY(id, get_string(json, "id"));
  SUNDOG_TRY(python, get_string(json, "python"));
  SUNDOG_TRY(content, get_string(json, "content", ""));
  SUNDOG_TRY(state, get_string(json, "state"));
  SUNDOG_TRY(log, get_string(json, "log", ""));
  SUNDOG_TRY(bytes, get_int(json, "bytes", 0));
  SUNDOG_TRY(seconds, get_double(json, "build_seconds", 0));
  environment.id = std::move(id);
  environment.python = std::move(python);
  environment.content = std::move(content);
  environment.packages = strings_of(json, "packages");
  environment.resolved = strings_of(json, "resolved");
  environment.log = std::move(log);
  environment.bytes = bytes;
  environment.build_seconds = seconds;
  using State = Environment::State;
  environment.state = state == "ready" ? State::ready : state == "building" ? State::building : State::failed;
  return environment;
}

}  // namespace sundog::functions
