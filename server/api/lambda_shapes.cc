#include "api/lambda_shapes.h"

#include <algorithm>
#include <array>

#include "api/keys.h"
#include "base/crypto.h"
#include "functions/naming.h"
#include "functions/validation.h"
#include "sandbox/egress_policy.h"

namespace sundog::api {
namespace {

using functions::Config;

#ifdef __aarch64__
constexpr std::string_view kArchitecture = "arm64";
#else
constexpr std::string_view kArchitecture = "x86_64";
#endif
constexpr std::string_view kKindTag = "sundog:kind";
constexpr std::string_view kNetworkTag = "sundog:network";

Error invalid(std::string message, std::string hint = {}) {
  return fail(Code::invalid_argument, std::move(message), std::move(hint));
}

// Empty objects, lists and strings ask for nothing.
bool asks(const Json& value) {
  if (value.is_null()) return false;
  if (value.is_string()) return !value.get_ref<const std::string&>().empty();
  if (value.is_array()) return !value.empty();
  if (!value.is_object()) return true;
  for (const auto& [key, inner] : value.items()) {
    if (asks(inner)) return true;
  }
  return false;
}

Status refuse_absent_features(const Json& body) {
  constexpr std::array<std::string_view, 10> kAbsent = {
      "VpcConfig", "DeadLetterConfig",     "FileSystemConfigs", "KMSKeyArn",     "ImageConfig",
      "PublishTo", "CodeSigningConfigArn", "TenancyConfig",     "DurableConfig", "CapacityProviderConfig"};
  for (const auto key : kAbsent) {
    const auto found = body.find(key);
    if (found == body.end() || !asks(*found)) continue;
    return invalid(std::string(key) + " is not there in Sundog.", "Leave it out.");
  }
  if (get_string(body, "PackageType", "Zip").ok() && *get_string(body, "PackageType", "Zip") != "Zip") {
    return invalid("PackageType Image is not there in Sundog.", "Upload a zip.");
  }
  if (body.contains("SnapStart") && body["SnapStart"].is_object() &&
      body["SnapStart"].value("ApplyOn", Json("None")) != Json("None")) {
    return invalid("SnapStart's ApplyOn must be None.", "Every function is started from a snapshot of its init here.");
  }
  if (body.contains("TracingConfig") && body["TracingConfig"].is_object() &&
      body["TracingConfig"].value("Mode", Json("PassThrough")) != Json("PassThrough")) {
    return invalid("TracingConfig's Mode must be PassThrough.");
  }
  if (body.contains("Architectures") && asks(body["Architectures"]) &&
      body["Architectures"] != Json::array({kArchitecture})) {
    return invalid("Architectures must be [\"" + std::string(kArchitecture) + "\"], as this machine is.");
  }
  return done;
}

Result<int> small_int(const Json& object, std::string_view key, int fallback) {
  SUNDOG_TRY(value, get_int(object, key, fallback));
  // What does not fit is far over every limit: the check of the limits says so.
  if (value > 1'000'000'000 || value < -1'000'000'000) return value > 0 ? 1'000'000'000 : -1'000'000'000;
  return static_cast<int>(value);
}

Status apply_layers(Config& config, const Json& layers) {
  if (!layers.is_array()) return invalid("Layers must be a list of ARNs.");
  if (layers.size() > 1)
    return invalid("A function uses one environment at most, but Layers has " + std::to_string(layers.size()) +
                   " entries.");
  config.environment_id.clear();
  if (layers.empty()) return done;
  if (!layers[0].is_string()) return invalid("Layers must be a list of ARNs.");
  SUNDOG_TRY(id, functions::environment_of_layer(layers[0].get<std::string>()));
  config.environment_id = std::move(id);
  return done;
}

Json layers_json(const Config& config, const functions::Environments& environments) {
  const auto environment = environments.get(config.environment_id);
  return Json::array({{{"Arn", functions::environment_layer_arn(config.environment_id)},
                       {"CodeSize", environment.ok() ? environment->bytes : 0}}});
}

std::string_view state_name(functions::State state) {
  switch (state) {
    case functions::State::pending:
      return "Pending";
    case functions::State::active:
      return "Active";
    case functions::State::failed:
      return "Failed";
  }
  return "Failed";
}

// On the host's loopback stands this server, and what else the operator runs there and near by: no other tenant's admin
// decides that.
bool may_open_the_host(const Principal& who) {
  return who.role == Role::admin && who.tenant == kDefaultTenant;
}

Status apply_allow(Config& config, std::string_view value, const Principal& who) {
  config.allow.clear();
  for (size_t at = 0; at <= value.size();) {
    const auto end = std::min(value.find(',', at), value.size());
    auto entry = value.substr(at, end - at);
    while (entry.starts_with(' ')) entry.remove_prefix(1);
    while (entry.ends_with(' ')) entry.remove_suffix(1);
    config.allow.emplace_back(entry);
    at = end + 1;
  }
  SUNDOG_TRY(policy, sandbox::EgressPolicy::parse(config.allow));
  if (!policy.names_private() || may_open_the_host(who)) return done;
  return fail(Code::permission_denied,
              "Only an admin of tenant \"default\" may let a function reach addresses that are not public.",
              "Take loopback, private and link-local addresses out of the list, or ask such an admin to set it.");
}

}  // namespace

Json configuration_json(const functions::Version& version, const std::string& qualifier,
                        const functions::Environments& environments) {
  const Config& config = version.config;
  Json json = {{"FunctionName", config.name},
               {"FunctionArn", qualifier.empty() ? version.arn() : functions::function_arn(config.name, qualifier)},
               {"Runtime", config.runtime},
               {"Role", config.role},
               {"Handler", config.handler},
               {"CodeSize", version.code_bytes},
               {"Description", config.description},
               {"Timeout", config.timeout_s},
               {"MemorySize", config.memory_mb},
               {"LastModified", lambda_time(version.last_modified)},
               {"CodeSha256", version.code_sha256},
               {"Version", version.version},
               {"RevisionId", version.revision_id},
               {"State", state_name(version.state)},
               {"LastUpdateStatus", functions::name(version.update)},
               {"PackageType", "Zip"},
               {"Architectures", Json::array({kArchitecture})},
               {"EphemeralStorage", {{"Size", config.ephemeral_mb}}},
               {"TracingConfig", {{"Mode", "PassThrough"}}},
               {"SnapStart", {{"ApplyOn", "None"}, {"OptimizationStatus", "Off"}}}};
  if (!config.variables.empty()) json["Environment"] = {{"Variables", config.variables}};
  if (!config.environment_id.empty()) json["Layers"] = layers_json(config, environments);
  if (!version.state_reason.empty()) json["StateReason"] = version.state_reason;
  if (!version.state_reason_code.empty()) json["StateReasonCode"] = version.state_reason_code;
  if (!version.start_reason.empty()) json["Sundog"] = {{"Start", "init"}, {"StartReason", version.start_reason}};
  if (!version.update_reason.empty()) json["LastUpdateStatusReason"] = version.update_reason;
  if (!version.update_reason_code.empty()) json["LastUpdateStatusReasonCode"] = version.update_reason_code;
  return json;
}

Json alias_configuration_json(const std::string& function, const functions::Alias& alias) {
  Json json = {{"AliasArn", functions::function_arn(function, alias.name)},
               {"Name", alias.name},
               {"FunctionVersion", alias.version},
               {"Description", alias.description},
               {"RevisionId", alias.revision_id}};
  if (!alias.weights.empty()) json["RoutingConfig"] = {{"AdditionalVersionWeights", alias.weights}};
  return json;
}

Result<std::map<std::string, std::string>> string_map(const Json& body, std::string_view key) {
  std::map<std::string, std::string> strings;
  const auto found = body.find(key);
  if (found == body.end() || found->is_null()) return strings;
  if (!found->is_object()) return invalid(std::string(key) + " must be an object of strings.");
  for (const auto& [name, value] : found->items()) {
    if (!value.is_string()) return invalid(std::string(key) + "'s \"" + name + "\" must be a string.");
    strings.emplace(name, value.get<std::string>());
  }
  return strings;
}

Status apply_tags(Config& config, const std::map<std::string, std::string>& tags, const Principal& who) {
  for (const auto& [key, value] : tags) {
    if (key == kKindTag) {
      SUNDOG_TRY(kind, functions::kind_from(value));
      config.kind = kind;
    } else if (key == kNetworkTag) {
      if (value == "none")
        config.network = sandbox::Network::none;
      else if (value == "egress")
        config.network = sandbox::Network::egress;
      else if (value == "host")
        config.network = sandbox::Network::host;
      else
        return invalid("\"" + value + "\" is no network.", "sundog:network is none, egress or host.");
      if (config.network == sandbox::Network::host && !may_open_the_host(who)) {
        return fail(Code::permission_denied,
                    "Only an admin of tenant \"default\" may give a function the host's network, and only its own.",
                    "Leave the tag sundog:network out, or ask such an admin to set it.");
      }
    } else if (key == functions::kAllowTag) {
      SUNDOG_CHECK(apply_allow(config, value, who));
    } else if (key.starts_with("sundog:")) {
      return invalid("Tag \"" + key + "\" is no setting of Sundog.",
                     "There are sundog:kind, sundog:network and sundog:allow.");
    }
    config.tags[key] = value;
  }
  return done;
}

Status remove_tags(Config& config, const std::vector<std::string>& keys) {
  for (const auto& key : keys) {
    config.tags.erase(key);
    if (key == kKindTag) config.kind = functions::Kind::function;
    if (key == kNetworkTag) config.network = sandbox::Network::none;
    if (key == functions::kAllowTag) config.allow.clear();
  }
  return done;
}

Status apply_config(Config& config, const Json& body) {
  SUNDOG_CHECK(refuse_absent_features(body));
  SUNDOG_TRY(description, get_string(body, "Description", config.description));
  SUNDOG_TRY(runtime, get_string(body, "Runtime", config.runtime));
  SUNDOG_TRY(handler, get_string(body, "Handler", config.handler));
  SUNDOG_TRY(role, get_string(body, "Role", config.role));
  SUNDOG_TRY(memory, small_int(body, "MemorySize", config.memory_mb));
  SUNDOG_TRY(timeout, small_int(body, "Timeout", config.timeout_s));
  if (body.contains("EphemeralStorage") && body["EphemeralStorage"].is_object()) {
    SUNDOG_TRY(size, small_int(body["EphemeralStorage"], "Size", config.ephemeral_mb));
    config.ephemeral_mb = size;
  }
  if (body.contains("Environment") && body["Environment"].is_object()) {
    SUNDOG_TRY(variables, string_map(body["Environment"], "Variables"));
    config.variables = std::move(variables);
  }
  if (body.contains("Layers") && !body["Layers"].is_null()) SUNDOG_CHECK(apply_layers(config, body["Layers"]));
  config.description = std::move(description);
  config.runtime = std::move(runtime);
  config.handler = std::move(handler);
  config.role = std::move(role);
  config.memory_mb = memory;
  config.timeout_s = timeout;
  return done;
}

Result<Config> config_from_create(const Json& body, const Principal& who) {
  Config config;
  SUNDOG_TRY(text, get_string(body, "FunctionName"));
  SUNDOG_TRY(name, functions::parse_function_name(text));
  if (!name.qualifier.empty()) return invalid("A new function's name has no qualifier, but is \"" + text + "\".");
  config.name = name.name;
  SUNDOG_TRY(runtime, get_string(body, "Runtime"));
  config.runtime = std::move(runtime);
  SUNDOG_CHECK(apply_config(config, body));
  SUNDOG_TRY(tags, string_map(body, "Tags"));
  SUNDOG_CHECK(apply_tags(config, tags, who));
  return config;
}

Result<std::string> zip_from(const Json& code) {
  if (!code.is_object()) return invalid("Code is missing.", "Send the package as Code.ZipFile.");
  for (const std::string_view key : {"S3Bucket", "S3Key", "ImageUri"}) {
    if (!code.contains(key) || !asks(code[std::string(key)])) continue;
    return invalid(std::string(key) + " is not there in Sundog.", "Send the package itself as ZipFile.");
  }
  SUNDOG_TRY(encoded, get_string(code, "ZipFile", ""));
  if (encoded.empty()) return invalid("ZipFile is missing.", "Send the package as ZipFile.");
  auto zip = from_base64(encoded);
  if (!zip.ok()) return invalid("ZipFile is not base64.");
  return zip;
}

Status apply_alias(functions::Alias& alias, const Json& body) {
  SUNDOG_TRY(version, get_string(body, "FunctionVersion", alias.version));
  SUNDOG_TRY(description, get_string(body, "Description", alias.description));
  alias.version = std::move(version);
  alias.description = std::move(description);
  const auto routing = body.find("RoutingConfig");
  if (routing == body.end() || routing->is_null()) return done;
  if (!routing->is_object()) return invalid("RoutingConfig must be an object.");
  alias.weights.clear();
  const auto weights = routing->find("AdditionalVersionWeights");
  if (weights == routing->end() || weights->is_null()) return done;
  if (!weights->is_object()) return invalid("AdditionalVersionWeights must be an object of version and weight.");
  for (const auto& [key, value] : weights->items()) {
    if (!value.is_number()) return invalid("The weight of version \"" + key + "\" must be a number.");
    alias.weights[key] = value.get<double>();
  }
  return done;
}

}  // namespace sundog::api
