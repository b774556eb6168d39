// Of StoredFunctions: publishing, the states of versions, and reading.
#include "base/ids.h"
#include "base/kill_point.h"
#include "functions/naming.h"
#include "functions/stored_functions.h"

namespace sundog::functions {
namespace {

constexpr std::string_view kCreating = "Creating";
constexpr std::string_view kEnvironmentFailed = "InvalidConfiguration";
constexpr std::string_view kCodeLost = "InvalidZipFileException";

std::string last_line(const std::string& log) {
  const size_t end = log.find_last_not_of(" \r\n");
  if (end == std::string::npos) return "";
  const size_t begin = log.find_last_of('\n', end);
  return log.substr(begin == std::string::npos ? 0 : begin + 1, end - (begin == std::string::npos ? -1 : begin));
}

std::string_view init_code(const sandbox::InitFailure& failure) {
  if (failure.type.find("Timedout") != std::string::npos) return "FunctionError.InitTimeout";
  if (failure.type == "Runtime.HandlerNotFound") return "FunctionError.InvalidEntryPoint";
  return "FunctionError.RuntimeInitError";
}

bool waits_for(const Version& version, const std::string& environment_id) {
  return version.config.environment_id == environment_id &&
         (version.state == State::pending || version.update != UpdateStatus::successful ||
          (version.state == State::failed && version.state_reason_code == kEnvironmentFailed));
}

}  // namespace

StoredFunctions::Readiness StoredFunctions::readiness(const Config& config) const {
  if (config.environment_id.empty()) return {};
  const auto environment = environments_.get(config.environment_id);
  const std::string code(kEnvironmentFailed);
  if (!environment.ok()) return {State::failed, "Environment " + config.environment_id + " does not exist.", code};
  switch (environment->state) {
    case Environment::State::ready:
      return {};
    case Environment::State::building:
      return {State::pending, "The function's environment is being built.", std::string(kCreating)};
    case Environment::State::failed:
      break;
  }
  return {State::failed, "The function's environment could not be built: " + last_line(environment->log), code};
}

Version StoredFunctions::publish_latest(FunctionState& state, std::vector<store::Write>& writes,
                                        std::string description) const {
  Version version = *state.latest;
  const int64_t number = state.next_version++;
  Published published{nullptr, content_digest(version)};
  version.version = std::to_string(number);
  version.config.description = std::move(description);
  version.revision_id = uuid4();
  version.last_modified = clock_.wall();
  // A version published in the middle of an update has none of its own to wait for but that of its state.
  if (version.update == UpdateStatus::in_progress) version.state = State::pending;
  if (version.failed_at_init()) {
    version.state = State::active;
    version.state_reason.clear();
    version.state_reason_code.clear();
  }
  version.update = UpdateStatus::successful;
  version.update_reason.clear();
  version.update_reason_code.clear();
  Json record = version_json(version);
  record["digest"] = published.digest;
  writes.push_back({version_key(version.tenant, version.config.name, number), std::move(record), store::kAbsent});
  published.version = std::make_shared<const Version>(version);
  state.versions[number] = std::move(published);
  return version;
}

Result<Version> StoredFunctions::publish(const std::string& tenant, const std::string& name,
                                         const std::string& code_sha256, const std::string& description,
                                         const std::string& revision_id) {
  SUNDOG_TRY(before, find(tenant, name));
  const auto check = [&](const FunctionState& state) -> Status {
    const Version& latest = *state.latest;
    if (!revision_id.empty() && latest.revision_id != revision_id) return stale_revision();
    if (!code_sha256.empty() && latest.code_sha256 != code_sha256) {
      return fail(Code::invalid_argument,
                  "CodeSHA256 (" + code_sha256 + ") is different from current CodeSHA256 in $LATEST (" +
                      latest.code_sha256 + "). Please try again with the CodeSHA256 in $LATEST.");
    }
    SUNDOG_CHECK(check_settled(state));
    const bool can_run = latest.state == State::active || latest.failed_at_init();
    if (can_run && latest.update == UpdateStatus::successful) return done;
    return fail(
        Code::conflict,
        "The operation cannot be performed at this time. The function is currently in the following state: Failed",
        latest.state_reason.empty() ? latest.update_reason : latest.state_reason);
  };
  const auto unchanged = [](const FunctionState& state) {
    return !state.versions.empty() && state.versions.rbegin()->second.digest == content_digest(*state.latest);
  };
  SUNDOG_CHECK(check(*before));
  if (unchanged(*before)) return *before->versions.rbegin()->second.version;
  Version answer;
  SUNDOG_TRY(made, change(tenant, name, [&](FunctionState& state, std::vector<store::Write>& writes) -> Status {
               SUNDOG_CHECK(check(state));
               if (unchanged(state)) {
                 answer = *state.versions.rbegin()->second.version;
                 return done;
               }
               answer =
                   publish_latest(state, writes, description.empty() ? state.latest->config.description : description);
               return done;
             }));
  kill_point("functions.published");
  changed(tenant, name);
  deployed(made);
  return answer;
}

bool StoredFunctions::settle_state(FunctionState& state, const std::string& environment_id,
                                   std::vector<store::Write>& writes) const {
  bool any = false;
  if (waits_for(*state.latest, environment_id)) {
    const Readiness ready = readiness(state.latest->config);
    auto next = std::make_shared<Version>(*state.latest);
    if (state.previous) {
      next->update = ready.state == State::active    ? UpdateStatus::successful
                     : ready.state == State::pending ? UpdateStatus::in_progress
                                                     : UpdateStatus::failed;
      next->update_reason = ready.reason;
      next->update_reason_code = ready.code;
      if (ready.state == State::active) state.previous = nullptr;
    } else {
      next->state = ready.state;
      next->state_reason = ready.reason;
      next->state_reason_code = ready.code;
    }
    any = next->state != state.latest->state || next->update != state.latest->update;
    state.latest = std::move(next);
  }
  for (auto& [number, published] : state.versions) {
    if (!waits_for(*published.version, environment_id)) continue;
    const Readiness ready = readiness(published.version->config);
    if (ready.state == published.version->state) continue;
    auto next = std::make_shared<Version>(*published.version);
    next->state = ready.state;
    next->state_reason = ready.reason;
    next->state_reason_code = ready.code;
    Json record = version_json(*next);
    record["digest"] = published.digest;
    writes.push_back({version_key(next->tenant, next->config.name, number), std::move(record), store::kAnyRevision});
    published.version = std::move(next);
    any = true;
  }
  return any;
}

void StoredFunctions::settle(const std::string& environment_id) {
  const auto now = snapshot();
  for (const auto& [key, state] : now->functions) {
    FunctionState trial = *state;
    std::vector<store::Write> ignored;
    if (!settle_state(trial, environment_id, ignored)) continue;
    const auto settled = change(key.first, key.second, [&](FunctionState& next, std::vector<store::Write>& writes) {
      settle_state(next, environment_id, writes);
      return Status(done);
    });
    // What failed (a full disk) stays pending and is settled at the next start.
    if (!settled.ok()) continue;
    changed(key.first, key.second);
    deployed(*settled);
  }
}

void StoredFunctions::report_init(const Version& version, const InitReport& report) {
  const auto& failure = report.failure;
  const State state = failure ? State::failed : State::active;
  const std::string reason = failure ? failure->type + ": " + failure->message : "";
  const std::string code = failure ? std::string(init_code(*failure)) : "";
  const auto number = version_number(version.version);
  const auto target = [&](const FunctionState& function) -> VersionPtr {
    if (version.version == kLatest) return function.latest;
    const auto found = number ? function.versions.find(*number) : function.versions.end();
    return found == function.versions.end() ? nullptr : found->second.version;
  };
  const auto differs = [&](const VersionPtr& stored) {
    if (!stored || stored->revision_id != version.revision_id || stored->state == State::pending) return false;
    const bool starts_otherwise = !failure && stored->start_reason != report.start_reason;
    return stored->state != state || stored->state_reason != reason || starts_otherwise;
  };
  const auto before = find(version.tenant, version.config.name);
  if (!before.ok() || !differs(target(**before))) return;
  const auto reported =
      change(version.tenant, version.config.name, [&](FunctionState& function, std::vector<store::Write>& writes) {
        const VersionPtr stored = target(function);
        if (!differs(stored)) return Status(done);
        auto next = std::make_shared<Version>(*stored);
        next->state = state;
        next->state_reason = reason;
        next->state_reason_code = code;
        if (!failure) next->start_reason = report.start_reason;
        if (version.version == kLatest) {
          function.latest = std::move(next);
          return Status(done);
        }
        Published& published = function.versions[*number];
        Json record = version_json(*next);
        record["digest"] = published.digest;
        writes.push_back(
            {version_key(next->tenant, next->config.name, *number), std::move(record), store::kAnyRevision});
        published.version = std::move(next);
        return Status(done);
      });
  if (reported.ok()) changed(version.tenant, version.config.name);
}

void StoredFunctions::restore_code() {
  // A folder may be missing after a restore from a backup: the zip is in the blobs.
  std::set<std::string> lost;
  const auto now = snapshot();
  for (const auto& [key, state] : now->functions) {
    if (!code_.has(state->latest->code_blob)) lost.insert(state->latest->code_blob);
    for (const auto& [number, published] : state->versions) {
      if (!code_.has(published.version->code_blob)) lost.insert(published.version->code_blob);
    }
  }
  for (const auto& blob : lost) {
    const auto zip = blobs_.get(blob);
    if (zip.ok() && code_.add(*zip, blob).ok()) continue;
    for (const auto& [key, state] : now->functions) {
      if (state->latest->code_blob != blob) continue;
      const auto marked = change(key.first, key.second, [&](FunctionState& next, std::vector<store::Write>&) {
        auto version = std::make_shared<Version>(*next.latest);
        version->state = State::failed;
        version->state_reason = "The function's code is lost; upload it again.";
        version->state_reason_code = kCodeLost;
        next.latest = std::move(version);
        return Status(done);
      });
      if (!marked.ok()) break;  // the store is not writable: the next start tries again
    }
  }
}

Result<Version> StoredFunctions::get(const std::string& tenant, const std::string& name,
                                     const std::string& qualifier) const {
  const auto found = find(tenant, name);
  if (!found.ok()) return no_function(name, qualifier);
  const FunctionState& state = **found;
  if (qualifier.empty() || qualifier == kLatest) return *state.latest;
  const auto alias = state.aliases.find(qualifier);
  const std::string& version = alias == state.aliases.end() ? qualifier : alias->second.version;
  if (version == kLatest) return *state.latest;
  const auto number = version_number(version);
  const auto published = number ? state.versions.find(*number) : state.versions.end();
  if (published == state.versions.end()) return no_function(name, qualifier);
  return *published->second.version;
}

Result<Page<Version>> StoredFunctions::list(const std::string& tenant, const std::string& after, int limit) const {
  const auto now = snapshot();
  Page<Version> page;
  for (auto it = now->functions.upper_bound({tenant, after}); it != now->functions.end(); ++it) {
    if (it->first.first != tenant) break;
    if (static_cast<int>(page.items.size()) == limit) {
      page.next = page.items.back().config.name;
      break;
    }
    page.items.push_back(*it->second->latest);
  }
  return page;
}

Result<Page<Version>> StoredFunctions::versions(const std::string& tenant, const std::string& name,
                                                const std::string& after, int limit) const {
  SUNDOG_TRY(state, find(tenant, name));
  int64_t last = -1;
  if (!after.empty()) {
    const auto number = after == kLatest ? std::optional<int64_t>(0) : version_number(after);
    if (!number)
      return fail(Code::invalid_argument, "Marker \"" + after.substr(0, 64) + "\" is not one of a page before.");
    last = *number;
  }
  Page<Version> page;
  if (last < 0) page.items.push_back(*state->latest);
  for (auto it = state->versions.upper_bound(last); it != state->versions.end(); ++it) {
    if (static_cast<int>(page.items.size()) == limit) {
      page.next = page.items.back().version;
      break;
    }
    page.items.push_back(*it->second.version);
  }
  return page;
}

Result<Resolved> StoredFunctions::resolve(const std::string& tenant, const std::string& name,
                                          const std::string& qualifier, double dice) const {
  const auto now = snapshot();
  if (const auto builtin = now->builtins.find(name); builtin != now->builtins.end()) {
    if (qualifier.empty() || qualifier == builtin->second->version) return Resolved{builtin->second, std::nullopt};
    return no_function(name, qualifier);
  }
  const auto found = now->functions.find({tenant, name});
  if (found == now->functions.end()) return no_function(name, qualifier);
  const FunctionState& state = *found->second;
  const VersionPtr latest = state.previous ? state.previous : state.latest;
  std::string version = qualifier;
  if (const auto alias = state.aliases.find(qualifier); alias != state.aliases.end()) {
    version = alias->second.version;
    double share = 0;
    for (const auto& [other, weight] : alias->second.weights) {
      share += weight;
      if (dice < share) {
        version = other;
        break;
      }
    }
  }
  if (version.empty() || version == kLatest) return Resolved{latest, state.reserved_concurrency};
  const auto number = version_number(version);
  const auto published = number ? state.versions.find(*number) : state.versions.end();
  if (published == state.versions.end()) return no_function(name, qualifier);
  return Resolved{published->second.version, state.reserved_concurrency};
}

void StoredFunctions::add_builtin(Version version) {
  const std::string name = version.config.name;
  const std::lock_guard write_lock(write_mutex_);
  auto next = std::make_shared<Snapshot>(*snapshot());
  next->builtins[name] = std::make_shared<const Version>(std::move(version));
  const std::lock_guard lock(snapshot_mutex_);
  snapshot_ = std::move(next);
}

}  // namespace sundog::functions
