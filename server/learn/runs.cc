#include "learn/runs.h"

#include <fmt/format.h>

#include <future>

#include "base/crypto.h"
#include "base/ids.h"
#include "base/kill_point.h"
#include "learn/run_progress.h"
#include "learn/run_record.h"
#include "learn/unsettled.h"
#include "store/each_record.h"

namespace sundog::learn {
namespace {

using invoke::Invocation;
using invoke::InvokeResult;

constexpr size_t kPointsShown = 1000;

class StoredRuns final : public Runs {
 public:
  StoredRuns(Parts parts, Options options)
      : parts_(parts), options_(std::move(options)), progress_(parts.loop, parts.pool, parts.catalog) {
    parts_.events.on_ended([this](const Invocation& event, const Result<InvokeResult>& result, bool) {
      const auto run = event.tags.find("run");
      if (run != event.tags.end()) ended(event, run->second, result);
    });
  }

  std::string new_id() override {
    // Begins with the time, so that a scan is in the order of creation.
    return fmt::format("run-{:011x}{}", epoch_millis(parts_.clock.wall()), hex(random_bytes(3)));
  }

  Result<Json> create(const std::string& tenant, NewRun run) override;
  Result<Json> get(const std::string& tenant, const std::string& id, int64_t metrics_after) const override;
  Result<Json> result(const std::string& tenant, const std::string& id) const override { return record(tenant, id); }
  void wait(const std::string& tenant, const std::string& id, int64_t metrics_after, Millis wait,
            Callback<Json> on_change) override;
  Result<RunPage> list(const std::string& tenant, const std::string& study, const std::string& after,
                       size_t limit) const override;
  Result<Json> stop_run(const std::string& tenant, const std::string& id) override;
  bool names_blob(const std::string& tenant, const std::string& blob) const override;
  void register_host_calls(invoke::Invoker& invoker) override;
  void start() override;
  void stop() override;

 private:
  using Change = std::function<Status(Json& run)>;

  Result<Json> record(const std::string& tenant, const std::string& id) const;
  // Reads, changes and writes the record until nobody came between.
  Result<Json> update(const std::string& tenant, const std::string& id, const Change& change);
  Result<Invocation> invocation_of(const std::string& tenant, const Json& run) const;
  Status accept(const std::string& tenant, const Json& run, Unsettled::Token token);

  void host_start(const Invocation& who, const Callback<sandbox::HostReply>& reply);
  Result<sandbox::HostReply> begin(const std::string& tenant, const std::string& id);
  void host_checkpoint(const Invocation& who, const Json& arguments, const Callback<sandbox::HostReply>& reply);
  void on_pool(std::function<Result<sandbox::HostReply>()> work, const Callback<sandbox::HostReply>& reply);

  void ended(const Invocation& event, const std::string& id, const Result<InvokeResult>& result);
  Status finish(const std::string& tenant, const std::string& id, const Result<InvokeResult>& result);
  void add_usage(Json& run, const std::string& tenant, const Result<InvokeResult>& result) const;
  void kill_later(const std::string& tenant, const std::string& id, const std::string& request_id);
  void sweep_later();
  void sweep();
  void revive(const std::string& tenant, const Json& run);
  void revive_lost(const std::string& tenant, const Json& run);

