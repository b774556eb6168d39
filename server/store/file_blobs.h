// The embedded Blobs: one file an object, in two levels of folders. docs/formats/store.md says how they lie.
//
// Ownership   as blobs.h.
// Threads     as blobs.h. Two threads (or processes) may put the same content at once.
// Durability  as blobs.h: the content is fsynced before it gets its name, and the folders that lead to it before put()
// returns. Failure     as blobs.h. A failed put() leaves nothing that is seen; a file of a dead run that was not yet in
// its place is
//             removed at open.
#pragma once

#include <memory>

#include "base/file.h"
#include "store/blobs.h"
#include "store/disk.h"

namespace sundog::store {

// Creates the folder when absent. `disk` is the operating system's unless a test passes another.
Result<std::unique_ptr<Blobs>> open_file_blobs(const Path& folder, std::unique_ptr<Disk> disk = nullptr);

}  // namespace sundog::store
