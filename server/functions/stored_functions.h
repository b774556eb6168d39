// StoredFunctions: Functions over a Catalog. Writers take turns and go through compare-and-swap; readers see a
// snapshot.
//
// Threads     as Functions. `write_mutex_` is held over a commit; `snapshot_mutex_` only to copy a pointer.
// Split       functions.cc: opening, creating, updating, deleting · versions.cc: publishing, states, reading ·
//             aliases.cc: aliases
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "functions/code_store.h"
#include "functions/functions.h"
#include "functions/records.h"

namespace sundog::functions {

class StoredFunctions final : public Functions {
 public:
  StoredFunctions(store::Catalog& catalog, store::Blobs& blobs, Environments& environments, Clock& clock,
                  Options options);
  ~StoredFunctions() override;
  StoredFunctions(const StoredFunctions&) = delete;
  StoredFunctions& operator=(const StoredFunctions&) = delete;

  Result<Version> create(const std::string& tenant, Config config, std::string zip, bool publish) override;
  Result<Version> update_code(const std::string& tenant, const std::string& name, std::string zip, bool publish,
                              const std::string& revision_id, bool dry_run) override;
  Result<Version> update_config(const std::string& tenant, const std::string& name, const std::string& revision_id,
                                std::function<Status(Config&)> change) override;
  Status remove(const std::string& tenant, const std::string& name, const std::string& qualifier) override;
  Result<Version> get(const std::string& tenant, const std::string& name, const std::string& qualifier) const override;
  Result<Page<Version>> list(const std::string& tenant, const std::string& after, int limit) const override;
  Result<Version> publish(const std::string& tenant, const std::string& name, const std::string& code_sha256,
                          const std::string& description, const std::string& revision_id) override;
  Result<Page<Version>> versions(const std::string& tenant, const std::string& name, const std::string& after,
                                 int limit) const override;
  Result<Alias> create_alias(const std::string& tenant, const std::string& function, Alias alias) override;
  Result<Alias> update_alias(const std::string& tenant, const std::string& function, const Alias& alias,
                             const std::string& revision_id) override;
  Result<Alias> get_alias(const std::string& tenant, const std::string& function,
                          const std::string& alias) const override;
  Status remove_alias(const std::string& tenant, const std::string& function, const std::string& alias) override;
  Result<Page<Alias>> aliases(const std::string& tenant, const std::string& function, const std::string& version,
                              const std::string& after, int limit) const override;
  Status set_reserved_concurrency(const std::string& tenant, const std::string& name,
                                  std::optional<int> limit) override;
  Status set_provisioned(const std::string& tenant, const std::string& name, const std::string& qualifier,
                         std::optional<int> count) override;
  std::vector<Provisioned> provisioned(const std::string& tenant, const std::string& name) const override;
  Result<Resolved> resolve(const std::string& tenant, const std::string& name, const std::string& qualifier,
                           double dice) const override;
  void add_builtin(Version version) override;
  void on_change(std::function<void(const std::string& tenant, const std::string& name)> callback) override;
  void on_deploy(std::function<void(const VersionPtr& version)> callback) override;
  void report_init(const Version& version, const InitReport& report) override;

  // Reads every record, extracts what code is missing, and settles what waits for an environment.
  Status load();

 private:
  using Key = std::pair<std::string, std::string>;  // tenant, name
  struct Snapshot {
    std::map<Key, FunctionStatePtr> functions;
    std::map<std::string, VersionPtr> builtins;
  };
  using Edit = std::function<Status(FunctionState&, std::vector<store::Write>&)>;

  std::shared_ptr<const Snapshot> snapshot() const;
  Result<FunctionStatePtr> find(const std::string& tenant, const std::string& name) const;
  void replace(const Key& key, FunctionStatePtr state);  // null removes
  void reload(const Key& key);
  struct Change {
    FunctionStatePtr before, now;  // before: null if there was no such function
  };
  // Edits a copy of the function's state and commits it with what the edit writes; again if another writer came first.
  Result<Change> change(const std::string& tenant, const std::string& name, const Edit& edit);
  void changed(const std::string& tenant, const std::string& name);
  // Tells of the versions that can run now and could not before.
  void deployed(const Change& change);

  Result<Version> first_version(const std::string& tenant, Config config, const std::string& zip) const;
  Result<int64_t> next_number(const std::string& tenant, const std::string& name) const;
  Status remove_whole(const std::string& tenant, const std::string& name);
  Status remove_version(const std::string& tenant, const std::string& name, const std::string& qualifier);
  Status check_zip_size(const std::string& zip) const;
  Status check_environment(const Config& config) const;

  struct Readiness {
    State state = State::active;
    std::string reason, code;
  };
  Readiness readiness(const Config& config) const;
  // Puts `next` in place of $LATEST, with the states that Lambda shows.
  void install(FunctionState& state, Version next) const;
  Version publish_latest(FunctionState& state, std::vector<store::Write>& writes, std::string description) const;
  void settle(const std::string& environment_id);
  bool settle_state(FunctionState& state, const std::string& environment_id, std::vector<store::Write>& writes) const;
  void restore_code();
  void sweep();

  store::Catalog& catalog_;
  store::Blobs& blobs_;
  Environments& environments_;
  Clock& clock_;
  Options options_;
  CodeStore code_;

  std::mutex write_mutex_;
  mutable std::mutex snapshot_mutex_;
  std::shared_ptr<const Snapshot> snapshot_ = std::make_shared<Snapshot>();
  std::mutex callbacks_mutex_;
  std::vector<std::function<void(const std::string&, const std::string&)>> callbacks_;
  std::vector<std::function<void(const VersionPtr&)>> deploy_callbacks_;

  // Environments may outlive this and still report a build.
  struct Lifeline {
    std::mutex mutex;
    StoredFunctions* self = nullptr;
  };
  std::shared_ptr<Lifeline> lifeline_ = std::make_shared<Lifeline>();
};

// Lambda's words for what is not there and for what may not be done now.
Error no_function(const std::string& name, const std::string& qualifier);
Error stale_revision();
Status check_settled(const FunctionState& state);

}  // namespace sundog::functions
