// FunctionPool: the template, the instances and the waiting invocations of one function version. Acts on decide().
//
// Ownership   by the fleet.
// Threads     loop thread; answers are given in a later turn than add().
#pragma once

#include <algorithm>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "invoke/node.h"
#include "invoke/scaling.h"
#include "invoke/slot.h"

namespace sundog::invoke {

class FunctionPool final : public SlotOwner {
 public:
  FunctionPool(Context& context, Node& node, std::string tenant, functions::VersionPtr version,
               std::shared_ptr<TenantUse> of_tenant, std::shared_ptr<FunctionUse> of_function);
  ~FunctionPool() override;

  void add(RunPtr run);
  void set_reserved(std::optional<int> limit) { reserved_ = limit; }
  void set_provisioned(int count);
  // Its version was deployed: its template is built before anybody calls, if the node has room for that.
  void deploy();
  void forget_deploy() { deployed_.reset(); }
  bool to_build() const { return deployed_ && !retired_ && template_state_ == TemplateState::none; }
  // Decides and acts until nothing is left to do now.
  void look();
  // Its version is no longer current: what waits is finished, nothing is kept.
  void retire();
  // Answers what waits with `error` and kills what runs.
  void stop(const Error& error);

  // Kills the instance that runs this invocation, if one does.
  void kill(const std::string& request_id);

  // What may go to make room for others.
  void list_evictable(std::vector<Evictable>& out);
  void evict(const Evictable& victim);

  bool hungry() const { return !waiting_.empty(); }
  // Instances that are to be ready are missing, and may come as soon as there is room.
  bool lacks_provisioned() const {
    return !retired_ && !not_runnable_ && std::ssize(idle_) + busy_ + starting_ < provisioned_;
  }
  MonoTime oldest_waiting() const { return waiting_.front()->arrived; }
  // They wait for something of the node: for room, or for what is starting; not for the function's own concurrency.
  bool waits_for_node() const {
    return hungry() && (short_of_node_ || starting_ > 0 || template_state_ == TemplateState::starting);
  }
  // Its invocations wait for room on the node, and for nothing else.
  bool short_of_node() const { return short_of_node_ && !waiting_.empty(); }
  Holding holding() const { return {of_tenant_.get(), of_tenant_->held_bytes, held_bytes_, instance_bytes_}; }
  bool empty() const { return waiting_.empty() && slots_.empty() && template_state_ == TemplateState::none; }
  bool retired() const { return retired_; }
  size_t waiting() const { return waiting_.size(); }
  const std::string& tenant() const { return tenant_; }
  const functions::VersionPtr& version() const { return version_; }
  // Which environment's template its own is a fork of, or would be; empty if of none.
  std::string environment() const;
  // Whether it is one that lives.
  bool has_fork_of_environment() const {
    return template_state_ == TemplateState::ready && ready_.fork_safe && ready_.why_own_tree.empty();
  }
  void describe(Json& instances, Json& templates) const;
  Json describe_provisioned() const;  // null if nothing is

  void on_slot_ready(Slot& slot, Result<std::unique_ptr<sandbox::Instance>> instance) override;
  void on_slot_done(Slot& slot, RunPtr run, sandbox::Outcome outcome) override;
  void on_slot_end(Slot& slot) override;
  void on_slot_host_call(const RunPtr& run, sandbox::HostCall call, Callback<sandbox::HostReply> reply) override;

 private:
  struct Parked {
    Slot* slot;
    int64_t bytes;
  };
  PoolState counts() const;  // how many there are and what they take: nothing measured, no clock
  PoolState state() const;
  NodeState node_state(const PoolState& pool) const;
  std::string why_not_provisioned() const;
  void act(const Decision& decision);
  void tell_hunger();
  void arm(std::optional<MonoTime> when);
  RunPtr take_first();
  void run_on_idle(RunPtr run);
  void run_on(Slot& slot, RunPtr run);
  double late_starts() const;
  void refuse(const RunPtr& run, Refusal why);
  void expire(const RunPtr& run);

  MonoTime template_used() const { return std::max(last_used_, template_ready_); }
  void start_template();
  void build_ahead();
  void cannot_run(Error error);
  void on_template(Result<std::shared_ptr<sandbox::TemplateStart>> started);
  void on_init_failure(const sandbox::InitFailure& failure, const std::string& output);
  void end_template();
  // The instance's own init failed: whoever waited longest gets to know.
  void on_instance_init_failure(sandbox::InitFailure failure, Duration init);
  void note_init_failure(const sandbox::InitFailure& failure, Duration init, const std::string& output);
  void report(functions::InitReport report);
  void start_instance();
  void end_slot(Slot& slot);
  void give_back(Slot& slot, RunPtr run, std::string payload);
  // One that nobody called has ended by itself.
  void lose(Slot& slot);
  // Of those that so many calls would get: who has ended, though that has not been told, gets none.
  void lose_unreachable(size_t calls);
  void hold(int64_t bytes);
  bool is_parked(const Slot& slot) const;
  bool can_park_idle(const PoolState& pool) const;
  int64_t room_for_parked(const PoolState& pool) const;
  Duration keep(int64_t bytes, Duration spared) const;
  void park(Slot& slot);
  void thaw(RunPtr run);
  void leave_parked(std::vector<Parked>::iterator one);
  void count_failure();
  void reserve_template(int64_t bytes);
  void hold_template(int64_t bytes);

  Context& context_;
  Node& node_;
  const std::string tenant_;  // who pays and logs; not the version's for Sundog's own functions
  const functions::VersionPtr version_;
  const int64_t instance_bytes_;
  const std::shared_ptr<TenantUse> of_tenant_;
  const std::shared_ptr<FunctionUse> of_function_;
  std::optional<int> reserved_;
  int provisioned_ = 0;
  bool retired_ = false;

  std::list<RunPtr> waiting_;
  std::map<Slot*, std::shared_ptr<Slot>> slots_;
  std::vector<Slot*> idle_;     // longest idle first
  std::vector<Parked> parked_;  // longest unused first
  int busy_ = 0, starting_ = 0;
  int64_t held_bytes_ = 0;
  bool short_of_node_ = false;
  MonoTime last_used_{};
  Duration mean_run_{};    // of the last invocations
  Duration start_time_{};  // of the last instance
  int64_t own_bytes_ = 0;  // of the instance that was parked last
  double late_starts_ = 0;
  MonoTime late_starts_at_{};

  TemplateState template_state_ = TemplateState::none;
  std::unique_ptr<sandbox::Template> template_;
  sandbox::TemplateReady ready_;
  std::string environment_;  // of the template
  int64_t template_bytes_;   // reserved while it starts or exists; known from then on
  bool template_measured_ = false;
  MonoTime template_asked_{}, template_ready_{};
  std::optional<MonoTime> deployed_;  // and its template has not been begun since
  bool building_ahead_ = false;
  bool init_billed_ = true;  // the init that was last done has been put on an invocation's bill
  std::shared_ptr<int> template_turn_ = std::make_shared<int>(0);  // guards callbacks of a template that is gone

  int failures_ = 0;
  MonoTime last_failure_{};
  std::optional<Error> last_error_;
  std::optional<Error> not_runnable_;  // what it lacks to be started at all: its environment, its Python
  std::optional<sandbox::InitFailure> last_init_failure_;
  bool reported_failed_ = false;
  std::string start_reason_;  // as reported

  bool looking_ = false, look_again_ = false, was_hungry_ = false;
  net::Loop::Id timer_ = 0;
  MonoTime timer_at_{};
};

}  // namespace sundog::invoke
