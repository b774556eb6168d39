#include "functions/functions.h"

#include "base/crypto.h"
#include "base/ids.h"
#include "base/kill_point.h"
#include "functions/naming.h"
#include "functions/stored_functions.h"
#include "functions/validation.h"
#include "store/each_record.h"

namespace sundog::functions {
namespace {

// An instance of a replaced version runs at most 900 s more.
constexpr Millis kSweepGrace{1'000'000};
constexpr int kAttempts = 4;

Error exists_already(const std::string& name) {
  return fail(Code::conflict, "Function already exist: " + name, "Update it, or choose another name.");
}

}  // namespace

Error no_function(const std::string& name, const std::string& qualifier) {
  return fail(Code::not_found, "Function not found: " + function_arn(name, qualifier),
              "ListFunctions shows those that exist.");
}

Error stale_revision() {
  return fail(Code::conflict, std::string(kStaleRevision));
}

Status check_settled(const FunctionState& state) {
  if (state.latest->state == State::pending) {
    return fail(
        Code::conflict,
        "The operation cannot be performed at this time. The function is currently in the following state: Pending",
        "Wait until its State is Active.");
  }
  if (state.latest->update == UpdateStatus::in_progress) {
    return fail(
        Code::conflict,
        "The operation cannot be performed at this time. An update is in progress for resource: " + state.latest->arn(),
        "Wait until its LastUpdateStatus is Successful.");
  }
  return done;
}

StoredFunctions::StoredFunctions(store::Catalog& catalog, store::Blobs& blobs, Environments& environments, Clock& clock,
                                 Options options)
    : catalog_(catalog),
      blobs_(blobs),
      environments_(environments),
      clock_(clock),
      options_(std::move(options)),
      code_(clock, options_.folder, PackageLimits{.unzipped_bytes = options_.unzipped_limit}) {
  lifeline_->self = this;
  environments_.on_built([lifeline = lifeline_](const Environment& environment) {
    const std::lock_guard lock(lifeline->mutex);
    if (lifeline->self != nullptr) lifeline->self->settle(environment.id);
  });
}

StoredFunctions::~StoredFunctions() {
  const std::lock_guard lock(lifeline_->mutex);
  lifeline_->self = nullptr;
}

std::shared_ptr<const StoredFunctions::Snapshot> StoredFunctions::snapshot() const {
  const std::lock_guard lock(snapshot_mutex_);
  return snapshot_;
}

Result<FunctionStatePtr> StoredFunctions::find(const std::string& tenant, const std::string& name) const {
  const auto now = snapshot();
  const auto found = now->functions.find({tenant, name});
  if (found == now->functions.end()) return no_function(name, "");
  return found->second;
}

void StoredFunctions::replace(const Key& key, FunctionStatePtr state) {
  auto next = std::make_shared<Snapshot>(*snapshot());
  if (state)
    next->functions[key] = std::move(state);
  else
    next->functions.erase(key);
  const std::lock_guard lock(snapshot_mutex_);
  snapshot_ = std::move(next);
}

void StoredFunctions::reload(const Key& key) {
  auto loaded = load_function(catalog_, key.first, key.second, options_.folder);
  if (loaded.ok())
    replace(key, std::make_shared<const FunctionState>(*std::move(loaded)));
  else if (loaded.error().code == Code::not_found)
    replace(key, nullptr);
}

Result<StoredFunctions::Change> StoredFunctions::change(const std::string& tenant, const std::string& name,
                                                        const Edit& edit) {
  const Key key{tenant, name};
  const std::lock_guard lock(write_mutex_);
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    SUNDOG_TRY(current, find(tenant, name));
    auto next = std::make_shared<FunctionState>(*current);
    std::vector<store::Write> writes;
    SUNDOG_CHECK(edit(*next, writes));
    // Last, so that the commit's revision is this record's.
    writes.push_back({function_key(tenant, name), function_json(*next), current->revision});
    const auto committed = catalog_.commit(writes);
    if (committed.ok()) {
      next->revision = *committed;
      replace(key, next);
      return Change{current, next};
    }
    if (committed.error().code != Code::conflict && committed.error().code != Code::already_exists) {
      return committed.error();
    }
    reload(key);
  }
  return fail(Code::conflict, "Function " + name + " is being changed by others at the same time.", "Try again.");
}

void StoredFunctions::changed(const std::string& tenant, const std::string& name) {
  std::vector<std::function<void(const std::string&, const std::string&)>> callbacks;
  {
    const std::lock_guard lock(callbacks_mutex_);
    callbacks = callbacks_;
  }
  for (const auto& callback : callbacks) callback(tenant, name);
}

