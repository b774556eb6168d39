#include "sandbox/environment_templates.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "base/crypto.h"

namespace sundog::sandbox {
namespace {

constexpr size_t kMaxModules = 10'000;    // of one environment
constexpr Duration kPause = Millis{250};  // a function has just started: its first answer comes first
constexpr Duration kAfterFailure = std::chrono::seconds(30);
constexpr size_t kMaxFile = 4 << 20;
constexpr const char* kFolder = "environment-templates";

std::string list_of(const std::vector<std::string>& names) {
  std::string text = names.front();
  if (names.size() > 1) text += " and " + std::to_string(names.size() - 1) + " more";
  return text;
}

std::vector<std::string> of_package(std::vector<std::string> modules, const std::string& package) {
  std::erase_if(modules, [&](const std::string& name) { return name != package && !name.starts_with(package + "."); });
  return modules;
}

}  // namespace

EnvironmentTemplates::EnvironmentTemplates(Starting& starting) : starting_(starting) {
  forget_removed();
}

EnvironmentTemplates::~EnvironmentTemplates() {
  if (timer_ != 0) starting_.loop.cancel(timer_);
  for (auto& [text, known] : known_) end(*known);
}

std::string EnvironmentTemplates::why_not(const TemplateSpec& spec) const {
  const auto& options = starting_.options;
  if (!options.share_environments) return "sharing is switched off";
  // It could not be ended alone, and what it takes could not be counted.
  if (starting_.launcher.cgroup_version() == 0) return "this machine has no cgroups for it";
  if (geteuid() != 0) return "without root there is no mount of its code to give to it";
  if (options.insecure_test) {
    auto others = options.left_out;
    others.landlock = others.network = false;
    if (others != LeftOut{}) return "a test leaves rules of a tree out";
  }
  if (auto reason = sandbox::why_not_shared(spec); !reason.empty()) return reason;
  const auto found = known_.find(key_of(spec).text());
  if (found != known_.end() && starting_.clock.mono() < found->second->not_before) {
    return "its environment's template has just ended: " + found->second->reason;
  }
  return "";
}

EnvironmentTemplates::Known& EnvironmentTemplates::known_of(const EnvironmentKey& key) {
  auto& known = known_[key.text()];
  if (!known) {
    known = std::make_unique<Known>();
    known->key = key;
    load(*known);
  }
  return *known;
}

std::shared_ptr<LocalEnvironment> EnvironmentTemplates::of(const TemplateSpec& spec) {
  auto& known = known_of(key_of(spec));
  if (!known.running || !known.running->alive()) start(known);
  known.used = starting_.clock.mono();
  // Once the caller has forked from it.
  starting_.loop.post([this, here = std::weak_ptr<bool>(here_)] {
    if (!here.expired()) look();
  });
  return known.running;
}

void EnvironmentTemplates::start(Known& known) {
  Limits limits;
  limits.memory_bytes = starting_.options.environment_memory_bytes;
  limits.cpu_millis = 1000;
  known.running = std::make_shared<LocalEnvironment>(starting_, known.key);
  known.told = known.imported = 0;
  known.bytes = known.usual;
  changed();
  LocalEnvironment::Events events;
  events.on_preloaded = [this, &known](const auto& failed, const auto& reason, const auto& culprit) {
    on_preloaded(known, failed, reason, culprit);
  };
  events.on_child_ended = [this] { look(); };
  events.on_end = [this, &known](const std::string& reason) { on_end(known, reason); };
  known.running->start(limits, std::move(events));
  tell(known);
}

void EnvironmentTemplates::learn(const TemplateSpec& spec, const Json& modules) {
  if (!modules.is_array()) return;
  auto& known = known_of(key_of(spec));
  measure(known);
  const auto before = known.modules.size();
  for (const auto& name : modules) {
    if (!name.is_string() || known.learned.size() >= kMaxModules) continue;
    const auto& text = name.get_ref<const std::string&>();
    if (is_module_name(text) && known.learned.insert(text).second) known.modules.push_back(text);
  }
  if (known.modules.size() == before) return;
  save(known);
  if (known.preload_timer != 0) return;
  known.preload_timer = starting_.loop.run_after(kPause, [this, &known] {
    known.preload_timer = 0;
    tell(known);
  });
}

void EnvironmentTemplates::tell(Known& known) {
  if (!known.running || !known.running->alive() || !known.running->preloading().empty()) return;
  if (known.told == known.modules.size()) return;
  std::vector<std::string> news(known.modules.begin() + int64_t(known.told), known.modules.end());
  known.told = known.modules.size();
  known.running->preload(std::move(news));
}

void EnvironmentTemplates::on_preloaded(Known& known, const std::vector<std::string>& failed, const std::string& reason,
                                        const std::string& culprit) {
  if (!reason.empty()) {
    const auto unfit = of_package(known.running->preloading(), culprit);
    refuse(known, unfit.empty() ? known.running->preloading() : unfit, reason);
    end(known);
    // The next function shall not wait for the rest. It ends: each turn refuses one at least.
    if (!known.modules.empty()) start(known);
    return;
  }
  if (!failed.empty()) refuse(known, failed, "it could not be imported");
  known.imported = known.told;
  const auto usual = std::exchange(known.usual, 0);
  measure(known);
  known.usual = known.bytes;
  // Not for every megabyte: it is only what is expected the next time.
  if (known.usual > usual + usual / 8 || known.usual < usual - usual / 8) save(known);
  // What was learned meanwhile.
  starting_.loop.post([this, &known, here = std::weak_ptr<bool>(here_)] {
    if (!here.expired()) tell(known);
  });
  keep_to_budget();
}

void EnvironmentTemplates::on_end(Known& known, const std::string& reason) {
  const auto ended = std::move(known.running);
  known.bytes = 0;
  changed();
  known.reason = reason;
  // What was told before it was ready is not what kept it from that, and the launcher takes every tree with it.
  const bool launcher_gone = starting_.launcher.has_ended();
  std::vector<std::string> unfit;
  if (ended->ever_ready() && !launcher_gone) unfit = of_package(ended->preloading(), ended->importing());
  refuse(known, unfit, reason);
  if (unfit.empty() && !launcher_gone) known.not_before = starting_.clock.mono() + kAfterFailure;
  starting_.log.warn("environment_template_ended", {{"tenant", known.key.tenant}, {"reason", reason}});
  bury(ended);
}

void EnvironmentTemplates::refuse(Known& known, const std::vector<std::string>& modules, const std::string& reason) {
  if (modules.empty()) return;
  known.reason = list_of(modules) + ": " + reason;
  known.refused.insert(modules.begin(), modules.end());
  const auto kept = int64_t(known.told);
  const auto out = [&](const std::string& name) { return known.refused.contains(name); };
  known.told -= size_t(std::count_if(known.modules.begin(), known.modules.begin() + kept, out));
  std::erase_if(known.modules, out);
  starting_.log.info("modules_not_shared", {{"tenant", known.key.tenant}, {"reason", known.reason}});
  save(known);
}

void EnvironmentTemplates::end(Known& known) {
  if (known.preload_timer != 0) starting_.loop.cancel(known.preload_timer);
  known.preload_timer = 0;
  if (!known.running) return;
  known.bytes = 0;
  changed();
  bury(std::exchange(known.running, nullptr));
}

void EnvironmentTemplates::end(const std::string& id) {
  const auto found = known_.find(id);
  if (found != known_.end()) end(*found->second);
}

// While it imports what it always does, it is counted as it will be then.
void EnvironmentTemplates::measure(Known& known) {
  if (!known.running) return;
  const bool importing = known.imported < known.told || !known.running->ever_ready();
  const auto bytes = std::max(known.running->memory_bytes(), importing ? known.usual : 0);
  if (std::exchange(known.bytes, bytes) != bytes) changed();
}

void EnvironmentTemplates::changed() {
  if (!on_change_ || std::exchange(telling_, true)) return;
  starting_.loop.post([this, here = std::weak_ptr<bool>(here_)] {
    if (here.expired()) return;
    telling_ = false;
    on_change_();
  });
}

// Not from inside its own callback.
void EnvironmentTemplates::bury(std::shared_ptr<LocalEnvironment> ended) {
  ended->retire();
  ended_.push_back(std::move(ended));
  starting_.loop.post([this, here = std::weak_ptr<bool>(here_)] {
    if (!here.expired()) ended_.clear();
  });
}

void EnvironmentTemplates::look() {
  const auto now = starting_.clock.mono();
  std::optional<MonoTime> next;
  changed();
  for (auto& [text, known] : known_) {
    measure(*known);
    if (!known->running || known->running->children() > 0) continue;
    const auto until = known->used + starting_.options.environment_idle;
    if (until <= now) {
      end(*known);
    } else {
      next = std::min(next.value_or(until), until);
    }
  }
  keep_to_budget();
  if (timer_ != 0) starting_.loop.cancel(timer_);
  timer_ = 0;
  if (!next) return;
  timer_ = starting_.loop.run_after(*next - now, [this] {
    timer_ = 0;
    look();
  });
}

void EnvironmentTemplates::keep_to_budget() {
  auto total = memory_bytes();
  while (total > starting_.options.environment_budget_bytes) {
    // One without functions first, then the one that no function was started from for longest; never the last used.
    Known* least = nullptr;
    const Known* latest = nullptr;
    for (auto& [text, known] : known_) {
      if (!known->running) continue;
      if (!latest || known->used > latest->used) latest = known.get();
      const auto rank = [](const Known& one) { return std::pair(one.running->children() > 0, one.used); };
      if (!least || rank(*known) < rank(*least)) least = known.get();
    }
    if (!least || least == latest) return;
    total -= least->bytes;
    end(*least);
  }
}

int64_t EnvironmentTemplates::memory_bytes() const {
  int64_t total = 0;
  for (const auto& [text, known] : known_) total += known->bytes;
  return total;
}

int64_t EnvironmentTemplates::to_come(const std::string& id) const {
  const auto found = known_.find(id);
  return found == known_.end() || found->second->running ? 0 : found->second->usual;
}

std::vector<SharedTemplate> EnvironmentTemplates::shared() const {
  std::vector<SharedTemplate> all;
  for (const auto& [text, known] : known_) {
    if (!known->running) continue;
    all.push_back({text, known->key.tenant, known->bytes, static_cast<int>(known->running->children()), known->used});
  }
  return all;
}

Json EnvironmentTemplates::describe() const {
  auto rows = Json::array();
  for (const auto& [text, known] : known_) {
    auto packages = Json::array();
    for (const auto& folder : known->key.site_packages) packages.push_back(folder.filename().string());
    const auto& running = known->running;
    const char* const state = !running                         ? "ended"
                              : !running->preloading().empty() ? "importing"
                              : running->ever_ready()          ? "ready"
                                                               : "starting";
    rows.push_back({{"tenant", known->key.tenant},
                    {"packages", packages},
                    {"network", known->key.network == Network::host ? "host" : "none"},
                    {"state", state},
                    {"memory_mb", double(running ? running->memory_bytes() : 0) / (1 << 20)},
                    {"functions", running ? running->children() : 0},
                    {"modules", running ? known->imported : 0},
                    {"reason", known->reason}});
  }
  return rows;
}

Path EnvironmentTemplates::file_of(const Known& known) const {
  return starting_.options.data / kFolder / (sha256_hex(known.key.text()).substr(0, 32) + ".json");
}

void EnvironmentTemplates::load(Known& known) const {
  const auto text = read_file(file_of(known), kMaxFile);
  if (!text.ok()) return;
  const auto json = parse_json(*text, "what an environment's template imports");
  if (!json.ok() || !json->is_object()) return;
  known.usual = std::clamp<int64_t>(get_int(*json, "bytes", 0).ok() ? *get_int(*json, "bytes", 0) : 0, 0,
                                    starting_.options.environment_memory_bytes);
  for (const auto& name : json->value("refused", Json::array())) {
    if (name.is_string()) known.refused.insert(name.get<std::string>());
  }
  known.learned = known.refused;
  for (const auto& name : json->value("modules", Json::array())) {
    if (!name.is_string() || !is_module_name(name.get_ref<const std::string&>())) continue;
    if (known.learned.insert(name.get<std::string>()).second) known.modules.push_back(name.get<std::string>());
  }
}

// What was learned of environments that are gone.
void EnvironmentTemplates::forget_removed() const {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(starting_.options.data / kFolder, error)) {
    const auto text = read_file(entry.path(), kMaxFile);
    const auto json =
        text.ok() ? parse_json(*text, "what an environment's template imports") : Result<Json>(text.error());
    bool there = json.ok() && json->is_object();
    if (there) {
      for (const auto& folder : json->value("packages", Json::array())) {
        there = there && folder.is_string() && std::filesystem::exists(folder.get<std::string>(), error);
      }
    }
    if (!there) std::filesystem::remove(entry.path(), error);
  }
}

// A file that is lost costs one import: no fsync.
void EnvironmentTemplates::save(const Known& known) const {
  const auto file = file_of(known);
  std::error_code ignored;
  std::filesystem::create_directories(file.parent_path(), ignored);
  auto packages = Json::array();
  for (const auto& folder : known.key.site_packages) packages.push_back(folder.string());
  const Path part = file.string() + ".part";
  {
    std::ofstream out(part);
    out << dump(
        {{"packages", packages}, {"modules", known.modules}, {"refused", known.refused}, {"bytes", known.usual}});
    if (!out) return;
  }
  std::filesystem::rename(part, file, ignored);
}

}  // namespace sundog::sandbox
