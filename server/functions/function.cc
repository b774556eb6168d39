#include "functions/function.h"

#include "functions/naming.h"

namespace sundog::functions {

std::string_view name(Kind kind) {
  switch (kind) {
    case Kind::function:
      return "function";
    case Kind::data:
      return "data";
    case Kind::training:
      return "training";
    case Kind::prediction:
      return "prediction";
  }
  return "function";
}

Result<Kind> kind_from(std::string_view text) {
  for (const Kind kind : {Kind::function, Kind::data, Kind::training, Kind::prediction}) {
    if (name(kind) == text) return kind;
  }
  return fail(Code::invalid_argument, "\"" + std::string(text) + "\" is no kind of function.",
              "sundog:kind is function, data, training or prediction.");
}

bool is_custom(const Config& config) {
  return config.runtime.starts_with("provided");
}

std::string_view name(UpdateStatus status) {
  switch (status) {
    case UpdateStatus::successful:
      return "Successful";
    case UpdateStatus::in_progress:
      return "InProgress";
    case UpdateStatus::failed:
      return "Failed";
  }
  return "Successful";
}

std::string Version::arn() const {
  return function_arn(config.name, version == kLatest ? "" : version);
}

std::string Version::identity() const {
  return tenant + "/" + config.name + "/" + version + "@" + revision_id;
}

}  // namespace sundog::functions
