#include "models/endpoints.h"

#include <fmt/format.h>

#include <condition_variable>
#include <mutex>

#include "base/ids.h"
#include "models/endpoint_record.h"
#include "models/package.h"
#include "store/each_record.h"

namespace sundog::models {
namespace {

using functions::Version;
constexpr Millis kActiveLimit{900'000};  // an environment with large packages may have to be built first
constexpr int kTries = 5;

std::string endpoint_key(const std::string& tenant, const std::string& model) {
  return "endpoints/" + tenant + "/" + model;
}

// The share of the alias that a deploy asks for.
Result<double> checked_weight(const Json& request) {
  const auto weight = request.find("weight");
  if (weight == request.end() || weight->is_null()) return 1.0;
  if (!weight->is_number() || !(*weight > 0) || *weight > 1) {
    return fail(Code::invalid_argument, "\"weight\" is more than 0 and at most 1, not " + dump(*weight));
  }
  return weight->get<double>();
}

class StoredEndpoints final : public Endpoints {
 public:
  explicit StoredEndpoints(EndpointParts parts) : parts_(parts) {
    parts_.jobs.add_kind("deploy", [this](data::JobContext& job) { return run(job); });
    parts_.functions.on_change([this](const std::string&, const std::string&) {
      {
        const std::lock_guard lock(change_mutex_);
      }
      function_changed_.notify_all();
    });
  }

  Status load() {
    return store::each_record(parts_.catalog, "endpoints/", [&](const store::Record& record) {
      keep(record.key, record.value);
      return true;
    });
  }

  Result<data::Job> deploy(const std::string& tenant, const std::string& model, const Json& request) override;
  Result<Json> set_traffic(const std::string& tenant, const std::string& model, const Json& request) override;
  Result<Json> get(const std::string& tenant, const std::string& model, const std::string& alias) const override;
  Result<Json> list(const std::string& tenant, const std::string& after, size_t limit) const override;
  Status check_unused(const std::string& tenant, const std::string& model, int64_t version) const override;
  Result<Serving> serving(const std::string& tenant, const std::string& model, const std::string& version,
                          const std::string& alias) const override;

 private:
  Result<Json> run(data::JobContext& job);
  // $LATEST of the model's function with this code and these settings, active.
  Result<Version> prepare(data::JobContext& job, const functions::Config& config, const std::string& zip);
  Result<Version> upload(data::JobContext& job, const functions::Config& config, const std::string& zip);
  // Once nothing is being prepared any more, well or not.
  Result<Version> wait_settled(data::JobContext& job, const std::string& function, const std::string& qualifier);
  Result<Version> wait_active(data::JobContext& job, const std::string& function, const std::string& qualifier);
  Result<Version> publish(data::JobContext& job, const functions::Config& config, const std::string& zip);
  Status try_once(data::JobContext& job, const std::string& function, const Version& published);
  Status point_alias(const std::string& tenant, const std::string& function, const functions::Alias& alias);

  // The record after `change`, which also does what has to be done before it is written. One change at a time.
  Result<Json> update(const std::string& tenant, const std::string& model, const std::function<Status(Json&)>& change);
  std::shared_ptr<const Json> known(const std::string& tenant, const std::string& model) const;
  Result<std::shared_ptr<const Json>> found(const std::string& tenant, const std::string& model) const;
  void keep(const std::string& key, Json endpoint) {
    const std::lock_guard lock(mutex_);
    endpoints_[key] = std::make_shared<const Json>(std::move(endpoint));
  }

  EndpointParts parts_;
  std::mutex changing_;  // held over an alias's move and its record's write, so that the two agree
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<const Json>> endpoints_;
  std::mutex change_mutex_;
  std::condition_variable function_changed_;
};

// ---- asking ----

std::shared_ptr<const Json> StoredEndpoints::known(const std::string& tenant, const std::string& model) const {
  const std::lock_guard lock(mutex_);
  const auto it = endpoints_.find(endpoint_key(tenant, model));
  return it == endpoints_.end() ? nullptr : it->second;
}

Result<std::shared_ptr<const Json>> StoredEndpoints::found(const std::string& tenant, const std::string& model) const {
  auto endpoint = known(tenant, model);
  if (endpoint) return endpoint;
  return fail(Code::not_found, "No endpoint for model \"" + model + "\"",
              "POST /v1/models/" + model + "/deploy makes one.");
}

Result<Json> StoredEndpoints::get(const std::string& tenant, const std::string& model, const std::string& alias) const {
  SUNDOG_TRY(endpoint, found(tenant, model));
  const auto name = alias.empty() ? default_alias(*endpoint) : alias;
  if (!(*endpoint)["aliases"].contains(name)) {
    return fail(Code::not_found, "The endpoint of model \"" + model + "\" has no alias \"" + name + "\"");
  }
  return shown_endpoint(*endpoint, name);
}

// A cursor is "model:alias"; names have no colon.
Result<Json> StoredEndpoints::list(const std::string& tenant, const std::string& after, size_t limit) const {
  const auto prefix = endpoint_key(tenant, "");
  const auto model = after.substr(0, after.find(':'));
  const auto last = model.size() < after.size() ? after.substr(model.size() + 1) : "";
  Json items = Json::array();
  std::string cursor;
  const std::lock_guard lock(mutex_);
  auto it = endpoints_.lower_bound(prefix + model);
  for (; it != endpoints_.end() && it->first.starts_with(prefix); ++it) {
    const auto name = it->first.substr(prefix.size());
    for (const auto& [alias, _] : (*it->second)["aliases"].items()) {
      if (name == model && alias <= last) continue;
      if (items.size() == limit) return Json{{"items", std::move(items)}, {"next", cursor}};
      items.push_back(shown_endpoint(*it->second, alias));
      cursor = name;
      cursor.append(":").append(alias);
    }
  }
  return Json{{"items", std::move(items)}, {"next", ""}};
}

Status StoredEndpoints::check_unused(const std::string& tenant, const std::string& model, int64_t version) const {
  const auto endpoint = known(tenant, model);
  if (!endpoint) return done;
  for (const auto& [alias, shares] : (*endpoint)["aliases"].items()) {
    if (shares["weights"].contains(std::to_string(version))) {
      return fail(Code::conflict,
                  fmt::format("Version {} of model \"{}\" answers under alias \"{}\"", version, model, alias),
                  "Move the traffic to another version first.");
    }
  }
  return done;
}

Result<Serving> StoredEndpoints::serving(const std::string& tenant, const std::string& model,
                                         const std::string& version, const std::string& alias) const {
  SUNDOG_TRY(endpoint, found(tenant, model));
  const Json& record = *endpoint;
  Serving out;
  out.function = record["function"];
  out.model = model;
  for (const auto& [number, _] : record["versions"].items()) out.versions.push_back(number);
  if (!version.empty()) {
    if (!record["versions"].contains(version)) {
      return fail(Code::not_found, "Version " + version + " of model \"" + model + "\" is not deployed");
    }
    out.version = version;
    out.qualifier = record["versions"][version];
  } else {
    const auto name = alias.empty() ? default_alias(record) : alias;
    if (!record["aliases"].contains(name)) {
      return fail(Code::not_found, "The endpoint of model \"" + model + "\" has no alias \"" + name + "\"");
    }
    out.version = main_version(record, name);
    out.qualifier = name;
  }
  out.signature = std::shared_ptr<const Json>(endpoint, &record["signatures"][out.version]);
  return out;
}

// ---- changing ----

Result<Json> StoredEndpoints::update(const std::string& tenant, const std::string& model,
                                     const std::function<Status(Json&)>& change) {
  const std::lock_guard lock(changing_);
  const auto before = known(tenant, model);
  Json endpoint = before ? *before
                         : Json{{"model", model},
                                {"function", function_of(model)},
                                {"aliases", Json::object()},
                                {"versions", Json::object()},
                                {"signatures", Json::object()}};
  SUNDOG_CHECK(change(endpoint));
  SUNDOG_CHECK(parts_.catalog.put(endpoint_key(tenant, model), endpoint));
  keep(endpoint_key(tenant, model), endpoint);
  return endpoint;
}

Status StoredEndpoints::point_alias(const std::string& tenant, const std::string& function,
                                    const functions::Alias& alias) {
  auto moved = parts_.functions.update_alias(tenant, function, alias, "");
  if (!moved.ok() && moved.error().code == Code::not_found) {
    moved = parts_.functions.create_alias(tenant, function, alias);
  }
  if (!moved.ok()) return std::move(moved).error();
  return done;
}

Result<Json> StoredEndpoints::set_traffic(const std::string& tenant, const std::string& model, const Json& request) {
  SUNDOG_CHECK(found(tenant, model));
  SUNDOG_TRY(alias, get_string(request, "alias", "live"));
  SUNDOG_TRY(endpoint, update(tenant, model, [&](Json& record) -> Status {
               SUNDOG_TRY(weights, checked_weights(request.value("weights", Json()), record));
               SUNDOG_CHECK(point_alias(tenant, record["function"], alias_for(alias, weights, record)));
               record["aliases"][alias] = {{"weights", weights}};
               return done;
             }));
  return shown_endpoint(endpoint, alias);
}

Result<data::Job> StoredEndpoints::deploy(const std::string& tenant, const std::string& model, const Json& request) {
  std::string wanted = "latest";
  if (const auto version = request.find("version"); version != request.end() && !version->is_null()) {
    wanted = version->is_string() ? version->get<std::string>() : dump(*version);
  }
  SUNDOG_TRY(version, parts_.registry.get_version(tenant, model, wanted));
  SUNDOG_TRY(alias, get_string(request, "alias", "live"));
  SUNDOG_CHECK(check_model_name(alias));
  SUNDOG_TRY(memory_mb, get_int(request, "memory_mb", 512));
  SUNDOG_TRY(timeout_s, get_int(request, "timeout_s", 30));
  if (memory_mb < 128 || memory_mb > 10'240) {
    return fail(Code::invalid_argument, fmt::format("\"memory_mb\" is 128 to 10240, not {}", memory_mb));
  }
  if (timeout_s < 1 || timeout_s > 900) {
    return fail(Code::invalid_argument, fmt::format("\"timeout_s\" is 1 to 900, not {}", timeout_s));
  }
  SUNDOG_TRY(weight, checked_weight(request));
  if (const auto endpoint = known(tenant, model)) {
    SUNDOG_CHECK(shares_with(*endpoint, alias, dump(version["version"]), weight));
  }
  return parts_.jobs.submit(tenant, "deploy",
                            {{"model", model},
                             {"version", version["version"]},
                             {"alias", alias},
                             {"memory_mb", memory_mb},
                             {"timeout_s", timeout_s},
                             {"weight", weight}});
}

// ---- the job ----

Result<Json> StoredEndpoints::run(data::JobContext& job) {
  const auto& tenant = job.job().tenant;
  const Json& arguments = job.job().arguments;
  const std::string model = arguments["model"];
  const std::string alias = arguments["alias"];
  const auto number = std::to_string(arguments["version"].get<int64_t>());
  SUNDOG_TRY(version, parts_.registry.get_version(tenant, model, number));
  job.progress(0, 4, "packing");
  SUNDOG_TRY(zip, package_of(version, parts_.blobs));
  functions::Config config;
  config.name = function_of(model);
  config.description = "Model " + model + ", version " + number;
  config.runtime = "python3.11";
  config.handler = kHandler;
  config.memory_mb = static_cast<int>(arguments["memory_mb"].get<int64_t>());
  config.timeout_s = static_cast<int>(arguments["timeout_s"].get<int64_t>());
  config.environment_id = version["environment"].is_string() ? version["environment"].get<std::string>() : "";
  config.kind = functions::Kind::prediction;
  SUNDOG_TRY(published, publish(job, config, zip));
  job.progress(2, 4, "first call");
  SUNDOG_CHECK(try_once(job, config.name, published));
  job.progress(3, 4, "moving alias \"" + alias + "\"");
  SUNDOG_TRY(endpoint, update(tenant, model, [&](Json& record) -> Status {
               record["memory_mb"] = config.memory_mb;
               record["versions"][number] = published.version;
               record["signatures"][number] = version["signature"];
               SUNDOG_TRY(shares, shares_with(record, alias, number, arguments.value("weight", 1.0)));
               SUNDOG_CHECK(point_alias(tenant, config.name, alias_for(alias, shares, record)));
               record["aliases"][alias] = {{"weights", shares}};
               return done;
             }));
  job.progress(4, 4, "live");
  return shown_endpoint(endpoint, alias);
}

Result<Version> StoredEndpoints::upload(data::JobContext& job, const functions::Config& config,
                                        const std::string& zip) {
  const auto& tenant = job.job().tenant;
  const auto existing = parts_.functions.get(tenant, config.name, "");
  if (!existing.ok() && existing.error().code == Code::not_found) {
    return parts_.functions.create(tenant, config, zip, false);
  }
  if (!existing.ok()) return existing.error();
  // A function takes no change while another is being prepared.
  SUNDOG_CHECK(wait_settled(job, config.name, ""));
  SUNDOG_CHECK(parts_.functions.update_config(tenant, config.name, "", [&](functions::Config& current) -> Status {
    current = config;
    return done;
  }));
  SUNDOG_CHECK(wait_settled(job, config.name, ""));
  return parts_.functions.update_code(tenant, config.name, zip, false, "", false);
}

Result<Version> StoredEndpoints::wait_settled(data::JobContext& job, const std::string& function,
                                              const std::string& qualifier) {
  const auto& tenant = job.job().tenant;
  const auto deadline = parts_.clock.mono() + kActiveLimit;
  while (true) {
    SUNDOG_TRY(version, parts_.functions.get(tenant, function, qualifier));
    const bool preparing =
        version.state == functions::State::pending || version.update == functions::UpdateStatus::in_progress;
    if (!preparing) return version;
    if (job.cancelled()) return fail(Code::cancelled, "The deploy was cancelled");
    if (parts_.clock.mono() > deadline) {
      return fail(Code::deadline_exceeded, "Function \"" + function + "\" was not ready after 15 minutes");
    }
    std::unique_lock lock(change_mutex_);
    function_changed_.wait_for(lock, Millis{200});  // bounded, so that a cancel is seen
  }
}

Result<Version> StoredEndpoints::wait_active(data::JobContext& job, const std::string& function,
                                             const std::string& qualifier) {
  SUNDOG_TRY(version, wait_settled(job, function, qualifier));
  if (version.state == functions::State::active && version.update == functions::UpdateStatus::successful)
    return version;
  const auto& reason = version.state_reason.empty() ? version.update_reason : version.state_reason;
  return fail(Code::invalid_argument, "Function \"" + function + "\" cannot run: " + reason);
}

Result<Version> StoredEndpoints::prepare(data::JobContext& job, const functions::Config& config,
                                         const std::string& zip) {
  SUNDOG_TRY(uploaded, upload(job, config, zip));
  job.progress(1, 4, "environment");
  SUNDOG_TRY(active, wait_active(job, config.name, ""));
  if (active.code_sha256 != uploaded.code_sha256) {
    return fail(Code::conflict, "Another deploy of \"" + config.name + "\" came between");
  }
  return active;
}

Result<Version> StoredEndpoints::publish(data::JobContext& job, const functions::Config& config,
                                         const std::string& zip) {
  const auto& tenant = job.job().tenant;
  for (int attempt = 1;; ++attempt) {
    auto active = prepare(job, config, zip);
    if (active.ok()) {
      // The revision: nobody changed code or settings since they were seen active.
      auto published =
          parts_.functions.publish(tenant, config.name, active->code_sha256, config.description, active->revision_id);
      if (published.ok()) return wait_active(job, config.name, published->version);
      active = std::move(published);
    }
    if (active.error().code != Code::conflict || attempt == kTries) return std::move(active).error();
  }
}

Status StoredEndpoints::try_once(data::JobContext& job, const std::string& function, const Version& published) {
  invoke::Invocation first;
  first.tenant = job.job().tenant;
  first.function = function;
  first.qualifier = published.version;
  first.request_id = uuid4();
  first.payload = "{}";
  first.meta = {{"content", "v2-metadata"}};
  SUNDOG_CHECK(job.invoke(std::move(first)));
  return done;
}

}  // namespace

Result<std::unique_ptr<Endpoints>> open_endpoints(EndpointParts parts) {
  auto endpoints = std::make_unique<StoredEndpoints>(parts);
  SUNDOG_CHECK(endpoints->load());
  return Result<std::unique_ptr<Endpoints>>(std::move(endpoints));
}

}  // namespace sundog::models
