// The two ways of the task "ingest": text (CSV, JSON lines) and Arrow's own forms (Parquet, Arrow IPC).
#pragma once

#include "data/worker/byte_input.h"
#include "data/worker/host.h"
#include "data/worker/ingest_options.h"

namespace sundog::data::worker {

struct TextFormat {
  bool json = false;
  char delimiter = ',';
  Compression compression = Compression::none;
};

Result<Json> ingest_text(const IngestOptions& options, const TextFormat& format, int fd, Host& host);
Result<Json> ingest_arrow(const IngestOptions& options, bool parquet, UniqueFd fd, Host& host);

}  // namespace sundog::data::worker
