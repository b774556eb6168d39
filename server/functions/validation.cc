#include "functions/validation.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "functions/naming.h"
#include "sandbox/egress_policy.h"

namespace sundog::functions {
namespace {

constexpr size_t kVariablesLimit = 4096;
constexpr size_t kTagsLimit = 50;
constexpr size_t kAllowLimit = 4096;
constexpr int kConcurrencyLimit = 1000;

// Those that the runtime sets itself: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
constexpr std::array<std::string_view, 18> kReserved = {"_HANDLER",
                                                        "_X_AMZN_TRACE_ID",
                                                        "AWS_DEFAULT_REGION",
                                                        "AWS_REGION",
                                                        "AWS_EXECUTION_ENV",
                                                        "AWS_LAMBDA_FUNCTION_NAME",
                                                        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
                                                        "AWS_LAMBDA_FUNCTION_VERSION",
                                                        "AWS_LAMBDA_INITIALIZATION_TYPE",
                                                        "AWS_LAMBDA_LOG_GROUP_NAME",
                                                        "AWS_LAMBDA_LOG_STREAM_NAME",
                                                        "AWS_ACCESS_KEY",
                                                        "AWS_ACCESS_KEY_ID",
                                                        "AWS_SECRET_ACCESS_KEY",
                                                        "AWS_SESSION_TOKEN",
                                                        "AWS_LAMBDA_RUNTIME_API",
                                                        "LAMBDA_TASK_ROOT",
                                                        "LAMBDA_RUNTIME_DIR"};

Error invalid(std::string message, std::string hint = {}) {
  return fail(Code::invalid_argument, std::move(message), std::move(hint));
}

Status between(std::string_view what, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return done;
  return invalid(std::string(what) + " is " + std::to_string(value) + ", but must be between " + std::to_string(low) +
                 " and " + std::to_string(high) + ".");
}

Status at_most(std::string_view what, size_t size, size_t limit) {
  if (size <= limit) return done;
  return invalid(std::string(what) + " has " + std::to_string(size) + " characters; the limit is " +
                 std::to_string(limit) + ".");
}

bool variable_name(std::string_view name) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  return name.size() >= 2 && letter(name.front()) &&
         std::ranges::all_of(name, [&](char c) { return letter(c) || (c >= '0' && c <= '9') || c == '_'; });
}

Status check_variables(const std::map<std::string, std::string>& variables) {
  size_t total = 0;
  std::string reserved;
  for (const auto& [name, value] : variables) {
    if (std::ranges::find(kReserved, name) != kReserved.end())
      reserved += (reserved.empty() ? "" : ", ") + name;
    else if (!variable_name(name)) {
      return invalid("\"" + name.substr(0, 100) + "\" is no name for an environment variable.",
                     "Begin with a letter and use letters, digits and _; at least two characters.");
    }
    if (value.find('\0') != std::string::npos) return invalid("Environment variable " + name + " holds a NUL byte.");
    total += name.size() + value.size();
  }
  if (!reserved.empty()) {
    return invalid(
        "Lambda was unable to configure your environment variables because the environment variables you have provided "
        "contains reserved keys that are currently not supported for modification. Reserved keys used in this "
        "request: " +
        reserved);
  }
  if (total > kVariablesLimit) {
    return invalid(
        "Lambda was unable to configure your environment variables because the environment variables you "
        "have provided exceeded the 4KB limit: they have " +
        std::to_string(total) + " bytes.");
  }
  return done;
}

Status check_runtime(const Config& config) {
  const auto& runtime = config.runtime;
  if (runtime.starts_with("python3.") && version_number(runtime.substr(8))) return done;
  if (runtime != "provided.al2023" && runtime != "provided.al2") {
    return invalid("Runtime \"" + runtime.substr(0, 64) + "\" is not supported.",
                   "Use python3.11, or provided.al2023 with a bootstrap of your own.");
  }
  if (config.network == sandbox::Network::host) {
    return invalid("A custom runtime cannot have the host's network: every process of the host could answer for it.",
                   "Leave the tag sundog:network out.");
  }
  return done;
}

Status check_handler(const std::string& handler) {
  if (handler.empty()) return invalid("The function has no Handler.", "Name it as \"module.function\".");
  SUNDOG_CHECK(at_most("Handler", handler.size(), 128));
  if (std::ranges::any_of(handler, [](char c) { return static_cast<unsigned char>(c) <= 0x20; })) {
    return invalid("Handler \"" + handler + "\" holds a space.", "Name it as \"module.function\".");
  }
  return done;
}

Status check_allow(const Config& config) {
  const bool egress = config.network == sandbox::Network::egress;
  if (egress && config.allow.empty()) {
    return invalid("The network \"egress\" needs a list of what may be reached.",
                   "Set the tag sundog:allow, for example to \"api.example.com:443,*.example.org\".");
  }
  if (!egress && !config.allow.empty()) {
    return invalid("The function has a list of what may be reached, but not the network \"egress\".",
                   "Set the tag sundog:network to egress, or remove the tag sundog:allow.");
  }
  SUNDOG_CHECK(sandbox::EgressPolicy::parse(config.allow));
  return done;
}

Status check_tags(const std::map<std::string, std::string>& tags) {
  if (tags.size() > kTagsLimit)
    return invalid("The function has " + std::to_string(tags.size()) + " tags; the limit is 50.");
  for (const auto& [key, value] : tags) {
    if (key.empty()) return invalid("A tag has an empty key.");
    SUNDOG_CHECK(at_most("Tag key \"" + key.substr(0, 64) + "\"", key.size(), 128));
    SUNDOG_CHECK(at_most("Tag \"" + key + "\"", value.size(), key == kAllowTag ? kAllowLimit : 256));
  }
  return done;
}

}  // namespace

