// DataFolder: the layout of a server's folder, its version, and the lock that keeps a second server out.
//
// Ownership   one per server, created first, destroyed last.
// Threads     paths are constants; open() on the main thread.
// Failure     conflict (another server holds it) · unsupported (made by a newer Sundog) · unavailable (disk)
#pragma once

#include <memory>

#include "base/fd.h"
#include "base/file.h"
#include "base/result.h"

namespace sundog::app {

class DataFolder {
 public:
  // Creates the folder (0700) if need be, checks its version, takes the lock.
  static Result<DataFolder> open(const Path& folder);

  Path catalog() const { return folder_ / "catalog.sqlite"; }
  Path queue() const { return folder_ / "queue.sqlite"; }
  Path blobs() const { return folder_ / "blobs"; }
  Path code() const { return folder_ / "code"; }
  Path environments() const { return folder_ / "environments"; }
  Path ledger() const { return folder_ / "ledger"; }
  Path logs() const { return folder_ / "logs"; }
  Path key_file() const { return folder_ / "key"; }
  Path client_file() const { return folder_ / "client.json"; }
  Path price_plan() const { return folder_ / "price-plan.json"; }
  const Path& path() const { return folder_; }

 private:
  Path folder_;
  UniqueFd lock_;
};

}  // namespace sundog::app
