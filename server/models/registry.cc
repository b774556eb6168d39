#include "models/registry.h"

#include <fmt/format.h>

#include <cctype>

#include "base/kill_point.h"
#include "models/signature.h"
#include "store/each_record.h"

namespace sundog::models {
namespace {

const std::set<std::string> kFormats{"skops", "xgboost-json", "cloudpickle"};

std::string model_key(const std::string& tenant, const std::string& name) {
  return "models/" + tenant + "/" + name;
}

std::string version_prefix(const std::string& tenant, const std::string& name) {
  return "model-versions/" + tenant + "/" + name + "/";
}

std::string version_key(const std::string& tenant, const std::string& name, int64_t version) {
  return version_prefix(tenant, name) + fmt::format("{:06d}", version);
}

bool is_number(const std::string& text) {
  return !text.empty() && text.size() <= 9 && text.find_first_not_of("0123456789") == std::string::npos;
}

Status check_alias(const std::string& alias) {
  if (alias == "latest" || is_number(alias) || !check_model_name(alias).ok()) {
    return fail(Code::invalid_argument, "\"" + alias + "\" is no name for an alias",
                "Letters, digits, underscores and hyphens; neither a number nor \"latest\".");
  }
  return done;
}

class StoredRegistry final : public Registry {
 public:
  StoredRegistry(store::Catalog& catalog, store::Blobs& blobs, Clock& clock, learn::Runs& runs, MayUseBlob may_use_blob)
      : catalog_(catalog), blobs_(blobs), clock_(clock), runs_(runs), may_use_blob_(std::move(may_use_blob)) {}

  Result<Json> add_version(const std::string& tenant, const std::string& model, const Json& request) override {
    SUNDOG_CHECK(check_model_name(model));
    SUNDOG_TRY(draft, request.contains("run") ? from_run(tenant, request) : from_artefact(tenant, request));
    draft["model"] = model;
    draft["created"] = iso_time(clock_.wall());
    for (int attempt = 0;; ++attempt) {
      auto found = catalog_.get(model_key(tenant, model));
      if (!found.ok() && found.error().code != Code::not_found) return std::move(found).error();
      Json record =
          found.ok() ? found->value
                     : Json{{"name", model}, {"created", draft["created"]}, {"next", 1}, {"aliases", Json::object()}};
      const int64_t version = record["next"];
      record["next"] = version + 1;
      draft["version"] = version;
      const auto committed =
          catalog_.commit({{model_key(tenant, model), record, found.ok() ? found->revision : store::kAbsent},
                           {version_key(tenant, model, version), draft, store::kAbsent}});
      if (committed.ok()) {
        kill_point("models.version_added");
        return draft;
      }
      const auto code = committed.error().code;
      if ((code != Code::conflict && code != Code::already_exists) || attempt == 20) return committed.error();
    }
  }

  Result<Json> get_version(const std::string& tenant, const std::string& model,
                           const std::string& version) const override {
    SUNDOG_TRY(record, model_record(tenant, model));
    int64_t number = 0;
    if (is_number(version)) {
      number = std::stoll(version);
    } else if (version == "latest") {
      SUNDOG_TRY(versions, versions_of(tenant, model));
      if (!versions.empty()) number = versions.back()["version"];
    } else if (record.value["aliases"].contains(version)) {
      number = record.value["aliases"][version];
    } else {
      return fail(Code::not_found, "Model \"" + model + "\" has no alias \"" + version + "\"");
    }
    auto found = catalog_.get(version_key(tenant, model, number));
    if (!found.ok() && found.error().code == Code::not_found) {
      return fail(Code::not_found, fmt::format("Model \"{}\" has no version {}", model, version),
                  "GET /v1/models/" + model + " lists those that exist.");
    }
    if (!found.ok()) return std::move(found).error();
    return std::move(found->value);
  }

  Status remove_version(const std::string& tenant, const std::string& model, int64_t version) override {
    SUNDOG_TRY(record, model_record(tenant, model));
    for (const auto& [alias, number] : record.value["aliases"].items()) {
      if (number == version) {
        return fail(Code::conflict, fmt::format("Alias \"{}\" names version {} of model \"{}\"", alias, version, model),
                    "Move or remove the alias first.");
      }
    }
    SUNDOG_CHECK(get_version(tenant, model, std::to_string(version)));
    // With the model's own record, so that an alias set meanwhile is a conflict.
    SUNDOG_CHECK(catalog_.commit({{record.key, record.value, record.revision},
                                  {version_key(tenant, model, version), std::nullopt, store::kAnyRevision}}));
    return done;
  }

  Result<Json> set_alias(const std::string& tenant, const std::string& model, const std::string& alias,
                         int64_t version) override {
    SUNDOG_CHECK(check_alias(alias));
    SUNDOG_TRY(record, model_record(tenant, model));
    SUNDOG_CHECK(get_version(tenant, model, std::to_string(version)));
    record.value["aliases"][alias] = version;
    SUNDOG_CHECK(catalog_.put(record.key, record.value, record.revision));
    return describe(tenant, model);
  }

  Status remove_alias(const std::string& tenant, const std::string& model, const std::string& alias) override {
    SUNDOG_TRY(record, model_record(tenant, model));
    if (record.value["aliases"].erase(alias) == 0) {
      return fail(Code::not_found, "Model \"" + model + "\" has no alias \"" + alias + "\"");
    }
    SUNDOG_CHECK(catalog_.put(record.key, record.value, record.revision));
    return done;
  }

