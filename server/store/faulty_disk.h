// FaultyDisk: a Disk over the system's whose calls fail as a FaultPlan says. For tests only.
#pragma once

#include <cerrno>

#include "store/disk.h"
#include "store/fault_plan.h"

namespace sundog::store {

class FaultyDisk final : public Disk {
 public:
  FaultyDisk(std::unique_ptr<Disk> under, FaultPlan& plan) : under_(std::move(under)), plan_(plan) {}

  Result<Staged> stage(const Path& folder) override {
    if (plan_.hit()) return full("create a file");
    return under_->stage(folder);
  }
  // A full disk takes a part before it refuses the rest.
  Status write(const Staged& staged, std::string_view data) override {
    if (!plan_.hit()) return under_->write(staged, data);
    SUNDOG_CHECK(under_->write(staged, data.substr(0, data.size() / 2)));
    return full("write");
  }
  Status sync(const Staged& staged) override { return plan_.hit() ? full("sync") : under_->sync(staged); }
  Status publish(const Staged& staged, const Path& to) override {
    return plan_.hit() ? full("publish") : under_->publish(staged, to);
  }
  void discard(const Staged& staged) override { under_->discard(staged); }
  Status make_directory(const Path& folder) override {
    return plan_.hit() ? full("make a folder") : under_->make_directory(folder);
  }
  Status sync_directory(const Path& folder) override {
    return plan_.hit() ? full("sync a folder") : under_->sync_directory(folder);
  }
  Status remove(const Path& file) override { return plan_.hit() ? full("remove") : under_->remove(file); }

 private:
  static Error full(std::string_view what) { return fail_errno(what, ENOSPC); }

  std::unique_ptr<Disk> under_;
  FaultPlan& plan_;
};

}  // namespace sundog::store
