// Functions: deploys, versions and aliases; owns their records in the Catalog and their code folders.
//
// Ownership   one per server, created in app/.
// Threads     every function may be called from any thread and may block, but resolve(), which is a lookup in memory
// and
//             may be called on the loop thread.
// Failure     Lambda's: not_found · conflict · invalid_argument · too_large · resource_exhausted
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "functions/environments.h"
#include "functions/function.h"
#include "store/blobs.h"
#include "store/catalog.h"

namespace sundog::functions {

// The message of a conflict that is about a revision id that is no longer the latest (412 in Lambda's API).
inline constexpr std::string_view kStaleRevision =
    "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the "
    "latest Revision Id";

// What an invocation needs to know, from one consistent moment.
struct Resolved {
  VersionPtr version;                       // the one that this call runs (weights applied)
  std::optional<int> reserved_concurrency;  // of the whole function
};

// So many instances of what a qualifier names are kept ready.
struct Provisioned {
  std::string qualifier;  // a version's number or an alias
  int count = 0;
  WallTime last_modified{};
  VersionPtr version;  // that it names now
};

// How the init of a version went when it ran last.
struct InitReport {
  std::optional<sandbox::InitFailure> failure;  // shown as State::failed with the reason; none: active
  // Why what it left behind does not survive a fork, if it does not: Version::start_reason. Not known after a failure.
  std::string start_reason;
};

template <class T>
struct Page {
  std::vector<T> items;
  std::string next;  // "" at the end
};

class Functions {
 public:
  struct Options {
    Path folder;                         // extracted code lives below
    int64_t zip_limit = 50 << 20;        // Lambda: 50 MB zipped (direct upload)
    int64_t unzipped_limit = 250 << 20;  // Lambda: 250 MB
  };
  virtual ~Functions() = default;

  // Code comes as the bytes of a zip. Returns at once: pending while its environment is being built, else active.
  virtual Result<Version> create(const std::string& tenant, Config config, std::string zip, bool publish) = 0;
  virtual Result<Version> update_code(const std::string& tenant, const std::string& name, std::string zip, bool publish,
                                      const std::string& revision_id, bool dry_run) = 0;
  // `change` edits a copy of the current config and says what is wrong with it, if anything.
  virtual Result<Version> update_config(const std::string& tenant, const std::string& name,
                                        const std::string& revision_id, std::function<Status(Config&)> change) = 0;
  virtual Status remove(const std::string& tenant, const std::string& name, const std::string& qualifier) = 0;
  virtual Result<Version> get(const std::string& tenant, const std::string& name,
                              const std::string& qualifier) const = 0;
  virtual Result<Page<Version>> list(const std::string& tenant, const std::string& after, int limit) const = 0;
  virtual Result<Version> publish(const std::string& tenant, const std::string& name, const std::string& code_sha256,
                                  const std::string& description, const std::string& revision_id) = 0;
  virtual Result<Page<Version>> versions(const std::string& tenant, const std::string& name, const std::string& after,
                                         int limit) const = 0;

  virtual Result<Alias> create_alias(const std::string& tenant, const std::string& function, Alias alias) = 0;
  virtual Result<Alias> update_alias(const std::string& tenant, const std::string& function, const Alias& alias,
                                     const std::string& revision_id) = 0;
  virtual Result<Alias> get_alias(const std::string& tenant, const std::string& function,
                                  const std::string& alias) const = 0;
  virtual Status remove_alias(const std::string& tenant, const std::string& function, const std::string& alias) = 0;
  virtual Result<Page<Alias>> aliases(const std::string& tenant, const std::string& function,
                                      const std::string& version, const std::string& after, int limit) const = 0;

  virtual Status set_reserved_concurrency(const std::string& tenant, const std::string& name,
                                          std::optional<int> limit) = 0;

  // nullopt: none any more. A published version or an alias; conflict if its version has some by another name.
  virtual Status set_provisioned(const std::string& tenant, const std::string& name, const std::string& qualifier,
                                 std::optional<int> count) = 0;
  // Any thread; memory only. An empty name: of all functions of all tenants.
  virtual std::vector<Provisioned> provisioned(const std::string& tenant, const std::string& name) const = 0;

  // Loop thread or any other; memory only. `qualifier`: "" ($LATEST), a version or an alias; `dice` in [0,1) decides
  // between the versions of a weighted alias.
  virtual Result<Resolved> resolve(const std::string& tenant, const std::string& name, const std::string& qualifier,
                                   double dice) const = 0;

  // Sundog's own native functions (data work), which no tenant deploys and all may run; held in memory.
  virtual void add_builtin(Version version) = 0;

  // Called after a version changed, was removed or became active, so that what runs the old one can end. Any thread.
  virtual void on_change(std::function<void(const std::string& tenant, const std::string& name)> callback) = 0;
  // Called after on_change's callbacks, once a version can run that could not before: it was created, changed or
  // published, and its environment is built. What was deployed before this process began is not told. Any thread.
  virtual void on_deploy(std::function<void(const VersionPtr& version)> callback) = 0;
  // invoke/ reports what it saw of a version's init; kept, and shown until it is reported otherwise.
  virtual void report_init(const Version& version, const InitReport& report) = 0;
};

// "NAME", "NAME:QUALIFIER", an ARN or a partial ARN → name and qualifier.
struct FunctionName {
  std::string name, qualifier;
};
Result<FunctionName> parse_function_name(const std::string& text);

// Refused if a record cannot be read: what was acknowledged does not silently disappear.
Result<std::unique_ptr<Functions>> open_functions(store::Catalog& catalog, store::Blobs& blobs,
                                                  Environments& environments, Clock& clock, Functions::Options options);

}  // namespace sundog::functions