  Result<Json> describe(const std::string& tenant, const std::string& model) const override {
    SUNDOG_TRY(record, model_record(tenant, model));
    SUNDOG_TRY(versions, versions_of(tenant, model));
    return Json{{"name", model},
                {"created", record.value["created"]},
                {"latest", versions.empty() ? Json() : versions.back()["version"]},
                {"aliases", record.value["aliases"]},
                {"versions", versions}};
  }

  Result<Json> list(const std::string& tenant, const std::string& after, size_t limit) const override {
    const auto prefix = model_key(tenant, "");
    SUNDOG_TRY(found, catalog_.scan(prefix, after.empty() ? "" : prefix + after, limit));
    Json items = Json::array();
    for (const auto& model : found) {
      Json numbers = Json::array();
      SUNDOG_CHECK(
          store::each_record(catalog_, version_prefix(tenant, model.value["name"]), [&](const store::Record& version) {
            numbers.push_back(version.value["version"]);
            return true;
          }));
      items.push_back({{"name", model.value["name"]},
                       {"created", model.value["created"]},
                       {"latest", numbers.empty() ? Json() : numbers.back()},
                       {"aliases", model.value["aliases"]},
                       {"versions", numbers}});
    }
    const std::string next = limit > 0 && items.size() == limit ? items.back()["name"].get<std::string>() : "";
    return Json{{"items", std::move(items)}, {"next", next}};
  }

  bool names_blob(const std::string& tenant, const std::string& blob) const override {
    bool named = false;
    const auto looked =
        store::each_record(catalog_, "model-versions/" + tenant + "/", [&](const store::Record& version) {
          named = version.value["artefact"]["blob"] == blob;
          return !named;
        });
    return looked.ok() && named;
  }

 private:
  Result<store::Record> model_record(const std::string& tenant, const std::string& model) const {
    auto found = catalog_.get(model_key(tenant, model));
    if (!found.ok() && found.error().code == Code::not_found) {
      return fail(Code::not_found, "No model \"" + model + "\"", "GET /v1/models lists those that exist.");
    }
    return found;
  }

  Result<std::vector<Json>> versions_of(const std::string& tenant, const std::string& model) const {
    std::vector<Json> versions;
    SUNDOG_CHECK(store::each_record(catalog_, version_prefix(tenant, model), [&](store::Record& version) {
      versions.push_back(std::move(version.value));
      return true;
    }));
    return versions;
  }

  Result<Json> from_run(const std::string& tenant, const Json& request) const {
    SUNDOG_TRY(id, get_string(request, "run"));
    SUNDOG_TRY(run, runs_.result(tenant, id));
    if (run["state"] != "succeeded") {
      return fail(Code::conflict, "Run " + id + " is " + run["state"].get<std::string>() + ", not succeeded");
    }
    if (!run["artefact"].is_object()) {
      return fail(Code::conflict, "Run " + id + " returned no model",
                  "Return the fitted model from the training function.");
    }
    SUNDOG_TRY(signature, checked_signature(run.value("signature", Json())));
    return Json{{"run", id},
                {"artefact", run["artefact"]},
                {"signature", signature},
                {"metrics", run["metrics"]},
                {"lineage", run["lineage"]},
                {"environment", run["lineage"]["environment"]}};
  }

  Result<Json> from_artefact(const std::string& tenant, const Json& request) const {
    SUNDOG_TRY(blob, get_string(request, "artefact"));
    SUNDOG_TRY(format, get_string(request, "format"));
    SUNDOG_TRY(environment, get_string(request, "environment", ""));
    if (!kFormats.contains(format)) {
      return fail(Code::invalid_argument, "No artefact format \"" + format + "\"",
                  "One of skops, xgboost-json, cloudpickle.");
    }
    if (!store::is_blob_id(blob) || (may_use_blob_ && !may_use_blob_(tenant, blob))) {
      return fail(Code::not_found, "No blob \"" + blob + "\"", "PUT /v1/blobs the artefact first.");
    }
    SUNDOG_TRY(info, blobs_.info(blob));
    SUNDOG_TRY(signature, checked_signature(request.value("signature", Json())));
    const Json metrics = request.value("metrics", Json::object());
    if (!metrics.is_object()) return fail(Code::invalid_argument, "\"metrics\" maps names to numbers");
    return Json{{"run", nullptr},
                {"artefact", {{"blob", blob}, {"format", format}, {"bytes", info.bytes}}},
                {"signature", signature},
                {"metrics", metrics},
                {"lineage", request.value("lineage", Json::object())},
                {"environment", environment}};
  }

  store::Catalog& catalog_;
  store::Blobs& blobs_;
  Clock& clock_;
  learn::Runs& runs_;
  MayUseBlob may_use_blob_;
};

}  // namespace

Status check_model_name(const std::string& name) {
  const auto plain = [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '-'; };
  if (!name.empty() && name.size() <= 58 && std::all_of(name.begin(), name.end(), plain) &&
      std::isalnum(static_cast<unsigned char>(name[0])) != 0) {
    return done;
  }
  return fail(Code::invalid_argument, "\"" + name + "\" is no name for a model",
              "1 to 58 letters, digits, underscores and hyphens, beginning with a letter or digit.");
}

std::unique_ptr<Registry> open_registry(store::Catalog& catalog, store::Blobs& blobs, Clock& clock, learn::Runs& runs,
                                        Registry::MayUseBlob may_use_blob) {
  return std::make_unique<StoredRegistry>(catalog, blobs, clock, runs, std::move(may_use_blob));
}

}  // namespace sundog::models
