// Tasks: what the function "sundog-data" does. Each is a pure step from blobs to blobs, so that doing it twice is
// harmless.
//
//   ingest      a file as it was uploaded → typed Parquet shards and a quarantine
//   profile     the shards of a version → the Profile of protocol/api.md
//   index       one shard and the rules → what each row is (kept, dropped, its class, its hash), for the server's plan
//   statistics  one shard and the plan → what fills need, from training rows only
//   write       one shard and the plan → its rows by split, prepared
//   pack        many small files of one schema → fewer
//   rows        the first rows of a few shards, as JSON
//
// Threads     one task at a time in a process.
// Failure     a task's Error is for the user: it names the file's line, the column, the argument.
#pragma once

#include <string>

#include "base/json.h"
#include "base/result.h"
#include "data/worker/host.h"

namespace sundog::data::worker {

// Runs `task`; nothing that Arrow throws gets out. Call start_arrow() once before.
Result<Json> run(const std::string& task, const Json& arguments, Host& host);
// The same for a whole payload {"task":…,"arguments":…}.
Result<Json> run_payload(std::string_view payload, Host& host);
// Registers Arrow's kernels and keeps it to `threads` threads.
Status start_arrow(int threads);

// The tasks, each in its own file.
Result<Json> ingest(const Json& arguments, Host& host);
Result<Json> profile(const Json& arguments, Host& host);
Result<Json> index_shard(const Json& arguments, Host& host);
Result<Json> shard_statistics(const Json& arguments, Host& host);
Result<Json> write_shard(const Json& arguments, Host& host);
Result<Json> pack(const Json& arguments, Host& host);
Result<Json> rows(const Json& arguments, Host& host);

}  // namespace sundog::data::worker