Status check_config(const Config& config) {
  SUNDOG_CHECK(check_function_name(config.name));
  SUNDOG_CHECK(at_most("Description", config.description.size(), 256));
  SUNDOG_CHECK(check_runtime(config));
  SUNDOG_CHECK(check_handler(config.handler));
  SUNDOG_CHECK(at_most("Role", config.role.size(), 2048));
  SUNDOG_CHECK(between("MemorySize", config.memory_mb, 128, 10'240));
  SUNDOG_CHECK(between("Timeout", config.timeout_s, 1, 900));
  SUNDOG_CHECK(between("EphemeralStorage Size", config.ephemeral_mb, 512, 10'240));
  SUNDOG_CHECK(check_variables(config.variables));
  SUNDOG_CHECK(check_allow(config));
  return check_tags(config.tags);
}

Status check_alias(const Alias& alias, const std::function<bool(const std::string& version)>& exists) {
  SUNDOG_CHECK(check_alias_name(alias.name));
  SUNDOG_CHECK(at_most("Description", alias.description.size(), 256));
  if (alias.version != kLatest && !version_number(alias.version)) {
    return invalid("FunctionVersion \"" + alias.version.substr(0, 64) + "\" is no version.",
                   "Give $LATEST or a number.");
  }
  const auto missing = [](const std::string& version) {
    return fail(Code::not_found, "Function version " + version + " does not exist.",
                "ListVersionsByFunction shows those that exist.");
  };
  if (!exists(alias.version)) return missing(alias.version);
  if (alias.weights.empty()) return done;
  if (alias.version == kLatest)
    return invalid("$LATEST is not supported for an alias pointing to more than 1 version.");
  if (alias.weights.size() > 1) {
    return invalid("Number of items in AdditionalVersionWeights cannot be greater than 1, but is " +
                   std::to_string(alias.weights.size()) + ".");
  }
  const auto& [version, weight] = *alias.weights.begin();
  if (!version_number(version))
    return invalid("\"" + version.substr(0, 64) + "\" in AdditionalVersionWeights is no version.");
  if (version == alias.version) {
    return invalid("Invalid function version " + version + ". The AdditionalVersionWeights must name another version.");
  }
  if (!std::isfinite(weight) || weight < 0.0 || weight > 1.0) {
    return invalid("The weight of version " + version + " is " + std::to_string(weight) +
                   ", but must be between 0 and 1.");
  }
  return exists(version) ? Status(done) : missing(version);
}

Status check_reserved_concurrency(int limit) {
  return between("ReservedConcurrentExecutions", limit, 0, kConcurrencyLimit);
}

}  // namespace sundog::functions
