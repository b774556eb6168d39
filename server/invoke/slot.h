// Slot: one instance of a function's pool, from the moment it is asked for to its end.
//
// Ownership   by its pool; the sandbox holds a reference to it (InstanceEvents) for as long as the instance exists, so
//             a slot that is done is buried (destroyed in a later turn of the loop), never dropped in a callback.
// Threads     loop thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "base/ids.h"
#include "invoke/run.h"

namespace sundog::invoke {

class SlotOwner {
 public:
  virtual ~SlotOwner() = default;
  virtual void on_slot_ready(class Slot& slot, Result<std::unique_ptr<sandbox::Instance>> instance) = 0;
  virtual void on_slot_done(Slot& slot, RunPtr run, sandbox::Outcome outcome) = 0;
  virtual void on_slot_end(Slot& slot) = 0;
  virtual void on_slot_host_call(const RunPtr& run, sandbox::HostCall call, Callback<sandbox::HostReply> reply) = 0;
};

class Slot final : public sandbox::InstanceEvents, public std::enable_shared_from_this<Slot> {
 public:
  enum class State { starting, idle, parked, busy, ended };

  // `tenant` and `version`: whose log gets what is printed before the first invocation.
  Slot(Context& context, SlotOwner& owner, std::string tenant, functions::VersionPtr version)
      : context_(context),
        owner_(&owner),
        made_(context.clock.mono()),
        last_version_(std::move(version)),
        last_tenant_(std::move(tenant)) {}
  ~Slot() override;

  // What the sandbox calls with the instance. Safe after the slot's end.
  Callback<std::unique_ptr<sandbox::Instance>> ready_callback();
  void adopt(std::unique_ptr<sandbox::Instance> instance);
  // Idle from now on holds no more of the node's memory than it takes; it waits in its socket's read as before.
  void park() { state_ = State::parked; }
  void execute(RunPtr run);
  void kill();
  // No more calls to the owner.
  void retire() { owner_ = nullptr; }

  State state() const { return state_; }
  const std::string& id() const { return id_; }
  MonoTime made() const { return made_; }
  MonoTime since() const { return since_; }  // in this state; of a parked one: not used since
  bool fresh() const { return fresh_; }      // has executed nothing yet
  const sandbox::Instance* instance() const { return instance_.get(); }
  const RunPtr& run() const { return run_; }
  // What the user's init code did wrong in this instance, if that is why it is not ready.
  const std::optional<sandbox::InitFailure>& init_failure() const { return init_failure_; }

  void on_output(std::string_view text) override;
  void on_host_call(sandbox::HostCall call, Callback<sandbox::HostReply> reply) override;
  void on_init_failure(sandbox::InitFailure failure) override { init_failure_ = std::move(failure); }
  void on_stream(std::string_view piece) override;
  void on_end() override;

 private:
  void on_timeout();
  void settle(sandbox::Outcome outcome);
  void cancel_timer();

  Context& context_;
  SlotOwner* owner_;
  const std::string id_ = short_id("i");
  MonoTime made_;
  functions::VersionPtr last_version_;  // for what is printed while nothing runs
  std::string last_tenant_, last_request_id_;
  std::optional<sandbox::InitFailure> init_failure_;
  MonoTime since_ = made_;
  bool fresh_ = true;
  State state_ = State::starting;
  std::unique_ptr<sandbox::Instance> instance_;
  RunPtr run_;
  uint64_t turn_ = 0;  // of execute(): an outcome that comes after we gave up on it belongs to an earlier one
  net::Loop::Id timer_ = 0;
};

}  // namespace sundog::invoke
