// FolderHost: a Host over a plain folder, for tests and for running a task by hand (sundog-data --folder DIR).
#pragma once

#include <map>

#include "base/file.h"
#include "data/worker/host.h"

namespace sundog::data::worker {

class FolderHost final : public Host {
 public:
  explicit FolderHost(Path folder) : folder_(std::move(folder)) {}

  Result<StoredBlob> put(std::string_view content);
  Result<StoredBlob> put_file(const Path& file);  // copies it
  Path path(const std::string& id) const { return folder_ / id; }

  Result<UniqueFd> open_blob(const std::string& id) override;
  Result<NewFile> create_file() override;
  Result<StoredBlob> commit_file(const std::string& handle) override;

 private:
  Path folder_;
  int next_ = 1;
};

}  // namespace sundog::data::worker
