#include "functions/records.h"

#include <cstdio>

#include "base/crypto.h"
#include "functions/naming.h"
#include "store/each_record.h"

namespace sundog::functions {
namespace {

std::string_view text_of(sandbox::Network network) {
  switch (network) {
    case sandbox::Network::none:
      return "none";
    case sandbox::Network::egress:
      return "egress";
    case sandbox::Network::host:
      return "host";
  }
  return "none";
}

sandbox::Network network_of(std::string_view text) {
  if (text == "host") return sandbox::Network::host;
  return text == "egress" ? sandbox::Network::egress : sandbox::Network::none;
}

std::string_view text_of(State state) {
  switch (state) {
    case State::pending:
      return "pending";
    case State::active:
      return "active";
    case State::failed:
      return "failed";
  }
  return "failed";
}

State state_of(std::string_view text) {
  if (text == "active") return State::active;
  return text == "pending" ? State::pending : State::failed;
}

UpdateStatus update_of(std::string_view text) {
  if (text == "InProgress") return UpdateStatus::in_progress;
  return text == "Failed" ? UpdateStatus::failed : UpdateStatus::successful;
}

Json config_json(const Config& config) {
  return {{"name", config.name},
          {"description", config.description},
          {"runtime", config.runtime},
          {"handler", config.handler},
          {"role", config.role},
          {"memory_mb", config.memory_mb},
          {"timeout_s", config.timeout_s},
          {"ephemeral_mb", config.ephemeral_mb},
          {"variables", config.variables},
          {"environment", config.environment_id},
          {"network", text_of(config.network)},
          {"allow", config.allow},
          {"kind", name(config.kind)},
          {"tags", config.tags}};
}

std::map<std::string, std::string> strings_of(const Json& object, std::string_view key) {
  std::map<std::string, std::string> strings;
  const auto found = object.find(key);
  if (found == object.end() || !found->is_object()) return strings;
  for (const auto& [name, value] : found->items()) {
    if (value.is_string()) strings.emplace(name, value.get<std::string>());
  }
  return strings;
}

Result<Config> config_from(const Json& json) {
  Config config;
  SUNDOG_TRY(name, get_string(json, "name"));
  SUNDOG_TRY(runtime, get_string(json, "runtime"));
  SUNDOG_TRY(handler, get_string(json, "handler"));
  SUNDOG_TRY(memory, get_int(json, "memory_mb"));
  SUNDOG_TRY(timeout, get_int(json, "timeout_s"));
  SUNDOG_TRY(ephemeral, get_int(json, "ephemeral_mb"));
  SUNDOG_TRY(kind_text, get_string(json, "kind", "function"));
  SUNDOG_TRY(kind, kind_from(kind_text));
  SUNDOG_TRY(network, get_string(json, "network", "none"));
  SUNDOG_TRY(description, get_string(json, "description", ""));
  SUNDOG_TRY(role, get_string(json, "role", ""));
  SUNDOG_TRY(environment, get_string(json, "environment", ""));
  config.name = std::move(name);
  config.runtime = std::move(runtime);
  config.handler = std::move(handler);
  config.description = std::move(description);
  config.role = std::move(role);
  config.environment_id = std::move(environment);
  config.memory_mb = static_cast<int>(memory);
  config.timeout_s = static_cast<int>(timeout);
  config.ephemeral_mb = static_cast<int>(ephemeral);
  config.kind = kind;
  config.network = network_of(network);
  for (const auto& entry : json.value("allow", Json::array())) {
    if (entry.is_string()) config.allow.push_back(entry.get<std::string>());
  }
  config.variables = strings_of(json, "variables");
  config.tags = strings_of(json, "tags");
  return config;
}

std::string joined(std::string_view family, const std::string& tenant, const std::string& name) {
  return std::string(family) + "/" + tenant + "/" + name;
}

}  // namespace

std::string function_key(const std::string& tenant, const std::string& name) {
  return joined("functions", tenant, name);
}

std::string version_key(const std::string& tenant, const std::string& name, int64_t number) {
  char digits[24];
  std::snprintf(digits, sizeof digits, "/%012lld", static_cast<long long>(number));  // so that keys sort by number
  return joined("function-versions", tenant, name) + digits;
}

std::string alias_key(const std::string& tenant, const std::string& name, const std::string& alias) {
  return joined("function-aliases", tenant, name) + "/" + alias;
}

std::string numbers_key(const std::string& tenant, const std::string& name) {
  return joined("function-numbers", tenant, name);
}

Json version_json(const Version& version) {
  return {{"tenant", version.tenant},
          {"config", config_json(version.config)},
          {"version", version.version},
          {"code", {{"blob", version.code_blob}, {"sha256", version.code_sha256}, {"bytes", version.code_bytes}}},
          {"state", text_of(version.state)},
          {"state_reason", version.state_reason},
          {"state_reason_code", version.state_reason_code},
          {"start_reason", version.start_reason},
          {"update", name(version.update)},
          {"update_reason", version.update_reason},
          {"update_reason_code", version.update_reason_code},
          {"modified_ms", epoch_millis(version.last_modified)},
          {"revision", version.revision_id}};
}

Result<Version> version_from(const Json& json, const Path& code_folder) {
  Version version;
  if (!json.is_object() || !json.contains("config") || !json.contains("code")) {
    return fail(Code::data_loss, "The record of a function's version is damaged.");
  }
  SUNDOG_TRY(config, config_from(json["config"]));
  SUNDOG_TRY(tenant, get_string(json, "tenant"));
  SUNDOG_TRY(number, get_string(json, "version"));
  SUNDOG_TRY(blob, get_string(json["code"], "blob"));
  SUNDOG_TRY(sha256, get_string(json["code"], "sha256"));
  SUNDOG_TRY(bytes, get_int(json["code"], "bytes"));
  SUNDOG_TRY(state, get_string(json, "state"));
  SUNDOG_TRY(update, get_string(json, "update", "Successful"));
  SUNDOG_TRY(modified, get_int(json, "modified_ms", 0));
  SUNDOG_TRY(revision, get_string(json, "revision"));
  SUNDOG_TRY(state_reason, get_string(json, "state_reason", ""));
  SUNDOG_TRY(state_code, get_string(json, "state_reason_code", ""));
  SUNDOG_TRY(start_reason, get_string(json, "start_reason", ""));
  SUNDOG_TRY(update_reason, get_string(json, "update_reason", ""));
  SUNDOG_TRY(update_code, get_string(json, "update_reason_code", ""));
  version.config = std::move(config);
  version.tenant = std::move(tenant);
  version.version = std::move(number);
  version.code_folder = code_folder / blob;
  version.code_blob = std::move(blob);
  version.code_sha256 = std::move(sha256);
  version.code_bytes = bytes;
  version.state = state_of(state);
  version.update = update_of(update);
  version.last_modified = from_epoch_millis(modified);
  version.revision_id = std::move(revision);
  version.state_reason = std::move(state_reason);
  version.state_reason_code = std::move(state_code);
  version.start_reason = std::move(start_reason);
  version.update_reason = std::move(update_reason);
  version.update_reason_code = std::move(update_code);
  return version;
}

Json alias_json(const Alias& alias) {
  return {{"name", alias.name},
          {"version", alias.version},
          {"description", alias.description},
          {"weights", alias.weights},
          {"revision", alias.revision_id}};
}

Result<Alias> alias_from(const Json& json) {
  Alias alias;
  SUNDOG_TRY(name, get_string(json, "name"));
  SUNDOG_TRY(version, get_string(json, "version"));
  SUNDOG_TRY(description, get_string(json, "description", ""));
  SUNDOG_TRY(revision, get_string(json, "revision"));
  alias.name = std::move(name);
  alias.version = std::move(version);
  alias.description = std::move(description);
  alias.revision_id = std::move(revision);
  const auto weights = json.find("weights");
  if (weights == json.end() || !weights->is_object()) return alias;
  for (const auto& [key, value] : weights->items()) {
    if (value.is_number()) alias.weights[key] = value.get<double>();
  }
  return alias;
}

Json function_json(const FunctionState& state) {
  Json json = {{"latest", version_json(*state.latest)}, {"next_version", state.next_version}};
  if (state.previous) json["previous"] = version_json(*state.previous);
  if (state.reserved_concurrency) json["reserved_concurrency"] = *state.reserved_concurrency;
  for (const auto& [qualifier, one] : state.provisioned) {
    json["provisioned"][qualifier] = {{"count", one.count}, {"modified_ms", epoch_millis(one.last_modified)}};
  }
  return json;
}

Result<FunctionState> load_function(const store::Catalog& catalog, const std::string& tenant, const std::string& name,
                                    const Path& code_folder) {
  SUNDOG_TRY(record, catalog.get(function_key(tenant, name)));
  if (!record.value.is_object() || !record.value.contains("latest")) {
    return fail(Code::data_loss, "The record " + record.key + " is damaged.");
  }
  FunctionState state;
  state.revision = record.revision;
  SUNDOG_TRY(latest, version_from(record.value["latest"], code_folder));
  state.latest = std::make_shared<const Version>(std::move(latest));
  if (record.value.contains("previous")) {
    SUNDOG_TRY(previous, version_from(record.value["previous"], code_folder));
    state.previous = std::make_shared<const Version>(std::move(previous));
  }
  SUNDOG_TRY(next, get_int(record.value, "next_version"));
  state.next_version = next;
  if (record.value.contains("reserved_concurrency")) {
    SUNDOG_TRY(reserved, get_int(record.value, "reserved_concurrency"));
    state.reserved_concurrency = static_cast<int>(reserved);
  }
  const Json provisioned = record.value.value("provisioned", Json::object());
  for (const auto& [qualifier, one] : provisioned.items()) {
    SUNDOG_TRY(count, get_int(one, "count"));
    SUNDOG_TRY(modified, get_int(one, "modified_ms"));
    state.provisioned[qualifier] = {static_cast<int>(count), WallTime{Millis{modified}}};
  }
  const auto add_version = [&](const store::Record& row) -> Result<bool> {
    SUNDOG_TRY(version, version_from(row.value, code_folder));
    SUNDOG_TRY(digest, get_string(row.value, "digest", ""));
    const auto number = version_number(version.version);
    if (!number) return fail(Code::data_loss, "The record " + row.key + " is damaged.");
    state.versions[*number] = {std::make_shared<const Version>(std::move(version)), std::move(digest)};
    return true;
  };
  SUNDOG_CHECK(store::each_record(catalog, joined("function-versions", tenant, name) + "/", add_version));
  const auto add_alias = [&](const store::Record& row) -> Result<bool> {
    SUNDOG_TRY(alias, alias_from(row.value));
    state.aliases[alias.name] = std::move(alias);
    return true;
  };
  SUNDOG_CHECK(store::each_record(catalog, joined("function-aliases", tenant, name) + "/", add_alias));
  return state;
}

std::string content_digest(const Version& version) {
  Json config = config_json(version.config);
  config.erase("tags");
  return sha256_hex(version.code_blob + dump(config));
}

}  // namespace sundog::functions