void StoredFunctions::on_change(std::function<void(const std::string& tenant, const std::string& name)> callback) {
  const std::lock_guard lock(callbacks_mutex_);
  callbacks_.push_back(std::move(callback));
}

void StoredFunctions::on_deploy(std::function<void(const VersionPtr& version)> callback) {
  const std::lock_guard lock(callbacks_mutex_);
  deploy_callbacks_.push_back(std::move(callback));
}

void StoredFunctions::deployed(const Change& change) {
  const auto running = [](const FunctionState& state) {
    std::map<std::string, VersionPtr> all;  // by identity
    const auto add = [&](const VersionPtr& version) {
      if (version->state == State::active) all.emplace(version->identity(), version);
    };
    add(state.previous ? state.previous : state.latest);
    for (const auto& [number, published] : state.versions) add(published.version);
    return all;
  };
  const auto before = change.before ? running(*change.before) : std::map<std::string, VersionPtr>{};
  std::vector<std::function<void(const VersionPtr&)>> callbacks;
  {
    const std::lock_guard lock(callbacks_mutex_);
    callbacks = deploy_callbacks_;
  }
  for (const auto& [identity, version] : running(*change.now)) {
    if (before.contains(identity)) continue;
    for (const auto& callback : callbacks) callback(version);
  }
}

Status StoredFunctions::check_zip_size(const std::string& zip) const {
  if (static_cast<int64_t>(zip.size()) <= options_.zip_limit) return done;
  return fail(
      Code::too_large,
      "The zip has " + std::to_string(zip.size()) + " bytes; the limit is " + std::to_string(options_.zip_limit) + ".",
      "Leave out what the function does not need, or put packages into an environment.");
}

Status StoredFunctions::check_environment(const Config& config) const {
  // Of a runtime that check_config() let through: "python3.N", or one that takes any environment.
  const bool custom = is_custom(config);
  const std::string python = custom ? "" : config.runtime.substr(6);
  if (!custom) SUNDOG_CHECK(environments_.python(python));
  if (config.environment_id.empty()) return done;
  const auto environment = environments_.get(config.environment_id);
  if (!environment.ok()) {
    return fail(Code::invalid_argument,
                "Layer version " + environment_layer_arn(config.environment_id) + " does not exist.",
                "Make the environment first: POST /v1/environments.");
  }
  if (custom || environment->python == python) return done;
  return fail(Code::invalid_argument, "The environment is for Python " + environment->python +
                                          ", but the function's runtime is " + config.runtime + ".");
}

Result<Version> StoredFunctions::first_version(const std::string& tenant, Config config, const std::string& zip) const {
  Version version;
  version.tenant = tenant;
  version.config = std::move(config);
  const std::string digest = sha256(zip);
  version.code_blob = hex(digest);
  version.code_sha256 = base64(digest);
  version.code_bytes = static_cast<int64_t>(zip.size());
  version.code_folder = code_.path_of(version.code_blob);
  version.last_modified = clock_.wall();
  version.revision_id = uuid4();
  const Readiness ready = readiness(version.config);
  version.state = ready.state;
  version.state_reason = ready.reason;
  version.state_reason_code = ready.code;
  return version;
}

Result<int64_t> StoredFunctions::next_number(const std::string& tenant, const std::string& name) const {
  const auto record = catalog_.get(numbers_key(tenant, name));
  if (record.ok()) return get_int(record->value, "next_version");
  if (record.error().code == Code::not_found) return int64_t{1};
  return record.error();
}

Result<Version> StoredFunctions::create(const std::string& tenant, Config config, std::string zip, bool publish) {
  SUNDOG_CHECK(check_config(config));
  SUNDOG_CHECK(check_zip_size(zip));
  const std::string name = config.name;
  const auto now = snapshot();
  if (now->builtins.contains(name) || now->functions.contains({tenant, name})) return exists_already(name);
  SUNDOG_CHECK(check_environment(config));
  SUNDOG_TRY(pin, code_.add(zip, sha256_hex(zip)));
  kill_point("functions.code_extracted");
  SUNDOG_CHECK(blobs_.put(zip));
  SUNDOG_TRY(first, first_version(tenant, std::move(config), zip));
  Version answer = first;
  const std::string environment = first.config.environment_id;
  const auto state = std::make_shared<FunctionState>();
  {
    const std::lock_guard lock(write_mutex_);
    SUNDOG_TRY(number, next_number(tenant, name));
    state->next_version = number;
    state->latest = std::make_shared<const Version>(std::move(first));
    std::vector<store::Write> writes;
    if (publish) answer = publish_latest(*state, writes, answer.config.description);
    writes.push_back({function_key(tenant, name), function_json(*state), store::kAbsent});
    const auto committed = catalog_.commit(writes);
    if (!committed.ok()) {
      if (committed.error().code != Code::conflict && committed.error().code != Code::already_exists) {
        return committed.error();
      }
      reload({tenant, name});
      return exists_already(name);
    }
    kill_point("functions.created");
    state->revision = *committed;
    replace({tenant, name}, state);
  }
  // Its environment may have become ready between the look at it and the commit.
  if (answer.state == State::pending) settle(environment);
  changed(tenant, name);
  deployed({nullptr, state});
  return answer;
}

