#include "functions/environments.h"

#include <deque>
#include <map>
#include <mutex>

#include "base/kill_point.h"
#include "functions/environment_builder.h"
#include "functions/environment_records.h"
#include "functions/requirements.h"
#include "store/each_record.h"

namespace sundog::functions {
namespace {

constexpr int kParallelBuilds = 2;
constexpr std::string_view kPrefix = "environments/";

class StoredEnvironments final : public Environments {
 public:
  StoredEnvironments(store::Catalog& catalog, Clock& clock, Pool& pool, Options options)
      : catalog_(catalog),
        clock_(clock),
        pool_(pool),
        options_(std::move(options)),
        builder_(options_.folder, options_.uv, options_.build_timeout) {}

  ~StoredEnvironments() override {
    builder_.stop();
    std::unique_lock lock(mutex_);
    queue_.clear();  // they are still "building" in the catalog, so that the next start goes on with them
    idle_.wait(lock, [this] { return running_ == 0; });
  }
  StoredEnvironments(const StoredEnvironments&) = delete;
  StoredEnvironments& operator=(const StoredEnvironments&) = delete;

  Result<Environment> ensure(const std::string& python_version, std::vector<std::string> packages) override {
    SUNDOG_CHECK(python(python_version));
    SUNDOG_TRY(sorted, checked_requirements(std::move(packages)));
    const std::string id = environment_id(python_version, sorted);
    const std::lock_guard turn(ensure_mutex_);  // one record a set, however many ask at once
    auto known = get(id);
    if (known.ok() && known->state != Environment::State::failed) return known;
    Environment environment;
    environment.id = id;
    environment.python = python_version;
    environment.packages = std::move(sorted);
    if (environment.packages.empty()) {
      finish(environment, builder_.build(environment.python, {}, {}), clock_.mono());
      if (environment.state == Environment::State::failed) {
        return fail(Code::unavailable, "The empty environment could not be made: " + environment.log);
      }
      SUNDOG_CHECK(catalog_.put(std::string(kPrefix) + id, environment_json(environment)));
      remember(environment);
      return environment;
    }
    SUNDOG_CHECK(catalog_.put(std::string(kPrefix) + id, environment_json(environment)));
    kill_point("environments.accepted");
    remember(environment);
    SUNDOG_CHECK(enqueue(id));
    return environment;
  }

  Result<Environment> get(const std::string& id) const override {
    const std::lock_guard lock(mutex_);
    const auto found = environments_.find(id);
    if (found != environments_.end()) return found->second;
    return fail(Code::not_found, "No environment \"" + id.substr(0, 64) + "\".", "POST /v1/environments makes one.");
  }

  void on_built(std::function<void(const Environment&)> callback) override {
    const std::lock_guard lock(mutex_);
    callbacks_.push_back(std::move(callback));
  }

  Result<Path> python(const std::string& version) const override {
    std::string offered;
    for (const auto& [name, interpreter] : options_.pythons) {
      if (name == version) return interpreter;
      offered += (offered.empty() ? "" : ", ") + name;
    }
    return fail(Code::invalid_argument, "Python \"" + version.substr(0, 32) + "\" is not on this machine.",
                "It has " + (offered.empty() ? std::string("none") : offered) + ".");
  }

  Status load() {
    return store::each_record(catalog_, kPrefix, [this](const store::Record& record) -> Result<bool> {
      auto environment = environment_from(record.value);
      if (!environment.ok()) {
        return fail(environment.error().code,
                    "The record " + record.key + " cannot be read: " + environment.error().message,
                    "Put back the data folder's catalog from a backup; nothing was changed.");
      }
      adopt(*std::move(environment));
      return true;
    });
  }

 private:
  void adopt(Environment environment) {
    using State = Environment::State;
    environment.folder = environment.content.empty() ? Path() : builder_.folder_of(environment.content);
    // Also what says it is ready but has lost its folder, as after a restore from a backup.
    const bool lost = environment.state == State::ready && !std::filesystem::is_directory(environment.folder);
    if (lost) environment.state = State::building;
    remember(environment);
    if (environment.state != State::building) return;
    if (enqueue(environment.id).ok()) return;
    environment.state = State::failed;
    environment.log = "The build could not go on after a restart: too much other work. Ask for it again.";
    remember(environment);
  }

  void remember(const Environment& environment) {
    const std::lock_guard lock(mutex_);
    environments_[environment.id] = environment;
  }

  Status enqueue(const std::string& id) {
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(id);
      if (running_ == kParallelBuilds) return done;  // one of them takes it when it is through
      ++running_;
    }
    const auto submitted = pool_.submit([this] { work(); });
    if (submitted.ok()) return done;
    const std::lock_guard lock(mutex_);
    --running_;
    if (running_ == 0) std::erase(queue_, id);
    idle_.notify_all();
    return running_ == 0 ? submitted : Status(done);
  }

  void work() {
    while (true) {
      std::string id;
      {
        const std::lock_guard lock(mutex_);
        if (queue_.empty()) {
          --running_;
          idle_.notify_all();
          return;
        }
        id = queue_.front();
        queue_.pop_front();
      }
      const auto environment = get(id);
      if (environment.ok()) build(*environment);
    }
  }

  void build(Environment environment) {
    const MonoTime begin = clock_.mono();
    const auto interpreter = python(environment.python);
    Built built;
    if (interpreter.ok())
      built = builder_.build(environment.python, *interpreter, environment.packages);
    else
      built.log = interpreter.error().text();
    if (builder_.stopping()) return;  // its record still says "building": the next start goes on with it
    finish(environment, std::move(built), begin);
    // If this does not reach the disk the record still says "building", and the next start builds again.
    const auto stored = catalog_.put(std::string(kPrefix) + environment.id, environment_json(environment));
    if (!stored.ok()) environment.log += "\n" + stored.error().text();
    kill_point("environments.ready");
    remember(environment);
    std::vector<std::function<void(const Environment&)>> callbacks;
    {
      const std::lock_guard lock(mutex_);
      callbacks = callbacks_;
    }
    for (const auto& callback : callbacks) callback(environment);
  }

  void finish(Environment& environment, Built built, MonoTime begin) const {
    environment.state = built.ok ? Environment::State::ready : Environment::State::failed;
    environment.resolved = std::move(built.resolved);
    environment.content = built.ok ? built.content : "";
    environment.folder = built.ok ? builder_.folder_of(built.content) : Path();
    environment.log = std::move(built.log);
    environment.bytes = built.bytes;
    environment.build_seconds = std::chrono::duration<double>(clock_.mono() - begin).count();
  }

  store::Catalog& catalog_;
  Clock& clock_;
  Pool& pool_;
  Options options_;
  EnvironmentBuilder builder_;
  std::mutex ensure_mutex_;
  mutable std::mutex mutex_;
  std::condition_variable idle_;
  std::map<std::string, Environment> environments_;
  std::deque<std::string> queue_;
  int running_ = 0;
  std::vector<std::function<void(const Environment&)>> callbacks_;
};

}  // namespace

Result<std::unique_ptr<Environments>> open_environments(store::Catalog& catalog, Clock& clock, Pool& pool,
                                                        Environments::Options options) {
  auto environments = std::make_unique<StoredEnvironments>(catalog, clock, pool, std::move(options));
  SUNDOG_CHECK(environments->load());
  return std::unique_ptr<Environments>(std::move(environments));
}

}  // namespace sundog::functions