  Parts parts_;
  Options options_;
  RunProgress progress_;
  Unsettled unsettled_;
  net::Loop::Id sweep_timer_ = 0;
  // Loop thread only.
  invoke::Invoker* invoker_ = nullptr;
  std::map<std::string, net::Loop::Id> kill_timers_;  // of the runs that were asked to stop
};

Result<Json> StoredRuns::record(const std::string& tenant, const std::string& id) const {
  auto found = parts_.catalog.get(run_key(tenant, id));
  if (!found.ok() && found.error().code == Code::not_found) {
    return fail(Code::not_found, "No training run \"" + id + "\"", "GET /v1/runs lists those that exist.");
  }
  if (!found.ok()) return std::move(found).error();
  return std::move(found->value);
}

Result<Json> StoredRuns::update(const std::string& tenant, const std::string& id, const Change& change) {
  for (int attempt = 0;; ++attempt) {
    auto found = parts_.catalog.get(run_key(tenant, id));
    if (!found.ok()) return std::move(found).error();
    const Json before = found->value;
    SUNDOG_CHECK(change(found->value));
    if (found->value == before) return found->value;
    auto put = parts_.catalog.put(found->key, found->value, found->revision);
    if (put.ok()) {
      progress_.changed(tenant, id);
      return std::move(found->value);
    }
    if (put.error().code != Code::conflict || attempt == 20) return std::move(put).error();
  }
}

// ---- creating ----

Status may_train(const functions::Version& version) {
  const auto& name = version.config.name;
  if (version.config.kind != functions::Kind::training) {
    return fail(Code::invalid_argument, "Function \"" + name + "\" is not a training function",
                "Decorate it with @app.training, or tag it sundog:kind=training.");
  }
  if (version.state == functions::State::pending) {
    return fail(Code::conflict, "Function \"" + name + "\" is still being prepared", "Wait until its state is Active.");
  }
  // One whose init failed is begun all the same: it may have been killed, and what failed once may work now.
  if (version.state == functions::State::failed && !version.failed_at_init()) {
    return fail(Code::conflict, "Function \"" + name + "\" cannot run: " + version.state_reason);
  }
  return done;
}

Result<Json> StoredRuns::create(const std::string& tenant, NewRun request) {
  SUNDOG_TRY(version, parts_.functions.get(tenant, request.function, request.qualifier));
  SUNDOG_CHECK(may_train(version));
  std::string reference;
  if (!request.dataset.empty()) {
    SUNDOG_TRY(dataset, parts_.datasets.find(tenant, request.dataset));
    reference = dataset.reference();
  }
  const auto id = request.id.empty() ? new_id() : request.id;
  Json run{{"id", id},
           {"name", request.name.empty() ? request.function : request.name},
           {"function", request.function},
           {"qualifier", request.qualifier},
           {"version", version.version},
           {"study", request.study},
           {"dataset", reference},
           {"parameters", request.parameters},
           {"state", kQueued},
           {"metrics", Json::object()},
           {"artefact", nullptr},
           {"checkpoint", ""},
           {"error", nullptr},
           {"created", iso_time(parts_.clock.wall())},
           {"started", nullptr},
           {"ended", nullptr},
           {"attempt", 0},
           {"billed_ms", 0},
           {"cost", 0.0},
           {"lineage",
            {{"dataset", reference},
             {"code_sha256", version.code_sha256},
             {"environment", version.config.environment_id},
             {"parameters", request.parameters}}},
           {"request_id", uuid4()},
           {"accepted", false}};
  auto writes = std::move(request.along);
  writes.push_back({run_key(tenant, id), run, store::kAbsent});
  auto token = unsettled_.hold(tenant, id);
  SUNDOG_CHECK(parts_.catalog.commit(writes));
  kill_point("runs.created");
  SUNDOG_CHECK(
      accept(tenant, run, std::move(token)));  // if this fails or the server dies here, the sweep hands the event over
  return get(tenant, id, -1);
}

Result<Invocation> StoredRuns::invocation_of(const std::string& tenant, const Json& run) const {
  Invocation event;
  event.tenant = tenant;
  event.function = run["function"];
  event.qualifier = run["qualifier"];
  event.request_id = run["request_id"];
  event.attempt = static_cast<int>(run["attempt"].get<int64_t>()) + 1;  // more than 1 if an event of it was lost
  event.payload = dump(run["parameters"]);
  event.tags = {{"run", run["id"]}};
  event.kind = functions::Kind::training;
  Json data;
  if (const std::string reference = run["dataset"]; !reference.empty()) {
    SUNDOG_TRY(dataset, parts_.datasets.find(tenant, reference));
    for (const auto& shard : dataset.shards) event.granted_blobs.insert(shard.blob);
    data = dataset.to_json();
  }
  const std::string checkpoint = run["checkpoint"];
  if (!checkpoint.empty()) event.granted_blobs.insert(checkpoint);
  event.meta = {{"run", run["id"]},
                {"parameters", run["parameters"]},
                {"data", std::move(data)},
                {"checkpoint", checkpoint},
                {"attempt", run["attempt"].get<int64_t>() + 1}};
  return event;
}

// `token` is kept until the event is in its queue, or known not to be: longer than anybody waits here.
Status StoredRuns::accept(const std::string& tenant, const Json& run, Unsettled::Token token) {
  SUNDOG_TRY(event, invocation_of(tenant, run));
  auto accepted = std::make_shared<std::promise<Status>>();
  auto outcome = accepted->get_future();
  parts_.loop.post([this, event = std::move(event), accepted, token = std::move(token)]() mutable {
    parts_.events.accept(std::move(event), [accepted, token = std::move(token)](Result<std::string> result) {
      accepted->set_value(result.ok() ? Status(done) : Status(std::move(result).error()));
    });
  });
  if (outcome.wait_for(options_.accept_timeout) != std::future_status::ready) {
    return fail(Code::deadline_exceeded, "The run was not taken into the queue in time", "It starts by itself later.");
  }
  SUNDOG_CHECK(outcome.get());
  kill_point("runs.event_appended");
  SUNDOG_CHECK(update(tenant, run["id"], [](Json& stored) -> Status {
    stored["accepted"] = true;
    return done;
  }));
  return done;
}

// ---- reading ----

Result<Json> StoredRuns::get(const std::string& tenant, const std::string& id, int64_t metrics_after) const {
  SUNDOG_TRY(run, record(tenant, id));
  Json out = shown(run);
  if (!is_over(run)) out["metrics"].update(progress_.latest(tenant, id));
  if (metrics_after >= 0) {
    Json points = Json::array();
    SUNDOG_TRY(stored,
               parts_.catalog.scan(point_prefix(tenant, id), point_key(tenant, id, metrics_after), kPointsShown));
    for (auto& point : stored) points.push_back(std::move(point.value));
    out["points"] = std::move(points);
  }
  return out;
}

void StoredRuns::wait(const std::string& tenant, const std::string& id, int64_t metrics_after, Millis wait,
                      Callback<Json> on_change) {
  const auto seen = progress_.changes(tenant, id);
  auto now = get(tenant, id, metrics_after);
  const bool news = !now.ok() || is_over(*now) || (now->contains("points") && !(*now)["points"].empty());
  if (news || wait.count() <= 0) {
    on_change(std::move(now));
    return;
  }
  progress_.wait(tenant, id, seen, wait, [this, tenant, id, metrics_after, on_change = std::move(on_change)] {
    const auto submitted = parts_.pool.submit([=, this] { on_change(get(tenant, id, metrics_after)); });
    if (!submitted.ok()) on_change(submitted.error());
  });
}

Result<RunPage> StoredRuns::list(const std::string& tenant, const std::string& study, const std::string& after,
                                 size_t limit) const {
  RunPage page;
  const auto add = [&](const store::Record& found) {
    if (!study.empty() && found.value.value("study", "") != study) return true;
    if (page.items.size() == limit) {
      page.next = page.items.back()["id"];
      return false;
    }
    page.items.push_back(shown(found.value));
    return true;
  };
  const auto from = after.empty() ? "" : run_key(tenant, after);
  const size_t held = study.empty() ? limit + 1 : store::kRecordsHeld;
  SUNDOG_CHECK(store::each_record(parts_.catalog, run_key(tenant, ""), add, from, held));
  return page;
}

bool StoredRuns::names_blob(const std::string& tenant, const std::string& blob) const {
  bool named = false;
  const auto looked = store::each_record(parts_.catalog, run_key(tenant, ""), [&](const store::Record& found) {
    const auto& artefact = found.value["artefact"];
    named = found.value["checkpoint"] == blob || (artefact.is_object() && artefact["blob"] == blob);
    return !named;
  });
  return looked.ok() && named;
}

// ---- stopping ----

Result<Json> StoredRuns::stop_run(const std::string& tenant, const std::string& id) {
  SUNDOG_CHECK(record(tenant, id));
  SUNDOG_TRY(stopped, update(tenant, id, [this](Json& run) -> Status {
               if (is_over(run)) return done;
               run["stop_requested"] = true;
               if (run["state"] == kQueued) {
                 run["state"] = "stopped";
                 run["ended"] = iso_time(parts_.clock.wall());
               }
               return done;
             }));
  progress_.ask_to_stop(tenant, id);
  if (!is_over(stopped)) {
    parts_.loop.post(
        [this, tenant, id, request = stopped["request_id"].get<std::string>()] { kill_later(tenant, id, request); });
  }
  return get(tenant, id, -1);
}

// A function that logs nothing, or hangs, does not hear that it is to stop. The event of a killed attempt comes again,
// is told at run.start, and ends the run.
void StoredRuns::kill_later(const std::string& tenant, const std::string& id, const std::string& request_id) {
  auto& timer = kill_timers_[id];
  if (timer != 0 || invoker_ == nullptr) return;
  timer = parts_.loop.run_after(options_.stop_grace, [this, tenant, id, request_id] {
    kill_timers_.erase(id);
    const auto submitted = parts_.pool.submit([this, tenant, id, request_id] {
      const auto run = record(tenant, id);
      if (!run.ok() || is_over(*run)) return;
      parts_.loop.post([this, tenant, request_id] { invoker_->kill(tenant, request_id); });
    });
    if (!submitted.ok()) kill_later(tenant, id, request_id);
  });
}

// ---- host calls ----

void StoredRuns::register_host_calls(invoke::Invoker& invoker) {
  invoker_ = &invoker;
  using Reply = Callback<sandbox::HostReply>;
  const auto for_runs = [&invoker](const std::string& call, std::function<void(const Invocation&, Json, Reply)> act) {
    invoker.add_host_call(
        call, [call, act = std::move(act)](const Invocation& who, sandbox::HostCall made, Reply reply) {
          if (!who.tags.contains("run")) {
            reply(fail(Code::permission_denied, "Only a training run may call " + call));
            return;
          }
          act(who, made.arguments.is_object() ? std::move(made.arguments) : Json::object(), std::move(reply));
        });
  };
  for_runs("run.start", [this](const Invocation& who, const Json&, const Reply& reply) { host_start(who, reply); });
  for_runs("run.checkpoint", [this](const Invocation& who, const Json& arguments, const Reply& reply) {
    host_checkpoint(who, arguments, reply);
  });
  for_runs("run.metrics", [this](const Invocation& who, const Json& arguments, Reply reply) {
    progress_.log(who.tenant, who.tags.at("run"), arguments, parts_.clock.wall(), options_.max_points,
                  std::move(reply));
  });
}

void StoredRuns::on_pool(std::function<Result<sandbox::HostReply>()> work, const Callback<sandbox::HostReply>& reply) {
  const auto submitted = parts_.pool.submit([this, work = std::move(work), reply] {
    auto answer = std::make_shared<Result<sandbox::HostReply>>(work());
    parts_.loop.post([answer, reply] { reply(std::move(*answer)); });
  });
  if (!submitted.ok()) reply(submitted.error());
}

void StoredRuns::host_start(const Invocation& who, const Callback<sandbox::HostReply>& reply) {
  on_pool([this, tenant = who.tenant, id = who.tags.at("run")] { return begin(tenant, id); }, reply);
}

Result<sandbox::HostReply> StoredRuns::begin(const std::string& tenant, const std::string& id) {
  bool goes_on = false;
  SUNDOG_TRY(run, update(tenant, id, [&](Json& stored) -> Status {
               goes_on = begin_attempt(stored, parts_.clock.wall());
               return done;
             }));
  kill_point("runs.begun");
  const std::string checkpoint = run["checkpoint"];
  sandbox::HostReply reply;
  reply.result = {{"stop", !goes_on}, {"attempt", run["attempt"]}, {"checkpoint", checkpoint}};
  if (!goes_on) return reply;
  SUNDOG_CHECK(progress_.begin(tenant, id, run["attempt"].get<int64_t>()));
  if (!checkpoint.empty()) {
    SUNDOG_TRY(file, parts_.blobs.open(checkpoint));
    reply.fds.push_back(std::move(file));
  }
  return reply;
}

void StoredRuns::host_checkpoint(const Invocation& who, const Json& arguments,
                                 const Callback<sandbox::HostReply>& reply) {
  auto blob = get_string(arguments, "blob");
  if (!blob.ok() || !store::is_blob_id(*blob)) {
    reply(fail(Code::invalid_argument, "run.checkpoint takes the blob that file.commit gave"));
    return;
  }
  // Else a function could have the server open another tenant's blob for it at the next attempt.
  if (!who.granted_blobs.contains(*blob)) {
    reply(fail(Code::permission_denied, "This invocation was not granted blob " + *blob));
    return;
  }
  on_pool(
      [this, tenant = who.tenant, id = who.tags.at("run"), blob = *blob]() -> Result<sandbox::HostReply> {
        SUNDOG_CHECK(parts_.blobs.info(blob));
        SUNDOG_CHECK(update(tenant, id, [&](Json& run) -> Status {
          run["checkpoint"] = blob;
          return done;
        }));
        return sandbox::HostReply{Json::object(), {}};
      },
      reply);
}

// ---- ending ----

void StoredRuns::ended(const Invocation& event, const std::string& id, const Result<InvokeResult>& result) {
  // Its event is gone from the queue, and its record does not know yet.
  const auto token = unsettled_.hold(event.tenant, id);
  const auto submitted = parts_.pool.submit([this, tenant = event.tenant, id, result, token] {
    const auto finished = finish(tenant, id, result);
    if (!finished.ok()) {  // the sweep finds the run without its event and runs it again from its checkpoint
      parts_.log.error("run_not_finished", finished.error(), {{"run", id}});
    }
  });
  if (!submitted.ok()) parts_.loop.run_after(Millis{200}, [=, this, token = token] { ended(event, id, result); });
}

Status StoredRuns::finish(const std::string& tenant, const std::string& id, const Result<InvokeResult>& result) {
  kill_point("runs.finishing");
  const auto logged = progress_.latest(tenant, id);
  const auto finished = update(tenant, id, [&](Json& run) -> Status {
    end_run(run, result, logged, parts_.clock.wall());
    add_usage(run, tenant, result);
    return done;
  });
  kill_point("runs.finished");
  progress_.end(tenant, id);
  if (!finished.ok() && finished.error().code != Code::not_found) return finished.error();
  return done;
}

// Sums every attempt's usage, read from the ledger: attempts before a restart count too.
void StoredRuns::add_usage(Json& run, const std::string& tenant, const Result<InvokeResult>& result) const {
  const std::string request_id = run["request_id"];
  const auto now = parts_.clock.wall();
  std::map<std::string, meter::UsageRecord> attempts;
  const auto lived = std::chrono::hours(24 * 31);
  const auto read =
      parts_.ledger.read(tenant, now - lived, now + Millis{60'000}, [&](const meter::UsageRecord& record) {
        if (record.request_id == request_id) attempts.emplace(record.id, record);
        return true;
      });
  if (!read.ok()) parts_.log.error("run_usage_unread", read.error(), {{"run", run["id"]}});
  if (result.ok() && result->usage.request_id == request_id) attempts.emplace(result->usage.id, result->usage);
  int64_t billed = 0;
  meter::Money cost;
  for (const auto& [_, record] : attempts) {
    billed += record.billed_ms;
    cost += meter::cost_of(record, options_.prices.of(tenant)).total();
  }
  run["billed_ms"] = billed;
  run["cost"] = cost.number();
}

// ---- runs whose event was lost between two durable steps ----

void StoredRuns::start() {
  sweep();
}

void StoredRuns::stop() {
  if (sweep_timer_ != 0) parts_.loop.cancel(std::exchange(sweep_timer_, 0));
  for (const auto& [id, timer] : std::exchange(kill_timers_, {})) parts_.loop.cancel(timer);
  progress_.stop();
}

void StoredRuns::sweep_later() {
  sweep_timer_ = parts_.loop.run_after(options_.sweep, [this] { sweep(); });
}

void StoredRuns::sweep() {
  sweep_later();
  const auto submitted = parts_.pool.submit([this] {
    const auto looked = store::each_record(parts_.catalog, "runs/", [this](const store::Record& found) {
      const auto tenant = found.key.substr(5, found.key.find('/', 5) - 5);
      if (!is_over(found.value)) revive(tenant, found.value);
      return true;
    });
    if (!looked.ok()) parts_.log.error("run_sweep_failed", looked.error());
  });
  if (!submitted.ok()) parts_.log.error("run_sweep_skipped", submitted.error());
}

void StoredRuns::revive(const std::string& tenant, const Json& run) {
  const std::string id = run["id"];
  // Asked first: whatever was let go before this is in the queue, or its record has changed.
  if (progress_.running(tenant, id) || unsettled_.holds(tenant, id)) return;
  const auto waiting = parts_.queue.depth(invoke::event_queue(tenant, run["function"]));
  if (!waiting.ok() || *waiting > 0) return;  // may be ours
  // An event that has just left the queue is told as ended in that very turn of the loop: once the loop has come round,
  // ended() holds the run.
  parts_.loop.post([this, tenant, run] {
    const auto submitted = parts_.pool.submit([this, tenant, run] { revive_lost(tenant, run); });
    if (!submitted.ok()) parts_.log.error("run_not_revived", submitted.error(), {{"run", run["id"]}});
  });
}

void StoredRuns::revive_lost(const std::string& tenant, const Json& run) {
  const std::string id = run["id"];
  if (unsettled_.holds(tenant, id)) return;
  // Ended or begun while we looked: its record says so.
  const auto now = record(tenant, id);
  if (!now.ok() || *now != run || progress_.running(tenant, id)) return;
  if (run["attempt"].get<int64_t>() < options_.max_attempts) {
    const auto accepted = accept(tenant, run, unsettled_.hold(tenant, id));
    if (!accepted.ok()) parts_.log.error("run_not_revived", accepted.error(), {{"run", id}});
    return;
  }
  const auto given_up =
      fail(Code::unavailable, "The run was begun " + std::to_string(options_.max_attempts) + " times and never ended");
  const auto finished = finish(tenant, id, given_up);
  if (!finished.ok()) parts_.log.error("run_not_finished", finished.error(), {{"run", id}});
}

}  // namespace

std::unique_ptr<Runs> open_runs(Runs::Parts parts, Runs::Options options) {
  return std::make_unique<StoredRuns>(parts, std::move(options));
}

}  // namespace sundog::learn
