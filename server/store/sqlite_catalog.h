// The embedded Catalog: one SQLite file in WAL mode. docs/formats/store.md says what is in it.
//
// Ownership   as catalog.h; destroy it after every caller. Watch tokens may outlive it.
// Threads     as catalog.h. One connection writes, two read; watch callbacks come on one thread of its own. A callback
// may
//             call the catalog and may drop its own token; dropping a token waits for its callback.
// Failure     as catalog.h, and at open: data_loss (not a database), unsupported (newer schema, other content).
#pragma once

#include <memory>

#include "base/file.h"
#include "store/catalog.h"
#include "store/sqlite.h"

namespace sundog::store {

// Creates the file and its folder when absent.
Result<std::unique_ptr<Catalog>> open_sqlite_catalog(const Path& file, const SqliteOptions& options = {});

}  // namespace sundog::store
