#include "app/server.h"

#include <sys/stat.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <utility>

#include "api/api.h"
#include "api/bill_routes.h"
#include "api/blob_routes.h"
#include "api/data_routes.h"
#include "api/environment_routes.h"
#include "api/function_routes.h"
#include "api/inference_routes.h"
#include "api/keys.h"
#include "api/lambda_routes.h"
#include "api/learn_routes.h"
#include "api/model_routes.h"
#include "api/server_routes.h"
#include "app/data_folder.h"
#include "base/ids.h"
#include "data/data_jobs.h"
#include "data/datasets.h"
#include "data/jobs.h"
#include "functions/environments.h"
#include "functions/functions.h"
#include "invoke/events.h"
#include "invoke/function_logs.h"
#include "invoke/invoker.h"
#include "learn/runs.h"
#include "learn/studies.h"
#include "meter/budget_store.h"
#include "meter/budgets.h"
#include "meter/price_plan.h"
#include "meter/usage.h"
#include "models/endpoints.h"
#include "models/predictions.h"
#include "models/registry.h"
#include "net/asio_loop.h"
#include "net/http.h"
#include "sandbox/local_sandbox.h"
#include "store/file_blobs.h"
#include "store/sqlite_catalog.h"
#include "store/sqlite_queue.h"

