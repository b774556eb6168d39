#include "api/keys.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "base/crypto.h"
#include "store/each_record.h"

namespace sundog::api {
namespace {

constexpr std::string_view kPrefix = "keys/";
constexpr std::string_view kKeyFile = "secret.key";
constexpr std::string_view kClientFile = "client.json";
constexpr int64_t kWriteEveryMs = 60'000;
constexpr std::string_view kOneUser =
    "runs without root, so that all functions run as one user of the machine and only one tenant can be served.";

std::string catalog_key(std::string_view tenant, std::string_view id) {
  return std::string(kPrefix) + std::string(tenant) + "/" + std::string(id);
}

std::string make_id() {
  constexpr std::string_view kBase32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  std::string id = "AKSD";
  for (const char c : random_bytes(16)) id += kBase32[static_cast<unsigned char>(c) % kBase32.size()];
  return id;
}

std::string make_token() {
  auto text = base64(random_bytes(32));
  std::erase(text, '=');
  std::ranges::replace(text, '+', '-');
  std::ranges::replace(text, '/', '_');
  return "sk-" + text;
}

bool is_name(std::string_view text) {
  constexpr std::string_view kMarks = "._-";
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); };
  return !text.empty() && text.size() <= 64 && letter(text.front()) &&
         std::ranges::all_of(text, [&](char c) { return letter(c) || kMarks.find(c) != std::string_view::npos; });
}

Error no_such_key(const std::string& id) {
  return fail(Code::not_found, "There is no key \"" + id + "\".", "sundog keys list shows those that exist.");
}

}  // namespace

// Never changes but for `last_used`: a change of the key is another Entry.
struct Keys::Entry {
  Key key;
  std::string token_hash;  // 32 raw bytes
  std::string secret;
  store::Revision revision = store::kAbsent;
  Json record;
  std::atomic<int64_t> last_used{0};  // ms since 1970
  std::atomic<bool> unwritten{false};
};

Json to_json(const Key& key) {
  return {{"id", key.id},
          {"tenant", key.tenant},
          {"name", key.name},
          {"role", std::string(name(key.role))},
          {"created", iso_time(key.created)},
          {"last_used", key.last_used ? Json(iso_time(*key.last_used)) : Json()},
          {"revoked", key.revoked}};
}

Json to_json(const NewKey& key) {
  auto json = to_json(key.key);
  json["token"] = key.token;
  json["secret"] = key.secret;
  return json;
}

Keys::Keys(store::Catalog& catalog, Clock& clock, Path data_folder, Tenancy tenancy)
    : catalog_(catalog), clock_(clock), data_folder_(std::move(data_folder)), tenancy_(tenancy) {}

Keys::~Keys() = default;

Result<std::unique_ptr<Keys>> Keys::open(store::Catalog& catalog, Clock& clock, Path data_folder, Tenancy tenancy) {
  std::unique_ptr<Keys> keys(new Keys(catalog, clock, std::move(data_folder), tenancy));
  SUNDOG_CHECK(keys->load_key_file());
  // Watching begins before loading: a change between the two is seen, and one seen twice is the same.
  keys->watch_ = catalog.watch(std::string(kPrefix), [keys = keys.get()](const store::Record& record, bool removed) {
    if (removed) return keys->forget(record.key);
    if (auto entry = keys->entry_from(record); entry.ok()) keys->apply(*entry);
  });
  SUNDOG_CHECK(keys->load_all());
  SUNDOG_CHECK(keys->check_tenancy());
  return keys;
}

Status Keys::check_tenancy() const {
  if (tenancy_ == Tenancy::many) return done;
  std::set<std::string> tenants;
  for (const auto& key : list("")) {
    if (!key.revoked) tenants.insert(key.tenant);
  }
  if (tenants.size() <= 1) return done;
  return fail(Code::conflict,
              "The data folder holds keys of " + std::to_string(tenants.size()) + " tenants, but this server " +
                  std::string(kOneUser),
              "Start it as root, or revoke the keys of all tenants but one there.");
}

