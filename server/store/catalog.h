// Catalog: typed records by key: compare-and-swap on revision, prefix scan, watch. Strongly consistent.
//
// Ownership   one Catalog per server, created in app/, passed by reference; outlives every caller.
// Threads     every function may be called from any thread and may block on the disk: never call it on the loop thread.
// Durability  put/remove/commit returned ok  =>  the change survives kill -9 and power loss.
// Failure     unavailable (disk full, store unreachable) · not_found · conflict (revision differs) · already_exists
// Keys        "functions/<tenant>/<name>": segments joined by '/', at most 1,024 bytes. Values: JSON text, at most 1
// MB.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace sundog::store {

using Revision = int64_t;                     // grows with every change of the whole catalog; 0 is "does not exist"
inline constexpr Revision kAbsent = 0;        // expect: the key must not exist
inline constexpr Revision kAnyRevision = -1;  // expect: whatever is there

struct Record {
  std::string key;
  Json value;
  Revision revision = kAbsent;
};

struct Write {
  std::string key;
  std::optional<Json> value;  // nullopt removes
  Revision expected = kAnyRevision;
};

class Catalog {
 public:
  virtual ~Catalog() = default;

  virtual Result<Record> get(std::string_view key) const = 0;
  // Records whose key begins with `prefix` and is > `after`, in key order, at most `limit`.
  virtual Result<std::vector<Record>> scan(std::string_view prefix, std::string_view after = {},
                                           size_t limit = 1000) const = 0;
  // All of `writes` or none. conflict/already_exists names the key whose revision was not as expected.
  virtual Result<Revision> commit(const std::vector<Write>& writes) = 0;

  Result<Revision> put(std::string key, Json value, Revision expected = kAnyRevision) {
    return commit({Write{std::move(key), std::move(value), expected}});
  }
  Result<Revision> remove(std::string key, Revision expected = kAnyRevision) {
    return commit({Write{std::move(key), std::nullopt, expected}});
  }

  // Calls `on_change` (from a thread of the catalog's, in order of revision) for each later change under `prefix`.
  // Dropping the returned token ends the watch; no call happens after the drop returns.
  using Token = std::shared_ptr<void>;
  virtual Token watch(std::string prefix, std::function<void(const Record&, bool removed)> on_change) = 0;
};

}  // namespace sundog::store
