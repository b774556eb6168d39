#include "invoke/invoker.h"

#include <unistd.h>

#include <deque>
#include <future>
#include <random>
#include <tuple>
#include <unordered_map>

#include "base/ids.h"
#include "invoke/function_pool.h"
#include "invoke/host_calls.h"

namespace sundog::invoke {
namespace {

constexpr double kShareOfMachine = 0.7;
constexpr Millis kFleetPatience{1'000};
constexpr Millis kAfterKill{3'000};

InvokerOptions completed(InvokerOptions options) {
  if (options.cores <= 0) options.cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  if (options.memory_budget_bytes <= 0) {
    const auto machine = static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGESIZE));
    options.memory_budget_bytes = static_cast<int64_t>(machine * kShareOfMachine);
  }
  return options;
}

ScalingPolicy policy_of(const InvokerOptions& options) {
  ScalingPolicy policy;
  policy.idle_instance = options.idle_instance;
  policy.keep_most = options.idle_template;
  policy.parked_most = options.parked_most;
  policy.queue_patience = options.queue_limit * 3 / 4;
  policy.queue_length = options.queue_length;
  policy.account_concurrency = options.account_concurrency;
  policy.starts_at_once = std::max(4, 4 * options.cores);
  policy.builds_ahead = options.cores >= 4 ? 2 : 1;
  return policy;
}

std::string key_of(const std::string& tenant, const functions::Version& version) {
  return tenant + "|" + version.identity();
}

// Smaller goes first. Who has callers waiting goes before who is only to have instances ready.
auto claim(const FunctionPool& pool) {
  const auto holding = pool.holding();
  const MonoTime since = pool.hungry() ? pool.oldest_waiting() : MonoTime::max();
  return std::tuple(!pool.hungry(), holding.tenant_bytes, holding.pool_bytes, since);
}

class Fleet final : public Invoker, public Node {
 public:
  explicit Fleet(Context context);
  ~Fleet() override;

  void invoke(Invocation invocation, InvokeCallback on_done) override {
    admit(std::move(invocation), {}, std::move(on_done), Origin::outside);
  }
  void invoke_streaming(Invocation invocation, PieceSink on_piece, InvokeCallback on_done) override {
    admit(std::move(invocation), std::move(on_piece), std::move(on_done), Origin::outside);
  }
  void kill(const std::string& tenant, const std::string& request_id) override {
    for (auto* pool : all_pools()) {
      if (pool->tenant() == tenant) pool->kill(request_id);
    }
  }
  void add_host_call(std::string name, HostCallHandler handler) override {
    host_calls_.add(std::move(name), std::move(handler));
  }
  void drain(Millis grace, std::function<void()> on_drained) override;
  Json fleet() const override;

  std::vector<Evictable> evictable(const FunctionPool& asking) const override { return list_evictable(&asking); }
  void evict(const Evictable& victim) override;
  int64_t fair_share() const override;
  int64_t owed(const FunctionPool& asking) const override;
  void freed() override;
  void set_hungry(FunctionPool& pool, bool hungry) override {
    if (hungry) {
      hungry_.insert(&pool);
    } else {
      hungry_.erase(&pool);
      if (!to_build_.empty()) freed();
    }
  }
  bool callers_wait() const override {
    return std::any_of(hungry_.begin(), hungry_.end(), [](const auto* pool) { return pool->waits_for_node(); });
  }
  void bury(std::shared_ptr<Slot> slot) override {
    context_.loop.post([slot = std::move(slot)]() mutable { slot.reset(); });
  }
  void host_call(const RunPtr& run, sandbox::HostCall call, Callback<sandbox::HostReply> reply) override {
    host_calls_.call(run, std::move(call), std::move(reply));
  }

 private:
  // Running code may still call functions while the server drains: it needs them to finish.
  enum class Origin { outside, running_code };
  void admit(Invocation invocation, PieceSink on_piece, InvokeCallback on_done, Origin origin);
  void refuse(InvokeCallback on_done, Error error);
  FunctionPool& pool_of(const std::string& tenant, const functions::VersionPtr& version);
  void on_change(const std::string& tenant, const std::string& name);
  void on_deploy(const functions::VersionPtr& version);
  void build_ahead();
  void look_at_hungry();
  std::vector<Evictable> list_evictable(const FunctionPool* asking) const;
  void list_environments(const FunctionPool* asking, std::vector<Evictable>& all) const;
  void count_environments();
  void on_environments_changed();
  void provision(const std::string& tenant, const std::string& name);
  void on_ended();
  void on_grace_over();
  // A copy: what is done to one may bring invocations, and with them more pools.
  std::vector<FunctionPool*> all_pools();
  Json describe() const;
  Json held() const;