Status Keys::load_key_file() {
  const auto path = data_folder_ / kKeyFile;
  struct stat info{};
  if (::stat(path.c_str(), &info) == 0) {
    if ((info.st_mode & 077) != 0) {
      return fail(Code::permission_denied, "Others may read the key file " + path.string() + ".",
                  "Run: chmod 600 " + path.string());
    }
    SUNDOG_TRY(content, read_file(path, 4096));
    if (content.size() != 32) {
      return fail(Code::data_loss,
                  "The key file " + path.string() + " has " + std::to_string(content.size()) + " bytes, not 32.",
                  "Put back the file that belongs to this data folder.");
    }
    sealing_key_ = std::move(content);
    return done;
  }
  if (errno != ENOENT) return fail_errno("read the key file " + path.string(), errno);
  SUNDOG_TRY(existing, catalog_.scan(kPrefix, {}, 1));
  if (!existing.empty()) {
    return fail(Code::data_loss, "The key file " + path.string() + " is missing, but keys were sealed with it.",
                "Put back the file that belongs to this data folder.");
  }
  sealing_key_ = random_bytes(32);
  return write_file_durably(path, sealing_key_, 0600);
}

Status Keys::load_all() {
  return store::each_record(catalog_, kPrefix, [&](const store::Record& record) -> Result<bool> {
    SUNDOG_TRY(entry, entry_from(record));
    apply(entry);
    return true;
  });
}

Result<Keys::EntryPtr> Keys::entry_from(const store::Record& record) const {
  auto entry = std::make_shared<Entry>();
  const auto& value = record.value;
  SUNDOG_TRY(id, get_string(value, "id"));
  SUNDOG_TRY(tenant, get_string(value, "tenant"));
  SUNDOG_TRY(label, get_string(value, "name", ""));
  SUNDOG_TRY(role_name, get_string(value, "role"));
  SUNDOG_TRY(role, role_from(role_name));
  SUNDOG_TRY(created, get_int(value, "created_ms"));
  SUNDOG_TRY(last_used, get_int(value, "last_used_ms", 0));
  SUNDOG_TRY(revoked, get_bool(value, "revoked", false));
  SUNDOG_TRY(hash_text, get_string(value, "token_sha256"));
  SUNDOG_TRY(hash, from_base64(hash_text));
  SUNDOG_TRY(sealed_text, get_string(value, "sealed_secret"));
  SUNDOG_TRY(sealed, from_base64(sealed_text));
  auto secret = open_sealed(sealing_key_, sealed);
  if (!secret.ok()) {
    return fail(Code::data_loss, "The secret of key " + id + " was not sealed with this folder's secret.key.",
                "Put back the file that belongs to this data folder.");
  }
  entry->key = {.id = std::move(id),
                .tenant = std::move(tenant),
                .name = std::move(label),
                .role = role,
                .created = from_epoch_millis(created),
                .last_used = std::nullopt,
                .revoked = revoked};
  entry->token_hash = std::move(hash);
  entry->secret = std::move(*secret);
  entry->revision = record.revision;
  entry->record = value;
  entry->last_used = last_used;
  return entry;
}

void Keys::apply(const EntryPtr& entry) {
  const std::lock_guard lock(mutex_);
  auto& known = by_id_[entry->key.id];
  if (known) {
    if (known->revision >= entry->revision) return;  // a watch that tells late
    // What was noted and not written yet survives the change.
    if (known->last_used > entry->last_used) {
      entry->last_used = known->last_used.load();
      entry->unwritten = known->unwritten.load();
    }
  }
  known = entry;
  by_token_hash_[entry->token_hash] = entry;
}

void Keys::forget(const std::string& catalog_key) {
  const std::lock_guard lock(mutex_);
  const auto found = by_id_.find(catalog_key.substr(catalog_key.rfind('/') + 1));
  if (found == by_id_.end()) return;
  by_token_hash_.erase(found->second->token_hash);
  by_id_.erase(found);
}

