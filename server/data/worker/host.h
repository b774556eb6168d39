// Host: what a data task may ask of the server that runs it. The real one speaks over the instance's socket
// (host calls blob.open, file.create and file.commit of docs/formats/instance.md); tests use a folder.
//
// Threads     one task, one thread.
// Failure     not_found or permission_denied for a blob that was not granted · unavailable (disk full)
#pragma once

#include <cstdint>
#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace sundog::data::worker {

struct NewFile {
  UniqueFd fd;         // writable, empty
  std::string handle;  // for commit_file()
};

struct StoredBlob {
  std::string id;
  int64_t bytes = 0;
};

class Host {
 public:
  virtual ~Host() = default;
  virtual Result<UniqueFd> open_blob(const std::string& id) = 0;  // read-only
  virtual Result<NewFile> create_file() = 0;
  virtual Result<StoredBlob> commit_file(const std::string& handle) = 0;  // durable once it returned
};

}  // namespace sundog::data::worker