void StoredFunctions::install(FunctionState& state, Version next) const {
  next.revision_id = uuid4();
  next.last_modified = clock_.wall();
  const Readiness ready = readiness(next.config);
  const VersionPtr runs = state.previous ? state.previous : state.latest;
  next.state = State::active;
  next.state_reason.clear();
  next.state_reason_code.clear();
  next.start_reason.clear();
  next.update = UpdateStatus::successful;
  next.update_reason.clear();
  next.update_reason_code.clear();
  state.previous = nullptr;
  if (ready.state != State::active && runs->state == State::active) {
    next.update = ready.state == State::pending ? UpdateStatus::in_progress : UpdateStatus::failed;
    next.update_reason = ready.reason;
    next.update_reason_code = ready.code;
    state.previous = runs;
  } else if (ready.state != State::active) {
    next.state = ready.state;
    next.state_reason = ready.reason;
    next.state_reason_code = ready.code;
  }
  state.latest = std::make_shared<const Version>(std::move(next));
}

Result<Version> StoredFunctions::update_code(const std::string& tenant, const std::string& name, std::string zip,
                                             bool publish, const std::string& revision_id, bool dry_run) {
  SUNDOG_TRY(before, find(tenant, name));
  SUNDOG_CHECK(check_zip_size(zip));
  if (!revision_id.empty() && before->latest->revision_id != revision_id) return stale_revision();
  SUNDOG_TRY(candidate, first_version(tenant, before->latest->config, zip));
  if (dry_run) {
    SUNDOG_CHECK(check_package(zip, PackageLimits{.unzipped_bytes = options_.unzipped_limit}));
    return candidate;
  }
  SUNDOG_CHECK(check_settled(*before));
  SUNDOG_TRY(pin, code_.add(zip, candidate.code_blob));
  SUNDOG_CHECK(blobs_.put(zip));
  Version answer;
  SUNDOG_TRY(made, change(tenant, name, [&](FunctionState& state, std::vector<store::Write>& writes) -> Status {
               if (!revision_id.empty() && state.latest->revision_id != revision_id) return stale_revision();
               SUNDOG_CHECK(check_settled(state));
               Version next = *state.latest;
               next.code_blob = candidate.code_blob;
               next.code_sha256 = candidate.code_sha256;
               next.code_bytes = candidate.code_bytes;
               next.code_folder = candidate.code_folder;
               install(state, std::move(next));
               answer = publish ? publish_latest(state, writes, state.latest->config.description) : *state.latest;
               return done;
             }));
  changed(tenant, name);
  deployed(made);
  sweep();
  return answer;
}

Result<Version> StoredFunctions::update_config(const std::string& tenant, const std::string& name,
                                               const std::string& revision_id, std::function<Status(Config&)> edit) {
  Version answer;
  SUNDOG_TRY(made, change(tenant, name, [&](FunctionState& state, std::vector<store::Write>&) -> Status {
               if (!revision_id.empty() && state.latest->revision_id != revision_id) return stale_revision();
               SUNDOG_CHECK(check_settled(state));
               Version next = *state.latest;
               SUNDOG_CHECK(edit(next.config));
               next.config.name = name;
               SUNDOG_CHECK(check_config(next.config));
               SUNDOG_CHECK(check_environment(next.config));
               install(state, std::move(next));
               answer = *state.latest;
               return done;
             }));
  if (answer.state == State::pending || answer.update == UpdateStatus::in_progress) {
    settle(answer.config.environment_id);
  }
  changed(tenant, name);
  deployed(made);
  return answer;
}

Status StoredFunctions::remove(const std::string& tenant, const std::string& name, const std::string& qualifier) {
  if (qualifier.empty())
    SUNDOG_CHECK(remove_whole(tenant, name));
  else
    SUNDOG_CHECK(remove_version(tenant, name, qualifier));
  changed(tenant, name);
  sweep();
  return done;
}