Keys::EntryPtr Keys::find(std::string_view id) const {
  const std::lock_guard lock(mutex_);
  const auto found = by_id_.find(std::string(id));
  return found == by_id_.end() ? nullptr : found->second;
}

Status check_tenant_name(std::string_view tenant) {
  if (is_name(tenant)) return done;
  return fail(Code::invalid_argument, "\"" + std::string(tenant.substr(0, 80)) + "\" is not a tenant's name.",
              "Use letters, digits, '.', '_' and '-', at most 64, beginning with a letter or digit.");
}

Result<NewKey> Keys::create(const std::string& tenant, const std::string& label, Role role) {
  SUNDOG_CHECK(check_tenant_name(tenant));
  if (tenancy_ == Tenancy::one && tenant != kDefaultTenant) {
    return fail(Code::conflict,
                "A key for tenant \"" + tenant + "\" cannot be made: this server " + std::string(kOneUser),
                "Start it as root to serve several tenants.");
  }
  if (label.size() > 256) {
    return fail(Code::invalid_argument,
                "The key's name has " + std::to_string(label.size()) + " bytes; 256 is the limit.");
  }
  const std::lock_guard one_at_a_time(writing_);
  NewKey made;
  made.key = {.id = make_id(),
              .tenant = tenant,
              .name = label,
              .role = role,
              .created = from_epoch_millis(epoch_millis(clock_.wall())),
              .last_used = std::nullopt,
              .revoked = false};
  made.token = make_token();
  made.secret = base64(random_bytes(30));
  store::Record record;
  record.key = catalog_key(tenant, made.key.id);
  record.value = {{"id", made.key.id},
                  {"tenant", tenant},
                  {"name", label},
                  {"role", std::string(api::name(role))},
                  {"created_ms", epoch_millis(made.key.created)},
                  {"revoked", false},
                  {"token_sha256", base64(sha256(made.token))},
                  {"sealed_secret", base64(seal(sealing_key_, made.secret))}};
  SUNDOG_TRY(revision, catalog_.put(record.key, record.value, store::kAbsent));
  record.revision = revision;
  SUNDOG_TRY(entry, entry_from(record));
  apply(entry);
  return made;
}

std::vector<Keys::EntryPtr> Keys::entries_of(std::string_view tenant) const {
  std::vector<EntryPtr> entries;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, entry] : by_id_) {
      if (tenant.empty() || entry->key.tenant == tenant) entries.push_back(entry);
    }
  }
  std::ranges::sort(entries, [](const EntryPtr& a, const EntryPtr& b) {
    return std::tie(a->key.created, a->key.id) < std::tie(b->key.created, b->key.id);
  });
  return entries;
}

Key Keys::shown(const Entry& entry) {
  Key key = entry.key;
  if (const int64_t used = entry.last_used; used > 0) key.last_used = from_epoch_millis(used);
  return key;
}

std::vector<Key> Keys::list(std::string_view tenant) const {
  std::vector<Key> keys;
  for (const auto& entry : entries_of(tenant)) keys.push_back(shown(*entry));
  return keys;
}

Result<Keys::Page> Keys::page(std::string_view tenant, const std::string& after, size_t limit) const {
  const auto entries = entries_of(tenant);
  auto at = entries.begin();
  if (!after.empty()) {
    at = std::ranges::find_if(entries, [&](const EntryPtr& entry) { return entry->key.id == after; });
    if (at == entries.end()) {
      return fail(Code::invalid_argument, "after is \"" + after + "\", which is no key's id.",
                  "It is the \"next\" of the page before.");
    }
    ++at;
  }
  Page page;
  for (; at != entries.end() && page.items.size() < limit; ++at) page.items.push_back(shown(**at));
  if (at != entries.end()) page.next = page.items.back().id;
  return page;
}