  Context context_;
  HostCalls host_calls_;
  // By tenant and identity: Sundog's own functions belong to no tenant, but each tenant has its own instances of them.
  std::unordered_map<std::string, std::unique_ptr<FunctionPool>> pools_;
  std::set<FunctionPool*> hungry_;
  std::deque<FunctionPool*> to_build_;  // templates ahead of the first call, in this order
  std::map<std::string, std::shared_ptr<TenantUse>> of_tenant_;
  std::map<std::string, std::shared_ptr<FunctionUse>> of_function_;
  std::mt19937_64 random_{std::random_device{}()};
  int64_t in_flight_ = 0;
  bool rebalancing_ = false;
  bool draining_ = false;
  std::function<void()> on_drained_;
  net::Loop::Id grace_timer_ = 0;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

Fleet::Fleet(Context context)
    : Node(context.clock),
      context_(std::move(context)),
      host_calls_(context_, [this](Invocation invocation, InvokeCallback on_done) {
        admit(std::move(invocation), {}, std::move(on_done), Origin::running_code);
      }) {
  memory_budget = context_.options.memory_budget_bytes;
  auto& loop = context_.loop;
  context_.functions.on_change(
      [this, &loop, alive = std::weak_ptr(alive_)](const std::string& tenant, const std::string& name) {
        loop.post([this, alive, tenant, name] {
          if (alive.lock()) on_change(tenant, name);
        });
      });
  context_.sandbox.on_shared_change([this, alive = std::weak_ptr(alive_)] {
    if (alive.lock()) on_environments_changed();
  });
  if (context_.options.prebuild) {
    context_.functions.on_deploy([this, &loop, alive = std::weak_ptr(alive_)](const functions::VersionPtr& version) {
      loop.post([this, alive, version] {
        if (alive.lock()) on_deploy(version);
      });
    });
  }
  loop.post([this, alive = std::weak_ptr(alive_)] {
    if (!alive.lock()) return;
    std::set<std::pair<std::string, std::string>> names;
    for (const auto& one : context_.functions.provisioned("", "")) {
      names.emplace(one.version->tenant, one.version->config.name);
    }
    for (const auto& [tenant, name] : names) provision(tenant, name);
  });
}

Fleet::~Fleet() {
  if (grace_timer_ != 0) context_.loop.cancel(grace_timer_);
  alive_.reset();
  pools_.clear();
}

void Fleet::refuse(InvokeCallback on_done, Error error) {
  context_.loop.post([on_done = std::move(on_done), error = std::move(error)] { on_done(error); });
}

void Fleet::admit(Invocation invocation, PieceSink on_piece, InvokeCallback on_done, Origin origin) {
  if (draining_ && origin == Origin::outside) {
    return refuse(std::move(on_done),
                  fail(Code::unavailable, "The server is shutting down.", "Try again in a moment."));
  }
  // What cannot be billed does not begin.
  if (auto ready = context_.ledger.ready(); !ready.ok()) return refuse(std::move(on_done), std::move(ready).error());
  const double dice = std::uniform_real_distribution<double>{0, 1}(random_);
  auto resolved = context_.functions.resolve(invocation.tenant, invocation.function, invocation.qualifier, dice);
  if (!resolved.ok()) return refuse(std::move(on_done), resolved.error());
  if (resolved->version->state == functions::State::pending) {
    return refuse(
        std::move(on_done),
        fail(Code::conflict, "Function " + resolved->version->config.name + " is still being prepared (Pending).",
             "Wait until its state is Active."));
  }
  auto reserved =
      context_.budgets.reserve(invocation.tenant, resolved->version->config.name, most_of(resolved->version->config));
  if (!reserved.ok()) return refuse(std::move(on_done), std::move(reserved).error());
  if (invocation.request_id.empty()) invocation.request_id = uuid4();
  auto run = std::make_shared<Run>();
  run->reserved = *std::move(reserved);
  run->bytes_in = static_cast<int64_t>(invocation.payload.size());
  run->version = resolved->version;
  run->on_piece = std::move(on_piece);
  run->arrived = context_.clock.mono();
  run->deadline = run->arrived + context_.options.queue_limit;
  ++in_flight_;
  run->on_done = [this, on_done = std::move(on_done)](Result<InvokeResult> result) {
    --in_flight_;
    on_done(std::move(result));
    if (draining_) on_ended();
  };
  auto& pool = pool_of(invocation.tenant, run->version);
  run->invocation = std::move(invocation);
  pool.set_reserved(resolved->reserved_concurrency);
  pool.add(std::move(run));
}

FunctionPool& Fleet::pool_of(const std::string& tenant, const functions::VersionPtr& version) {
  auto& pool = pools_[key_of(tenant, *version)];
  if (!pool) {
    auto& of_tenant = of_tenant_[tenant];
    auto& of_function = of_function_[tenant + "/" + version->config.name];
    if (!of_tenant) of_tenant = std::make_shared<TenantUse>();
    if (!of_function) of_function = std::make_shared<FunctionUse>();
    pool = std::make_unique<FunctionPool>(context_, *this, tenant, version, of_tenant, of_function);
  }
  return *pool;
}

std::vector<FunctionPool*> Fleet::all_pools() {
  std::vector<FunctionPool*> all;
  all.reserve(pools_.size());
  for (const auto& [key, pool] : pools_) all.push_back(pool.get());
  return all;
}

void Fleet::on_change(const std::string& tenant, const std::string& name) {
  for (auto* pool : all_pools()) {
    const auto& version = *pool->version();
    if (version.tenant != tenant || version.config.name != name || pool->retired()) continue;
    const auto now = context_.functions.resolve(tenant, name, version.version, 0.0);
    if (!now.ok() || now->version->identity() != version.identity()) pool->retire();
  }
  provision(tenant, name);
}

void Fleet::on_deploy(const functions::VersionPtr& version) {
  const auto& name = version->config.name;
  const auto now = context_.functions.resolve(version->tenant, name, version->version, 0.0);
  if (draining_ || !now.ok() || now->version->identity() != version->identity()) return;
  // Who publishes calls what was published.
  for (auto* other : to_build_) {
    const auto& latest = *other->version();
    if (version->version != "$LATEST" && latest.version == "$LATEST" && latest.tenant == version->tenant &&
        latest.config.name == name) {
      other->forget_deploy();
    }
  }
  auto& pool = pool_of(version->tenant, version);
  pool.set_reserved(now->reserved_concurrency);
  pool.deploy();
  if (pool.to_build()) to_build_.push_back(&pool);
}

// A timer of its own has each look once its deploy has settled; from then on it waits here for its turn.
void Fleet::build_ahead() {
  std::erase_if(to_build_, [](const auto* pool) { return !pool->to_build(); });
  if (to_build_.empty() || building_ahead >= context_.policy.builds_ahead || callers_wait()) return;
  auto* next = to_build_.front();
  to_build_.pop_front();
  next->look();
  if (next->to_build()) {
    to_build_.push_back(next);  // there is no room for it
  } else {
    freed();  // another may be built beside it
  }
}

// Pools that keep instances ready exist before anybody calls.
void Fleet::provision(const std::string& tenant, const std::string& name) {
  std::map<FunctionPool*, int> wanted;
  if (!draining_) {
    for (const auto& one : context_.functions.provisioned(tenant, name)) {
      auto& pool = pool_of(tenant, one.version);
      wanted[&pool] += one.count;
      const auto resolved = context_.functions.resolve(tenant, name, one.version->version, 0.0);
      if (resolved.ok()) pool.set_reserved(resolved->reserved_concurrency);
    }
  }
  for (auto* pool : all_pools()) {
    const auto& version = *pool->version();
    if (pool->tenant() != tenant || version.config.name != name || pool->retired()) continue;
    const auto found = wanted.find(pool);
    pool->set_provisioned(found == wanted.end() ? 0 : found->second);
  }
}

// Nobody asks: who gives way because there is too little for all, wherever it comes from.
std::vector<Evictable> Fleet::list_evictable(const FunctionPool* asking) const {
  std::vector<Evictable> all;
  const int64_t share = fair_share();
  for (const auto& [key, pool] : pools_) {
    if (pool.get() == asking) continue;
    const size_t before = all.size();
    pool->list_evictable(all);
    const auto theirs = pool->holding();
    if (asking == nullptr || theirs.tenant == asking->holding().tenant || theirs.tenant_bytes > share) continue;
    for (size_t i = before; i < all.size(); ++i) all[i].of_poorer = true;
  }
  list_environments(asking, all);
  return all;
}

// Those of which nothing is in use, nor needed by who asks. Their functions' templates, which go first, share its
// pages.
void Fleet::list_environments(const FunctionPool* asking, std::vector<Evictable>& all) const {
  const auto shared = context_.sandbox.shared();
  if (shared.empty()) return;
  std::map<std::string, int> unused;
  for (const auto& one : all) {
    if (one.kind != Evictable::Kind::unused_template) continue;
    const auto& pool = *static_cast<FunctionPool*>(one.owner);
    if (pool.has_fork_of_environment()) ++unused[pool.environment()];
  }
  const std::string needed = asking != nullptr ? asking->environment() : "";
  const int64_t share = fair_share();
  for (const auto& one : shared) {
    if (one.id == needed || one.functions > unused[one.id]) continue;
    Evictable victim{.kind = Evictable::Kind::unused_environment, .bytes = one.bytes, .since = one.used};
    victim.environment = one.id;
    const auto theirs = of_tenant_.find(one.tenant);
    const bool of_another =
        asking != nullptr && theirs != of_tenant_.end() && theirs->second.get() != asking->holding().tenant;
    victim.of_poorer = of_another && theirs->second->held_bytes <= share;
    all.push_back(std::move(victim));
  }
}

void Fleet::evict(const Evictable& victim) {
  if (victim.kind != Evictable::Kind::unused_environment)
    return static_cast<FunctionPool*>(victim.owner)->evict(victim);
  context_.sandbox.end_shared(victim.environment);
  count_environments();
}

void Fleet::count_environments() {
  const int64_t grown = context_.sandbox.shared_bytes() - memory_of_environments;
  memory_of_environments += grown;
  memory_reserved += grown;
}

// Nobody asked for room when what they import grew.
void Fleet::on_environments_changed() {
  count_environments();
  if (memory_reserved > memory_budget) {
    NodeState node;
    node.memory_budget = memory_budget;
    node.memory_reserved = memory_reserved;
    node.evictable = list_evictable(nullptr);
    for (const auto& victim : give_way(node)) evict(victim);
  }
  freed();
}

// What each tenant may hold if all who hold or want something hold the same.
int64_t Fleet::fair_share() const {
  std::set<const void*> tenants;
  for (const auto& [name, use] : of_tenant_) {
    if (use->held_bytes > 0) tenants.insert(use.get());
  }
  for (const auto* pool : hungry_) {
    if (pool->hungry()) tenants.insert(pool->holding().tenant);
  }
  return memory_budget / std::max<int64_t>(1, std::ssize(tenants));
}

int64_t Fleet::owed(const FunctionPool& asking) const {
  if (hungry_.empty()) return 0;
  const int64_t share = fair_share();
  const auto ours = asking.holding();
  int64_t most = 0;
  for (const auto* other : hungry_) {
    if (other == &asking || !other->short_of_node()) continue;
    if (const auto theirs = other->holding(); goes_first(theirs, ours, share)) {
      most = std::max(most, theirs.instance_bytes);
    }
  }
  return most;
}

void Fleet::freed() {
  if ((hungry_.empty() && to_build_.empty()) || std::exchange(rebalancing_, true)) return;
  context_.loop.post([this, alive = std::weak_ptr(alive_)] {
    if (alive.lock()) look_at_hungry();
  });
}

// Who holds least gets what became free, among equals who has waited longest. Pools that hold nothing any more go.
void Fleet::look_at_hungry() {
  rebalancing_ = false;
  std::vector<FunctionPool*> hungry;
  for (auto* pool : std::exchange(hungry_, {})) {
    if (pool->retired() && pool->empty()) {
      std::erase(to_build_, pool);
      pools_.erase(key_of(pool->tenant(), *pool->version()));
      continue;
    }
    hungry_.insert(pool);
    if (pool->hungry() || pool->lacks_provisioned()) hungry.push_back(pool);
  }
  std::sort(hungry.begin(), hungry.end(),
            [](const FunctionPool* a, const FunctionPool* b) { return claim(*a) < claim(*b); });
  for (auto* pool : hungry) pool->look();
  build_ahead();
}

void Fleet::drain(Millis grace, std::function<void()> on_drained) {
  draining_ = true;
  for (auto* pool : std::exchange(to_build_, {})) pool->forget_deploy();
  on_drained_ = std::move(on_drained);
  grace_timer_ = context_.loop.run_after(grace, [this] { on_grace_over(); });
  on_ended();
}

void Fleet::on_ended() {
  if (in_flight_ > 0 || !on_drained_) return;
  if (grace_timer_ != 0) context_.loop.cancel(std::exchange(grace_timer_, 0));
  context_.loop.post(std::exchange(on_drained_, nullptr));
}

void Fleet::on_grace_over() {
  grace_timer_ = context_.loop.run_after(kAfterKill, [this] {
    grace_timer_ = 0;
    if (on_drained_) std::exchange(on_drained_, nullptr)();
  });
  const auto error = fail(Code::unavailable, "The server shut down before this invocation could finish.");
  for (auto* pool : all_pools()) pool->stop(error);
}

Json Fleet::describe() const {
  Json instances = Json::array(), templates = Json::array(), provisioned = Json::array();
  size_t queued = 0;
  for (const auto& [key, pool] : pools_) {
    pool->describe(instances, templates);
    if (auto one = pool->describe_provisioned(); !one.is_null()) provisioned.push_back(std::move(one));
    queued += pool->waiting();
  }
  const auto to_build = std::count_if(to_build_.begin(), to_build_.end(), [](auto* pool) { return pool->to_build(); });
  return {{"instances", std::move(instances)},
          {"templates", std::move(templates)},
          {"provisioned", std::move(provisioned)},
          {"queued", queued},
          {"to_build", to_build + building_ahead},
          {"memory_bytes", int64_t{memory_reserved}},
          {"parked_bytes", int64_t{memory_parked}},
          {"template_bytes", int64_t{memory_of_templates}},
          {"environment_bytes", int64_t{memory_of_environments}},
          {"environments", context_.sandbox.environment_templates()},
          {"budget_bytes", memory_budget},
          {"held", held()}};
}

Json Fleet::held() const {
  const double busy = memory_busy.gb_seconds(), parked = memory_parked.gb_seconds();
  const double templates = memory_of_templates.gb_seconds(), environments = memory_of_environments.gb_seconds();
  return {{"busy", busy},
          {"idle", std::max(0.0, memory_reserved.gb_seconds() - busy - parked - templates - environments)},
          {"parked", parked},
          {"templates", templates},
          {"environments", environments}};
}

// The state belongs to the loop; other threads have it described there.
Json Fleet::fleet() const {
  if (context_.loop.on_loop_thread()) return describe();
  auto promise = std::make_shared<std::promise<Json>>();
  auto future = promise->get_future();
  context_.loop.post([this, promise, alive = std::weak_ptr(alive_)] {
    promise->set_value(alive.lock() ? describe() : Json::object());
  });
  if (future.wait_for(kFleetPatience) == std::future_status::ready) return future.get();
  return {{"instances", Json::array()},
          {"templates", Json::array()},
          {"provisioned", Json::array()},
          {"queued", 0},
          {"to_build", 0},
          {"memory_bytes", 0},
          {"parked_bytes", 0},
          {"template_bytes", 0},
          {"environment_bytes", 0},
          {"budget_bytes", memory_budget}};
}

}  // namespace

std::unique_ptr<Invoker> make_invoker(net::Loop& loop, Clock& clock, Pool& pool, Log& log, sandbox::Sandbox& sandbox,
                                      functions::Functions& functions, functions::Environments& environments,
                                      store::Blobs& blobs, meter::Ledger& ledger, meter::Budgets& budgets,
                                      FunctionLogs& logs, InvokerOptions options) {
  options = completed(std::move(options));
  const auto policy = policy_of(options);
  return std::make_unique<Fleet>(Context{loop, clock, pool, log, sandbox, functions, environments, blobs, ledger,
                                         budgets, logs, std::move(options), policy});
}

}  // namespace sundog::invoke
