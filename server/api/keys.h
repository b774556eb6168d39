// Keys: API keys: who they belong to, what they prove, what they may do.
//
// Ownership   one per server, opened in app/ over the Catalog and the data folder.
// Threads     by_token(), by_id() and used() on any thread, memory only; the rest blocks on the disk: pool threads.
// Durability  create() and revoke() returned ok  =>  it holds after kill -9. last_used may be a minute old.
// Secrets     a token is kept as its SHA-256; the secret that Signature V4 needs is sealed under <data>/secret.key,
// which only the
//             server's user may read.
// Failure     permission_denied (the key file is readable by others) · data_loss (it is not the one the secrets were
// sealed with)
//             · not_found · conflict (the last admin key; a second tenant where only one can be served)
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "api/router.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/result.h"
#include "store/catalog.h"

namespace sundog::api {

struct Key {
  std::string id;  // "AKSD" and 16 upper-case letters or digits
  std::string tenant, name;
  Role role = Role::viewer;
  WallTime created{};
  std::optional<WallTime> last_used;
  bool revoked = false;
};
Json to_json(const Key& key);

// Shown once, when the key is made.
struct NewKey {
  Key key;
  std::string token;   // "sk-…"
  std::string secret;  // for Signature V4
};
Json to_json(const NewKey& key);

// What makes the operator's first key, and may make keys for every tenant.
inline constexpr std::string_view kDefaultTenant = "default";
Status check_tenant_name(std::string_view tenant);

// Whether a machine keeps the functions of several tenants apart: without root all run as one user.
enum class Tenancy { one, many };

class Keys {
 public:
  static Result<std::unique_ptr<Keys>> open(store::Catalog& catalog, Clock& clock, Path data_folder,
                                            Tenancy tenancy = Tenancy::many);
  ~Keys();
  Keys(const Keys&) = delete;
  Keys& operator=(const Keys&) = delete;

  Result<NewKey> create(const std::string& tenant, const std::string& name, Role role);
  std::vector<Key> list(std::string_view tenant) const;  // "" for all tenants; by creation
  // At most `limit` (1 or more) of them, behind the key `after`; invalid_argument if that is none of the tenant's.
  struct Page {
    std::vector<Key> items;
    std::string next;
  };
  Result<Page> page(std::string_view tenant, const std::string& after, size_t limit) const;
  Status revoke(const std::string& tenant, const std::string& id);

  // On the first start makes an admin key and writes {"id","token","secret","url"} to <data>/client.json, mode 0600;
  // later only keeps its "url" right. Gives that file's content, or null if there is none.
  Result<Json> ensure_first_key(const std::string& url);

  // nullopt: unknown or revoked.
  std::optional<Principal> by_token(std::string_view token) const;
  struct Signer {
    Principal principal;
    std::string secret;
  };
  std::optional<Signer> by_id(std::string_view id) const;

  // Notes the use; true if it is time (once a minute) to call write_last_used() on a pool thread.
  bool used(std::string_view id);
  Status write_last_used();

 private:
  struct Entry;
  using EntryPtr = std::shared_ptr<Entry>;

  Keys(store::Catalog& catalog, Clock& clock, Path data_folder, Tenancy tenancy);
  Status load_key_file();
  Status load_all();
  Status check_tenancy() const;
  Result<EntryPtr> entry_from(const store::Record& record) const;
  void apply(const EntryPtr& entry);
  void forget(const std::string& catalog_key);
  EntryPtr find(std::string_view id) const;
  std::vector<EntryPtr> entries_of(std::string_view tenant) const;  // as list()
  static Key shown(const Entry& entry);

  store::Catalog& catalog_;
  Clock& clock_;
  const Path data_folder_;
  const Tenancy tenancy_;
  std::string sealing_key_;
  std::mutex writing_;  // one create, revoke or write_last_used at a time
  mutable std::mutex mutex_;
  std::unordered_map<std::string, EntryPtr> by_id_;          // guarded by mutex_
  std::unordered_map<std::string, EntryPtr> by_token_hash_;  // guarded by mutex_
  std::atomic<int64_t> last_written_{0};
  store::Catalog::Token watch_;  // last: ends first
};

}  // namespace sundog::api