Status Keys::revoke(const std::string& tenant, const std::string& id) {
  const std::lock_guard one_at_a_time(writing_);
  const auto entry = find(id);
  if (!entry || (!tenant.empty() && entry->key.tenant != tenant)) return no_such_key(id);
  if (entry->key.revoked) return done;
  if (entry->key.role == Role::admin) {
    const auto keys = list(entry->key.tenant);
    const auto admins = std::ranges::count_if(keys, [](const Key& k) { return !k.revoked && k.role == Role::admin; });
    if (admins == 1) {
      return fail(Code::conflict, "Key " + id + " is the last admin key of tenant \"" + entry->key.tenant + "\".",
                  "Make another first: sundog keys create --role admin.");
    }
  }
  store::Record record{.key = catalog_key(entry->key.tenant, id), .value = entry->record};
  record.value["revoked"] = true;
  SUNDOG_TRY(revision, catalog_.put(record.key, record.value));
  record.revision = revision;
  SUNDOG_TRY(changed, entry_from(record));
  apply(changed);
  return done;
}

Result<Json> Keys::ensure_first_key(const std::string& url) {
  const auto path = data_folder_ / kClientFile;
  if (list({}).empty()) {
    SUNDOG_TRY(made, create(std::string(kDefaultTenant), "first key", Role::admin));
    const Json client = {{"id", made.key.id}, {"token", made.token}, {"secret", made.secret}, {"url", url}};
    SUNDOG_CHECK(write_file_durably(path, dump(client) + "\n", 0600));
    return client;
  }
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return Json();
  SUNDOG_TRY(text, read_file(path, 1 << 16));
  SUNDOG_TRY(client, parse_json(text, path.string()));
  if (!client.is_object()) return Json();
  if (client.value("url", Json()) != url) {
    client["url"] = url;
    SUNDOG_CHECK(write_file_durably(path, dump(client) + "\n", 0600));
  }
  return client;
}

std::optional<Principal> Keys::by_token(std::string_view token) const {
  if (!token.starts_with("sk-") || token.size() > 128) return std::nullopt;
  const auto hash = sha256(token);
  const std::lock_guard lock(mutex_);
  const auto found = by_token_hash_.find(hash);
  if (found == by_token_hash_.end() || found->second->key.revoked) return std::nullopt;
  const auto& key = found->second->key;
  return Principal{key.tenant, key.id, key.role};
}

std::optional<Keys::Signer> Keys::by_id(std::string_view id) const {
  const auto entry = find(id);
  if (!entry || entry->key.revoked) return std::nullopt;
  return Signer{{entry->key.tenant, entry->key.id, entry->key.role}, entry->secret};
}

bool Keys::used(std::string_view id) {
  const auto entry = find(id);
  if (!entry) return false;
  const int64_t now = epoch_millis(clock_.wall());
  entry->last_used = now;
  entry->unwritten = true;
  int64_t before = last_written_;
  return now - before >= kWriteEveryMs && last_written_.compare_exchange_strong(before, now);
}

Status Keys::write_last_used() {
  const std::lock_guard one_at_a_time(writing_);
  std::vector<EntryPtr> entries;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, entry] : by_id_) {
      if (entry->unwritten.exchange(false)) entries.push_back(entry);
    }
  }
  for (const auto& entry : entries) {
    store::Record record{.key = catalog_key(entry->key.tenant, entry->key.id), .value = entry->record};
    record.value["last_used_ms"] = entry->last_used.load();
    // A key that changed meanwhile (another node revoked it) is left as it is.
    auto revision = catalog_.put(record.key, record.value, entry->revision);
    if (!revision.ok()) {
      if (revision.error().code == Code::conflict) continue;
      return std::move(revision).error();
    }
    record.revision = *revision;
    SUNDOG_TRY(changed, entry_from(record));
    apply(changed);
  }
  return done;
}

}  // namespace sundog::api
