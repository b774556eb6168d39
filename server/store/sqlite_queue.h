// The embedded Queue: one SQLite file in WAL mode, commits grouped. docs/formats/store.md says what is in it.
//
// Ownership   as queue.h; destroy it after every caller. The destructor commits what was handed over. Tokens may
// outlive it. Threads     as queue.h. One writer thread takes everything pending and commits it as one transaction;
// callbacks of
//             append_async() and notify() come on one other thread, and may call the queue.
// Attempts    counted durably before pull() returns: a crash in between skips a number and never repeats one, so that a
//             message that kills the server is not delivered for ever.
// Order       a pull gives what became due first, then by id. Delays run on the monotonic clock while the process
// lives. Failure     as queue.h; resource_exhausted when more waits for the disk than Options allow. All operations of
// one
//             failed transaction fail alike, and none of them happened.
#pragma once

#include <memory>

#include "base/clock.h"
#include "base/file.h"
#include "store/queue.h"
#include "store/sqlite.h"

namespace sundog::store {

struct SqliteQueueOptions {
  SqliteOptions sqlite;
  size_t pending_bytes_limit = 64 << 20;  // bodies handed over and not yet on disk
  size_t pending_count_limit = 100'000;   // operations, likewise
  size_t batch_count_limit = 4096;        // operations in one transaction
  size_t batch_bytes_limit = 32 << 20;
};

inline constexpr size_t kMaxMessageBytes = 8 << 20;

// Creates the file and its folder when absent.
Result<std::unique_ptr<Queue>> open_sqlite_queue(const Path& file, Clock& clock,
                                                 const SqliteQueueOptions& options = {});

}  // namespace sundog::store