namespace sundog::app {
namespace {

constexpr int kPoolThreads = 8;
constexpr int kJobThreads = 4;
constexpr Millis kLastAnswers{2'000};
constexpr Millis kAnswerCheck{10};

class WholeServer final : public Server {
 public:
  explicit WholeServer(const Options& options) : options_(options), log_(options.log_level) {}
  ~WholeServer() override;

  Status open();
  int run() override;

 private:
  Status open_stores();
  Status open_budgets();
  void tell_alarm(const meter::Alarm& alarm);
  Status open_runtime();
  Status open_work();
  Status open_api();
  void add_builtins();
  void forget_removed(const std::string& tenant, const std::string& name);
  bool named(const std::string& tenant, const std::string& blob) const;
  bool may_use_blob(const std::string& tenant, const std::string& blob) const;
  void add_routes();
  void add_gauges();
  Status announce();
  void on_signal();
  void watch_lifeline();
  void leave_once_answered(Millis left);
  void stop_working();

  Options options_;
  SystemClock clock_;
  Log log_;
  MonoTime started_ = clock_.mono();
  DataFolder folder_;
  net::AsioLoop loop_;
  std::unique_ptr<store::Catalog> catalog_;
  std::unique_ptr<store::Queue> queue_;
  std::unique_ptr<store::Blobs> blobs_;
  meter::PricePlans price_plans_;
  std::unique_ptr<meter::Ledger> ledger_;
  std::unique_ptr<meter::Budgets> budgets_;
  std::unique_ptr<Pool> io_;
  std::unique_ptr<Pool> builders_;
  std::unique_ptr<invoke::FunctionLogs> logs_;
  std::unique_ptr<functions::Environments> environments_;
  std::unique_ptr<functions::Functions> functions_;
  std::unique_ptr<sandbox::Sandbox> sandbox_;
  std::unique_ptr<invoke::Invoker> invoker_;
  std::unique_ptr<invoke::Events> events_;
  std::unique_ptr<data::Jobs> jobs_;
  std::unique_ptr<data::Datasets> datasets_;
  std::unique_ptr<learn::Runs> runs_;
  std::unique_ptr<learn::Studies> studies_;
  std::unique_ptr<models::Registry> registry_;
  std::unique_ptr<models::Endpoints> endpoints_;
  std::unique_ptr<models::Predictions> predictions_;
  api::OpenStreams streams_;
  std::unique_ptr<api::Api> api_;
  std::unique_ptr<net::HttpServer> http_;
  int signals_ = 0;
  net::Loop::Id lifeline_ = 0;
};

Status WholeServer::open() {
  SUNDOG_TRY(folder, DataFolder::open(options_.data));
  folder_ = std::move(folder);
  SUNDOG_CHECK(open_stores());
  SUNDOG_CHECK(open_runtime());
  SUNDOG_CHECK(open_work());
  return open_api();
}

Status WholeServer::open_stores() {
  SUNDOG_TRY(catalog, store::open_sqlite_catalog(folder_.catalog()));
  catalog_ = std::move(catalog);
  SUNDOG_TRY(queue, store::open_sqlite_queue(folder_.queue(), clock_));
  queue_ = std::move(queue);
  SUNDOG_TRY(blobs, store::open_file_blobs(folder_.blobs()));
  blobs_ = std::move(blobs);
  SUNDOG_CHECK(meter::write_default_price_plan(folder_.price_plan()));
  SUNDOG_TRY(prices, meter::load_price_plans(folder_.price_plan()));
  price_plans_ = std::move(prices);
  SUNDOG_TRY(ledger, meter::open_ledger(folder_.ledger(), clock_, log_));
  ledger_ = std::move(ledger);
  return open_budgets();
}

Status WholeServer::open_budgets() {
  budgets_ = std::make_unique<meter::Budgets>(price_plans_, clock_);
  budgets_->on_alarm([this](const meter::Alarm& alarm) { loop_.post([this, alarm] { tell_alarm(alarm); }); });
  SUNDOG_TRY(set, meter::read_budgets(*catalog_));
  return budgets_->restore(set, *ledger_);
}

// A restart before it is marked tells it once more.
void WholeServer::tell_alarm(const meter::Alarm& alarm) {
  const Json event = meter::alarm_json(alarm, price_plans_.of(alarm.budget.tenant));
  log_.warn("budget_alarm", event);
  const Status marking = io_->submit([this, alarm] {
    const Status marked = meter::mark_alarmed(*catalog_, alarm);
    if (!marked.ok()) log_.error("budget_alarm_not_marked", marked.error());
  });
  if (!marking.ok()) log_.error("budget_alarm_not_marked", marking.error());
  if (alarm.budget.on_alarm.empty()) return;
  invoke::Invocation invocation;
  invocation.tenant = alarm.budget.tenant;
  invocation.function = alarm.budget.on_alarm;
  invocation.payload = dump(event);
  events_->accept(std::move(invocation), [this, event](const Result<std::string>& accepted) {
    if (!accepted.ok()) log_.error("budget_alarm_not_sent", accepted.error(), event);
  });
}

Status WholeServer::open_runtime() {
  io_ = std::make_unique<Pool>("io", Pool::Options{.threads = kPoolThreads, .queue_limit = 4096});
  builders_ = std::make_unique<Pool>("builders", Pool::Options{.threads = 2, .queue_limit = 1024});
  logs_ = invoke::open_function_logs(clock_, *io_, {.folder = folder_.logs()});
  SUNDOG_TRY(environments, functions::open_environments(
                               *catalog_, clock_, *builders_,
                               {.folder = folder_.environments(), .uv = options_.uv, .pythons = options_.pythons}));
  environments_ = std::move(environments);
  SUNDOG_TRY(functions,
             functions::open_functions(*catalog_, *blobs_, *environments_, clock_, {.folder = folder_.code()}));
  functions_ = std::move(functions);
  sandbox::LocalSandboxOptions sandbox;
  sandbox.launcher = options_.launcher;
  sandbox.runtime = options_.runtime;
  sandbox.native_extension = options_.native;
  sandbox.data = folder_.path();
  sandbox.strict = options_.strict;
  sandbox.environment_idle = options_.idle_environment;
  sandbox.environment_budget_bytes = (options_.memory_mb << 20) / 4;
  SUNDOG_TRY(local, sandbox::start_local_sandbox(loop_, clock_, log_, sandbox));
  sandbox_ = std::move(local);
  add_builtins();
  functions_->on_change([this](const std::string& tenant, const std::string& name) { forget_removed(tenant, name); });
  invoke::InvokerOptions options;
  options.memory_budget_bytes = options_.memory_mb << 20;
  options.queue_limit = options_.queue_limit;
  options.idle_instance = options_.idle_instance;
  options.idle_template = options_.idle_template;
  options.parked_most = options_.parked_most;
  options.prebuild = !options_.no_prebuild;
  options.variables = options_.arithmetic;
  options.runtime_api = options_.runtime_api;
  invoker_ = invoke::make_invoker(loop_, clock_, *io_, log_, *sandbox_, *functions_, *environments_, *blobs_, *ledger_,
                                  *budgets_, *logs_, options);
  events_ = invoke::make_events(loop_, clock_, *io_, log_, *queue_, *invoker_, *budgets_, {});
  return done;
}

// What other modules keep for a function goes with it.
void WholeServer::forget_removed(const std::string& tenant, const std::string& name) {
  const Status submitted = io_->submit([this, tenant, name] {
    const auto found = functions_->get(tenant, name, "");
    if (found.ok() || found.error().code != Code::not_found) return;
    logs_->remove(tenant, name);
    const Status purged = queue_->purge(invoke::event_queue(tenant, name));
    if (!purged.ok()) log_.error("events_not_purged", purged.error(), {{"function", name}});
    // The operator's stays: else the tenant would be rid of it by deploying anew.
    const auto budget = budgets_->find(tenant, name);
    if (!budget || budget->by_operator) return;
    const Status removed = meter::remove_budget(*catalog_, tenant, name);
    if (!removed.ok()) log_.error("budget_not_removed", removed.error(), {{"function", name}});
    budgets_->remove(tenant, name);
  });
  if (!submitted.ok()) log_.error("removed_function_not_forgotten", submitted.error(), {{"function", name}});
}

// Data work is a function like any other, but native and Sundog's own.
void WholeServer::add_builtins() {
  functions::Version worker;
  worker.config.name = "sundog-data";
  worker.config.runtime = "native";
  worker.config.kind = functions::Kind::data;
  worker.config.memory_mb = 512;
  worker.config.timeout_s = 900;
  worker.version = "1";
  worker.revision_id = SUNDOG_VERSION;
  worker.state = functions::State::active;
  worker.native_command = {"/opt/sundog/data/bin/sundog-data"};
  worker.native_mounts = {{options_.data_worker, "/opt/sundog/data/bin/sundog-data", false},
                          {options_.pyarrow, "/opt/sundog/pyarrow", false}};
  worker.config.variables = {{"LD_LIBRARY_PATH", "/opt/sundog/pyarrow"}};
  functions_->add_builtin(std::move(worker));
}

Status WholeServer::open_work() {
  jobs_ = data::make_jobs(loop_, clock_, log_, *catalog_, *invoker_, kJobThreads);
  datasets_ = data::open_datasets(*catalog_, clock_);
  data::add_data_jobs(*jobs_, *datasets_, *blobs_, clock_);
  runs_ = learn::open_runs(
      {loop_, clock_, *io_, log_, *catalog_, *queue_, *blobs_, *functions_, *datasets_, *events_, *ledger_},
      {.prices = price_plans_});
  runs_->register_host_calls(*invoker_);
  studies_ = learn::open_studies(*catalog_, clock_, *datasets_, *runs_);
  registry_ = models::open_registry(
      *catalog_, *blobs_, clock_, *runs_,
      [this](const std::string& tenant, const std::string& blob) { return may_use_blob(tenant, blob); });
  SUNDOG_TRY(endpoints, models::open_endpoints({*catalog_, *blobs_, clock_, *functions_, *registry_, *jobs_}));
  endpoints_ = std::move(endpoints);
  predictions_ = models::make_predictions(*jobs_, *datasets_, *endpoints_, clock_);
  return done;
}

// Whether something of the tenant's is made of the blob.
bool WholeServer::named(const std::string& tenant, const std::string& blob) const {
  return datasets_->names_blob(tenant, blob) || runs_->names_blob(tenant, blob) ||
         (registry_ != nullptr && registry_->names_blob(tenant, blob));
}

bool WholeServer::may_use_blob(const std::string& tenant, const std::string& blob) const {
  return catalog_->get("blob-owners/" + tenant + "/" + blob).ok() || named(tenant, blob);
}

Status WholeServer::open_api() {
  SUNDOG_TRY(keys, api::Keys::open(*catalog_, clock_, folder_.path(),
                                   ::geteuid() == 0 ? api::Tenancy::many : api::Tenancy::one));
  api_ = std::make_unique<api::Api>(clock_, log_, std::move(keys), api::Api::Options{});
  add_routes();
  add_gauges();
  net::HttpServer::Options options;
  options.host = options_.host;
  options.port = options_.port;
  options.error_answer = api_->error_answer();
  SUNDOG_TRY(http, net::HttpServer::listen(loop_, options, api_->body_policy(), api_->handler()));
  http_ = std::move(http);
  return done;
}

void WholeServer::add_routes() {
  api::Router& router = api_->router();
  api::ServerFacts facts{.version = SUNDOG_VERSION,
                         .data_folder = folder_.path(),
                         .pythons = {},
                         .open_metrics = !options_.closed_metrics};
  for (const auto& [version, path] : options_.pythons) facts.pythons.push_back(version);
  api::add_bill_routes(router, {clock_, *ledger_, price_plans_, *budgets_, *catalog_, *functions_, *invoker_});
  api::add_server_routes(*api_, clock_, *invoker_, [this] { return sandbox_->doctor(); }, facts);
  api::add_lambda_routes(router, *functions_, *environments_, *invoker_, *events_, *blobs_);
  api::add_function_routes(router, *functions_, *logs_, *queue_, api_->pool(), loop_, streams_);
  api::add_environment_routes(router, *environments_, *catalog_, loop_);
  api::add_blob_routes(router, *blobs_, *catalog_, clock_,
                       [this](const std::string& tenant, const std::string& blob) { return named(tenant, blob); });
  api::add_data_routes(
      router, *datasets_, *jobs_, *blobs_, *invoker_, loop_,
      [this](const std::string& tenant, const std::string& blob) { return may_use_blob(tenant, blob); });
  api::add_learn_routes(router, *runs_, *studies_);
  api::add_model_routes(router, *registry_, *endpoints_, *predictions_, *invoker_);
  api::add_inference_routes(router, *endpoints_, *functions_, *invoker_, [this] { return !api_->draining(); });
}

void WholeServer::add_gauges() {
  api_->metrics().add_samples([this] {
    const Json fleet = invoker_->fleet();
    std::vector<api::Sample> samples;
    samples.push_back({"sundog_instances", "Instances that exist now.", {}, double(fleet["instances"].size())});
    samples.push_back({"sundog_templates", "Parked templates that exist now.", {}, double(fleet["templates"].size())});
    samples.push_back({"sundog_queued", "Invocations waiting for an instance.", {}, fleet.value("queued", 0.0)});
    samples.push_back(
        {"sundog_memory_bytes", "Memory admitted for instances and templates.", {}, fleet.value("memory_bytes", 0.0)});
    for (const auto& [what, gb_seconds] : fleet.value("held", Json::object()).items()) {
      samples.push_back({"sundog_held_gb_seconds",
                         "Memory times time since the start, by what it was held for.",
                         {{"what", what}},
                         gb_seconds.get<double>()});
    }
    return samples;
  });
}

// Lets the SDK and the CLI of this machine's user find the server, now that it answers.
Status WholeServer::announce() {
  const std::string host = options_.host == "0.0.0.0" || options_.host == "::" ? "127.0.0.1" : options_.host;
  const std::string url = "http://" + host + ":" + std::to_string(http_->port());
  SUNDOG_TRY(client, api_->keys().ensure_first_key(url));
  log_.info("ready", {{"url", url},
                      {"data", folder_.path().string()},
                      {"version", SUNDOG_VERSION},
                      {"after_ms", std::chrono::duration_cast<Millis>(clock_.mono() - started_).count()}});
  return done;
}

int WholeServer::run() {
  loop_.on_signal([this](int) { on_signal(); });
  if (options_.until_stdin_ends) watch_lifeline();
  runs_->start();
  events_->start();
  const Status jobs = jobs_->start();
  const Status announced = jobs.ok() ? announce() : jobs;
  if (!announced.ok()) {
    log_.error("start_failed", announced.error());
    stop_working();
    return 1;
  }
  loop_.run();
  stop_working();
  return signals_ > 1 ? 1 : 0;
}

void WholeServer::on_signal() {
  ++signals_;
  if (signals_ > 1) {
    log_.warn("ended_at_once", {{"reason", "a second signal"}});
    loop_.stop();
    return;
  }
  log_.info("draining", {{"grace_ms", options_.grace.count()}});
  api_->drain();
  // Before the invoker: a job whose next invocation is refused would fail instead of waiting for the next server.
  jobs_->ask_to_stop();
  events_->stop();
  runs_->stop();
  invoker_->drain(options_.grace, [this] {
    http_->drain();
    streams_.end_all();
    leave_once_answered(kLastAnswers);
  });
}

// Whoever started us holds the other end of standard input; the kernel closes it also when that one is killed.
void WholeServer::watch_lifeline() {
  lifeline_ = loop_.watch_readable(STDIN_FILENO, [this] {
    char ignored[256];
    if (::read(STDIN_FILENO, ignored, sizeof ignored) > 0) return;
    loop_.unwatch(lifeline_);
    log_.info("starter_ended");
    if (signals_ == 0) on_signal();
  });
}

// Answers that were handed over still have to leave; a client that does not take its own is not waited for.
void WholeServer::leave_once_answered(Millis left) {
  if (http_->open_connections() == 0 || left <= Millis{0}) {
    loop_.stop();
    return;
  }
  loop_.run_after(kAnswerCheck, [this, left] { leave_once_answered(left - kAnswerCheck); });
}

void WholeServer::stop_working() {
  jobs_->stop();
  const Status synced = ledger_->sync();
  if (!synced.ok()) log_.error("ledger_not_synced", synced.error(), {{"hint", synced.error().hint}});
  log_.info("stopped");
}

// Members end in reverse order; the pools' threads end before what they use, and so do the calls that the loop holds.
WholeServer::~WholeServer() {
  http_.reset();
  for (Pool* pool : {api_ ? &api_->pool() : nullptr, io_.get(), builders_.get()}) {
    if (pool != nullptr) pool->stop();
  }
  loop_.let_go();
  api_.reset();
}

}  // namespace

Result<std::unique_ptr<Server>> Server::open(const Options& options) {
  auto server = std::make_unique<WholeServer>(options);
  SUNDOG_CHECK(server->open());
  return std::unique_ptr<Server>(std::move(server));
}

}  // namespace sundog::app
