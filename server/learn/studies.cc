#include "learn/studies.h"

#include <fmt/format.h>

#include "learn/run_record.h"
#include "store/each_record.h"

namespace sundog::learn {
namespace {

constexpr const char* kSettings[] = {"function", "dataset", "space", "metric", "direction", "trials", "pruner"};

std::string study_key(const std::string& tenant, const std::string& name) {
  return "studies/" + tenant + "/" + name;
}

std::string trial_prefix(const std::string& tenant, const std::string& study) {
  return "trials/" + tenant + "/" + study + "/";
}

std::string trial_key(const std::string& tenant, const std::string& study, int64_t number) {
  return trial_prefix(tenant, study) + fmt::format("{:06d}", number);
}

bool is_name(const std::string& text) {
  const auto plain = [](unsigned char c) { return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-'; };
  return !text.empty() && text.size() <= 64 && std::isalnum(static_cast<unsigned char>(text[0])) != 0 &&
         std::all_of(text.begin(), text.end(), plain);
}

Result<Json> checked(const Json& settings) {
  SUNDOG_TRY(name, get_string(settings, "name"));
  if (!is_name(name)) {
    return fail(Code::invalid_argument, "\"" + name + "\" is no name for a study",
                "1 to 64 letters, digits, dots, underscores and hyphens, beginning with a letter or digit.");
  }
  SUNDOG_TRY(function, get_string(settings, "function"));
  SUNDOG_TRY(dataset, get_string(settings, "dataset", ""));
  SUNDOG_TRY(metric, get_string(settings, "metric"));
  SUNDOG_TRY(direction, get_string(settings, "direction", "maximise"));
  if (direction != "maximise" && direction != "minimise") {
    return fail(Code::invalid_argument,
                "A study's direction is \"maximise\" or \"minimise\", not \"" + direction + "\"");
  }
  SUNDOG_TRY(trials, get_int(settings, "trials", 20));
  if (trials < 1 || trials > 100'000) {
    return fail(Code::invalid_argument, "A study has 1 to 100,000 trials, not " + std::to_string(trials));
  }
  const Json space = settings.value("space", Json::object());
  if (!space.is_object()) return fail(Code::invalid_argument, "A study's space maps a parameter's name to its range");
  return Json{
      {"name", name},     {"function", function},   {"dataset", dataset}, {"space", space},
      {"metric", metric}, {"direction", direction}, {"trials", trials},   {"pruner", settings.value("pruner", Json())}};
}

// The trial with the best value among those that ran to their end; null if there is none.
Json best_of(const Json& trials, bool maximise) {
  Json best;
  for (const auto& trial : trials) {
    if (trial["state"] != "succeeded" || !trial["value"].is_number()) continue;
    const double value = trial["value"];
    if (best.is_null() || (maximise ? value > best["value"].get<double>() : value < best["value"].get<double>())) {
      best = {
          {"number", trial["number"]}, {"run", trial["run"]}, {"parameters", trial["parameters"]}, {"value", value}};
    }
  }
  return best;
}

class StoredStudies final : public Studies {
 public:
  StoredStudies(store::Catalog& catalog, Clock& clock, data::Datasets& datasets, Runs& runs)
      : catalog_(catalog), clock_(clock), datasets_(datasets), runs_(runs) {}

  Result<Json> create(const std::string& tenant, const Json& settings) override {
    SUNDOG_TRY(study, checked(settings));
    if (const std::string reference = study["dataset"]; !reference.empty()) {
      SUNDOG_TRY(dataset, datasets_.find(tenant, reference));  // pinned: all trials see the same rows
      study["dataset"] = dataset.reference();
    }
    const std::string name = study["name"];
    study["created"] = iso_time(clock_.wall());
    const auto put = catalog_.put(study_key(tenant, name), study, store::kAbsent);
    if (put.ok()) return get(tenant, name);
    if (put.error().code != Code::already_exists && put.error().code != Code::conflict) return put.error();
    SUNDOG_TRY(existing, catalog_.get(study_key(tenant, name)));
    for (const auto* setting : kSettings) {
      if (existing.value[setting] == study[setting]) continue;
      return fail(Code::conflict,
                  fmt::format("Study \"{}\" exists with {} {}, not {}", name, setting, dump(existing.value[setting]),
                              dump(study[setting])),
                  "Use another name, or the same settings to go on with it.");
    }
    return get(tenant, name);
  }

  Result<Json> get(const std::string& tenant, const std::string& name) const override {
    SUNDOG_TRY(study, record(tenant, name));
    Json trials = Json::array();
    SUNDOG_CHECK(store::each_record(catalog_, trial_prefix(tenant, name), [&](store::Record& trial) -> Result<bool> {
      SUNDOG_TRY(whole, with_points(tenant, study["metric"], std::move(trial.value)));
      trials.push_back(std::move(whole));
      return true;
    }));
    study["best"] = best_of(trials, study["direction"] == "maximise");
    study["total"] = study["trials"];
    study["trials"] = std::move(trials);
    return study;
  }

  Result<Json> list(const std::string& tenant, const std::string& after, size_t limit) const override {
    const auto prefix = study_key(tenant, "");
    SUNDOG_TRY(found, catalog_.scan(prefix, after.empty() ? "" : prefix + after, limit));
    Json items = Json::array();
    for (auto& study : found) {
      study.value["total"] = study.value["trials"];
      study.value.erase("trials");
      items.push_back(std::move(study.value));
    }
    const std::string next = items.size() == limit && limit > 0 ? items.back()["name"].get<std::string>() : "";
    return Json{{"items", std::move(items)}, {"next", next}};
  }

  Result<Json> add_trial(const std::string& tenant, const std::string& name, const Json& trial) override {
    SUNDOG_TRY(study, record(tenant, name));
    SUNDOG_TRY(number, get_int(trial, "number"));
    if (number < 0 || number >= 1'000'000) {
      return fail(Code::invalid_argument, "A trial's number is 0 to 999,999, not " + std::to_string(number));
    }
    const Json parameters = trial.value("parameters", Json::object());
    if (!parameters.is_object()) return fail(Code::invalid_argument, "A trial's parameters are an object");
    const auto existing = catalog_.get(trial_key(tenant, name, number));
    if (existing.ok()) return existing_trial(tenant, name, existing->value, parameters);
    if (existing.error().code != Code::not_found) return existing.error();
    NewRun run;
    run.id = runs_.new_id();
    run.name = fmt::format("{}-{}", name, number);
    run.function = study["function"];
    run.dataset = study["dataset"];
    run.study = name;
    run.parameters = parameters;
    Json kept{
        {"number", number}, {"run", run.id}, {"parameters", parameters}, {"state", "running"}, {"value", nullptr}};
    run.along.push_back({trial_key(tenant, name, number), std::move(kept), store::kAbsent});
    return runs_.create(tenant, std::move(run));
  }

  Result<Json> set_trial(const std::string& tenant, const std::string& study, int64_t number,
                         const Json& outcome) override {
    SUNDOG_TRY(state, get_string(outcome, "state"));
    static const std::set<std::string> states{"running", "succeeded", "failed", "stopped", "pruned"};
    if (!states.contains(state)) {
      return fail(Code::invalid_argument,
                  "A trial's state is running, succeeded, failed, stopped or pruned, not \"" + state + "\"");
    }
    const Json value = outcome.value("value", Json());
    if (!value.is_null() && !value.is_number())
      return fail(Code::invalid_argument, "A trial's value is a number or null");
    auto found = catalog_.get(trial_key(tenant, study, number));
    if (!found.ok() && found.error().code == Code::not_found) {
      return fail(Code::not_found, fmt::format("Study \"{}\" has no trial {}", study, number));
    }
    if (!found.ok()) return std::move(found).error();
    found->value["state"] = state;
    found->value["value"] = value;
    SUNDOG_CHECK(catalog_.put(found->key, found->value, found->revision));
    return found->value;
  }

 private:
  Result<Json> record(const std::string& tenant, const std::string& name) const {
    auto found = catalog_.get(study_key(tenant, name));
    if (!found.ok() && found.error().code == Code::not_found) {
      return fail(Code::not_found, "No study \"" + name + "\"", "GET /v1/studies lists those that exist.");
    }
    if (!found.ok()) return std::move(found).error();
    return std::move(found->value);
  }

  Result<Json> existing_trial(const std::string& tenant, const std::string& study, const Json& trial,
                              const Json& parameters) const {
    if (trial["parameters"] != parameters) {
      return fail(Code::conflict,
                  fmt::format("Trial {} of study \"{}\" exists with parameters {}", trial["number"].get<int64_t>(),
                              study, dump(trial["parameters"])),
                  "Give the next trial the next free number.");
    }
    return runs_.get(tenant, trial["run"], -1);
  }

  // The study's metric over the run's steps: what the pruner looks at.
  Result<Json> with_points(const std::string& tenant, const std::string& metric, Json trial) const {
    auto& points = trial["points"] = Json::array();
    SUNDOG_CHECK(store::each_record(catalog_, point_prefix(tenant, trial["run"]), [&](const store::Record& point) {
      const auto value = point.value["values"].find(metric);
      if (value != point.value["values"].end()) {
        points.push_back({{"n", point.value["n"]}, {"step", point.value["step"]}, {"value", *value}});
      }
      return true;
    }));
    return trial;
  }

  store::Catalog& catalog_;
  Clock& clock_;
  data::Datasets& datasets_;
  Runs& runs_;
};

}  // namespace

std::unique_ptr<Studies> open_studies(store::Catalog& catalog, Clock& clock, data::Datasets& datasets, Runs& runs) {
  return std::make_unique<StoredStudies>(catalog, clock, datasets, runs);
}

}  // namespace sundog::learn