Status StoredFunctions::remove_whole(const std::string& tenant, const std::string& name) {
  const std::lock_guard lock(write_mutex_);
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    SUNDOG_TRY(current, find(tenant, name));
    std::vector<store::Write> writes;
    for (const auto& [number, published] : current->versions) {
      writes.push_back({version_key(tenant, name, number), std::nullopt, store::kAnyRevision});
    }
    for (const auto& [alias, value] : current->aliases) {
      writes.push_back({alias_key(tenant, name, alias), std::nullopt, store::kAnyRevision});
    }
    if (current->next_version > 1) {
      writes.push_back({numbers_key(tenant, name), Json{{"next_version", current->next_version}}, store::kAnyRevision});
    }
    writes.push_back({function_key(tenant, name), std::nullopt, current->revision});
    const auto committed = catalog_.commit(writes);
    if (committed.ok()) {
      replace({tenant, name}, nullptr);
      return done;
    }
    if (committed.error().code != Code::conflict) return committed.error();
    reload({tenant, name});
  }
  return fail(Code::conflict, "Function " + name + " is being changed by others at the same time.", "Try again.");
}

Status StoredFunctions::remove_version(const std::string& tenant, const std::string& name,
                                       const std::string& qualifier) {
  const auto number = version_number(qualifier);
  if (!number) {
    return fail(Code::invalid_argument, "\"" + qualifier + "\" cannot be deleted as a version.",
                "Give a version's number; an alias is deleted with DeleteAlias.");
  }
  const auto changed_state =
      change(tenant, name, [&](FunctionState& state, std::vector<store::Write>& writes) -> Status {
        if (!state.versions.contains(*number)) return no_function(name, qualifier);
        for (const auto& [alias_name, alias] : state.aliases) {
          if (alias.version != qualifier && !alias.weights.contains(qualifier)) continue;
          return fail(Code::conflict,
                      "Version " + qualifier + " cannot be deleted: alias " + alias_name + " points at it.",
                      "Point the alias at another version, or delete it, first.");
        }
        state.versions.erase(*number);
        state.provisioned.erase(qualifier);
        writes.push_back({version_key(tenant, name, *number), std::nullopt, store::kAnyRevision});
        return done;
      });
  return changed_state.ok() ? Status(done) : Status(changed_state.error());
}

Status StoredFunctions::set_reserved_concurrency(const std::string& tenant, const std::string& name,
                                                 std::optional<int> limit) {
  if (limit) SUNDOG_CHECK(check_reserved_concurrency(*limit));
  SUNDOG_CHECK(change(tenant, name, [&](FunctionState& state, std::vector<store::Write>&) -> Status {
    state.reserved_concurrency = limit;
    return done;
  }));
  changed(tenant, name);
  return done;
}

void StoredFunctions::sweep() {
  std::set<std::string> named;
  const auto now = snapshot();
  for (const auto& [key, state] : now->functions) {
    named.insert(state->latest->code_blob);
    if (state->previous) named.insert(state->previous->code_blob);
    for (const auto& [number, published] : state->versions) named.insert(published.version->code_blob);
  }
  code_.sweep(named, kSweepGrace);
}

Status StoredFunctions::load() {
  auto loaded = std::make_shared<Snapshot>(*snapshot());
  const auto add = [&](const store::Record& record) -> Result<bool> {
    const std::string rest = record.key.substr(kFunctionsPrefix.size());
    const size_t slash = rest.find('/');
    if (slash == std::string::npos)
      return fail(Code::data_loss, "The record " + record.key + " has no function's key.");
    const Key key{rest.substr(0, slash), rest.substr(slash + 1)};
    auto state = load_function(catalog_, key.first, key.second, options_.folder);
    if (!state.ok()) {
      const auto& error = state.error();
      return fail(
          error.code, "The record of function \"" + rest + "\" cannot be read: " + error.message,
          error.hint.empty() ? "Put back the data folder's catalog from a backup; nothing was changed." : error.hint);
    }
    loaded->functions[key] = std::make_shared<const FunctionState>(*std::move(state));
    return true;
  };
  SUNDOG_CHECK(store::each_record(catalog_, kFunctionsPrefix, add));
  {
    const std::lock_guard lock(snapshot_mutex_);
    snapshot_ = loaded;
  }
  restore_code();
  std::set<std::string> environments;
  for (const auto& [key, state] : loaded->functions) {
    environments.insert(state->latest->config.environment_id);
    for (const auto& [number, published] : state->versions) {
      environments.insert(published.version->config.environment_id);
    }
  }
  environments.erase("");
  for (const auto& id : environments) settle(id);
  sweep();
  return done;
}

Result<std::unique_ptr<Functions>> open_functions(store::Catalog& catalog, store::Blobs& blobs,
                                                  Environments& environments, Clock& clock,
                                                  Functions::Options options) {
  auto functions = std::make_unique<StoredFunctions>(catalog, blobs, environments, clock, std::move(options));
  SUNDOG_CHECK(functions->load());
  return std::unique_ptr<Functions>(std::move(functions));
}

}  // namespace sundog::functions
