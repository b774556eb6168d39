// LocalEnvironment: the process that has imported an environment's packages, and that functions' templates are forked
// from. It holds no right and never runs a function's code.
//
// Ownership   EnvironmentTemplates and whoever has just asked for it. What it forked goes on when it ends.
// Threads     the loop thread.
// Failure     told to Events::on_end; forks that were on their way then end as if they had died at once.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "sandbox/local_template.h"
#include "sandbox/sharing.h"

namespace sundog::sandbox {

// What a fork is given.
struct TemplateFork {
  UniqueFd control, output;
  UniqueFd code;  // a detached mount
  std::vector<UniqueFd> attach;
  int64_t tmp_bytes = 0;
};

class LocalEnvironment {
 public:
  struct Events {
    // `reason`: why it may not be forked from any more, since it imported the package `culprit`; it ends then.
    std::function<void(const std::vector<std::string>& failed, const std::string& reason, const std::string& culprit)>
        on_preloaded;
    std::function<void()> on_child_ended;
    std::function<void(const std::string& reason)> on_end;  // unasked; once
  };
  LocalEnvironment(Starting& starting, EnvironmentKey key) : starting_(starting), key_(std::move(key)) {}
  ~LocalEnvironment();

  void start(const Limits& limits, Events events);
  // Tells nothing any more.
  void retire() { events_ = {}; }
  // One at a time: imports what it lacks, after which on_preloaded comes.
  void preload(std::vector<std::string> modules);
  std::shared_ptr<ExitNote> fork(TemplateFork fork);

  bool alive() const { return bool(control_); }
  bool ever_ready() const { return ready_; }
  const std::vector<std::string>& preloading() const { return preloading_; }
  // The package of preloading() whose import it began last; empty if none.
  const std::string& importing() const { return importing_; }
  size_t children() const { return exits_.size(); }  // that are alive
  int64_t memory_bytes() const { return alive() ? cell_.usage_bytes() : 0; }

 private:
  void start_in(Cell cell, const Limits& limits, UniqueFd socket, UniqueFd output);
  void on_frame(const Frame& frame);
  void on_preloaded(const Json& fields);
  void on_exited(uint32_t number, int status, const std::string& error = {});
  void end(const std::string& reason);

  Starting& starting_;
  EnvironmentKey key_;
  Events events_;
  Cell cell_;
  std::unique_ptr<FrameChannel> control_;  // null once it has ended
  std::unique_ptr<OutputReader> output_;
  std::string last_words_;
  bool ready_ = false;
  std::vector<std::string> preloading_;
  std::string importing_;
  net::Loop::Id preload_limit_ = 0;
  uint32_t next_number_ = 1;
  std::map<uint32_t, std::shared_ptr<ExitNote>> exits_;
  std::shared_ptr<bool> here_ = std::make_shared<bool>(true);
};

}  // namespace sundog::sandbox
