// EnvironmentBuilder: resolves and installs one set of packages with uv. What is built never runs: wheels only.
//
// Threads     build() may be called from several threads at once; it blocks for as long as uv takes.
// Durability  a folder is complete and on disk before it has its name.
// Failure     in Built: what uv said. Errors of ours (disk full, no uv) come as words in `log` too: a build just fails.
#pragma once

#include <atomic>
#include <map>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "base/result.h"

namespace sundog::functions {

struct Built {
  bool ok = false;
  std::vector<std::string> resolved;
  std::string content;
  std::string log;
  int64_t bytes = 0;
};

class EnvironmentBuilder {
 public:
  // Removes what a dead run left unfinished.
  EnvironmentBuilder(Path folder, Path uv, Millis timeout);
  Built build(const std::string& python, const Path& interpreter, const std::vector<std::string>& packages) const;
  // Ends what is being built, and every later build at once: the server shuts down.
  void stop() { stopping_ = true; }
  bool stopping() const { return stopping_; }
  Path folder_of(const std::string& content) const { return folder_ / content; }

 private:
  Status resolve(const Path& work, const Path& interpreter, const std::vector<std::string>& packages,
                 Built& built) const;
  Status install(const Path& work, const Path& interpreter, Built& built) const;
  Status publish(const Path& site, const std::string& content) const;
  Status run(std::vector<std::string> command, const Path& work, std::string& log) const;

  Path folder_;
  Path uv_;
  Millis timeout_;
  std::atomic<bool> stopping_{false};
};

// Makes everything below `folder` readable by all, and sums the sizes of its files.
Result<int64_t> open_to_readers(const Path& folder);

}  // namespace sundog::functions
