#include "api/environment_routes.h"

#include "functions/environment_records.h"
#include "store/each_record.h"

namespace sundog::api {
namespace {

using functions::Environment;
using functions::Environments;
using CallPtr = std::shared_ptr<Call>;

constexpr int64_t kLongestWait = 60;  // seconds
constexpr size_t kWaitersLimit = 1000;

// Calls that wait for a build to end. Everything on the loop thread.
class Waiting : public std::enable_shared_from_this<Waiting> {
 public:
  Waiting(Environments& environments, net::Loop& loop) : environments_(environments), loop_(loop) {}

  void add(const CallPtr& call, const std::string& id, std::chrono::seconds longest) {
    const uint64_t number = ++last_;
    Waiter waiter{call, id, 0};
    waiter.timer = loop_.run_after(longest, [self = weak_from_this(), number] {
      if (const auto waiting = self.lock()) waiting->answer(number);
    });
    waiters_.emplace(number, std::move(waiter));
  }

  void built(const std::string& id) {
    std::vector<uint64_t> all;
    for (const auto& [number, waiter] : waiters_) {
      if (waiter.id == id) all.push_back(number);
    }
    for (const uint64_t number : all) answer(number);
  }

  size_t size() const { return waiters_.size(); }

 private:
  struct Waiter {
    CallPtr call;
    std::string id;
    net::Loop::Id timer;
  };

  void answer(uint64_t number) {
    auto found = waiters_.extract(number);
    if (found.empty()) return;
    loop_.cancel(found.mapped().timer);
    const auto environment = environments_.get(found.mapped().id);
    net::Responder& responder = *found.mapped().call->responder;
    if (environment.ok())
      reply(responder, 200, functions::environment_json(*environment));
    else
      reply_error(responder, environment.error(), ErrorShape::sundog);
  }

  Environments& environments_;
  net::Loop& loop_;
  uint64_t last_ = 0;
  std::map<uint64_t, Waiter> waiters_;
};

void get_environment(const CallPtr& call, const Environments& environments, Waiting& waiting) {
  const auto seconds = call->query_int("wait", 0);
  if (!seconds.ok()) return reply_error(*call->responder, seconds.error(), ErrorShape::sundog);
  const auto environment = environments.get(call->param("id"));
  if (!environment.ok()) return reply_error(*call->responder, environment.error(), ErrorShape::sundog);
  if (environment->state != Environment::State::building || *seconds <= 0 || waiting.size() >= kWaitersLimit) {
    return reply(*call->responder, 200, functions::environment_json(*environment));
  }
  waiting.add(call, environment->id, std::chrono::seconds(std::min(*seconds, kLongestWait)));
}

Result<std::vector<std::string>> packages_of(const Json& body) {
  std::vector<std::string> packages;
  const auto found = body.find("packages");
  if (found == body.end() || found->is_null()) return packages;
  if (!found->is_array()) return fail(Code::invalid_argument, "Field \"packages\" must be a list of strings.");
  for (const auto& each : *found) {
    if (!each.is_string()) return fail(Code::invalid_argument, "Field \"packages\" must be a list of strings.");
    packages.push_back(each.get<std::string>());
  }
  return packages;
}

// Environments are shared by content; which of them a tenant has asked for is kept here, since the list shows just
// those.
std::string asked_key(const std::string& tenant, const std::string& id) {
  return "environment-askers/" + tenant + "/" + id;
}

// The page of the tenant's environments that ?limit=&after= ask for; they are listed in order of id.
Result<Json> page_of(const Call& call, const Environments& environments, const store::Catalog& catalog) {
  SUNDOG_TRY(asked, call.list_query());
  const std::string prefix = asked_key(call.principal.tenant, "");
  Json items = Json::array();
  std::string next;
  const auto add = [&](const store::Record& record) -> Result<bool> {
    const auto environment = environments.get(record.key.substr(prefix.size()));
    if (!environment.ok()) return true;
    if (items.size() == asked.limit) {
      next = items.back()["id"].get<std::string>();
      return false;
    }
    items.push_back(functions::environment_json(*environment));
    return true;
  };
  SUNDOG_CHECK(store::each_record(catalog, prefix, add, prefix + asked.after, asked.limit + 1));
  return Json{{"items", std::move(items)}, {"next", next}};
}

}  // namespace

void add_environment_routes(Router& router, Environments& environments, store::Catalog& catalog, net::Loop& loop) {
  const auto waiting = std::make_shared<Waiting>(environments, loop);
  environments.on_built([&loop, weak = std::weak_ptr(waiting)](const Environment& environment) {
    loop.post([weak, id = environment.id] {
      if (const auto all = weak.lock()) all->built(id);
    });
  });
  router.json("POST", "/v1/environments", Role::deployer, [&](const CallPtr& call) -> Result<Json> {
    SUNDOG_TRY(body, call->json());
    SUNDOG_TRY(python, get_string(body, "python", "3.11"));
    SUNDOG_TRY(packages, packages_of(body));
    SUNDOG_TRY(environment, environments.ensure(python, std::move(packages)));
    SUNDOG_CHECK(catalog.put(asked_key(call->principal.tenant, environment.id), Json::object()));
    return functions::environment_json(environment);
  });
  router.json("GET", "/v1/environments", Role::viewer,
              [&](const CallPtr& call) { return page_of(*call, environments, catalog); });
  router.add("GET", "/v1/environments/{id}", Role::viewer,
             [&environments, waiting](const CallPtr& call) { get_environment(call, environments, *waiting); },
             {.run = Run::loop});
}

}  // namespace sundog::api
