#include "sandbox/local_template.h"

#include <sys/wait.h>

#include "sandbox/endings.h"

namespace sundog::sandbox {
namespace {

constexpr size_t kInitOutput = 64 << 10;
constexpr Duration kForkLimit = std::chrono::seconds(20);         // hooks after the restore may take 10 s
constexpr Duration kInterpreterStart = std::chrono::seconds(10);  // before init's own time begins to matter
const std::string kRuntime = "/opt/sundog/runtime/sundog/runtime";
const std::string kExtension = "/opt/sundog/native/_native.abi3.so";

std::string environment_folder(size_t index) {
  return "/opt/sundog/env/" + std::to_string(index);
}

// A wait status as the launcher tells it: exit status, or 128 + signal.
int plain_status(int64_t status) {
  const int raw = int(status);
  return WIFSIGNALED(raw) ? 128 + WTERMSIG(raw) : WEXITSTATUS(raw);
}

Limits for_init(Limits limits) {
  // As on Lambda, init has a whole core whatever the memory size.
  limits.cpu_millis = std::max(limits.cpu_millis, 1000);
  return limits;
}

}  // namespace

void Starting::adopt(std::unique_ptr<LocalInstance> instance, Duration limit,
                     Callback<std::unique_ptr<Instance>> on_ready) {
  auto* key = instance.get();
  instances[key] = std::move(instance);
  const auto timer = loop.run_after(limit, [key] { key->kill(); });
  key->on_ready([this, key, timer, on_ready = std::move(on_ready)](const Status& status) {
    loop.cancel(timer);
    auto found = instances.find(key);
    std::unique_ptr<Instance> ready = std::move(found->second);
    instances.erase(found);
    if (status.ok()) return on_ready(std::move(ready));
    // Not from inside its own callback.
    loop.post([dead = std::shared_ptr<Instance>(std::move(ready))] {});
    on_ready(status.error());
  });
}

uint32_t Starting::rules_left_out() const {
  if (!options.insecure_test) return 0;
  const auto& out = options.left_out;
  uint32_t rules = 0;
  for (const auto& [left_out, rule] : {std::pair{out.seccomp, launcher::kRuleSeccomp},
                                       {out.user_namespace, launcher::kRuleUserNamespace},
                                       {out.network, launcher::kRuleNetwork},
                                       {out.read_only, launcher::kRuleReadOnly},
                                       {out.tree, launcher::kRuleTree},
                                       {out.pids, launcher::kRulePids},
                                       {out.ipc, launcher::kRuleIpc},
                                       {out.uts, launcher::kRuleUts},
                                       {out.rights, launcher::kRuleRights},
                                       {out.setuid, launcher::kRuleSetuid}}) {
    if (left_out) rules |= rule;
  }
  return rules;
}

TreeStart Starting::python_tree(const TemplateSpec& spec, uint64_t cell, UniqueFd socket, UniqueFd output) const {
  TreeStart tree;
  tree.kind = launcher::TreeKind::python_template;
  std::error_code ignored;
  const Path interpreter = std::filesystem::canonical(spec.python, ignored);
  const Path prefix = interpreter.parent_path().parent_path();
  tree.argv = {interpreter.string(), "-I", "-S", "-B", "-X", "utf8", kRuntime + "/template.py", kExtension};
  tree.environment = {"PATH=/usr/bin:/bin", "LANG=C.UTF-8"};
  if (prefix != "/usr") tree.mounts.push_back({prefix, prefix.string(), false});
  tree.mounts.push_back({options.runtime, kRuntime, false});
  tree.mounts.push_back({options.native_extension, kExtension, false});
  tree.mounts.push_back({spec.code, "/var/task", false});
  for (size_t i = 0; i < spec.site_packages.size(); ++i) {
    tree.mounts.push_back({spec.site_packages[i], environment_folder(i), false});
  }
  tree.limits = for_init(spec.limits);
  tree.network = spec.network;
  tree.without_rules = rules_left_out();
  tree.cell = cell;
  tree.socket = std::move(socket);
  tree.output = std::move(output);
  return tree;
}

Frame Starting::configuration(const TemplateSpec& spec, bool alone) const {
  auto paths = Json::array({"/var/task"});
  for (size_t i = 0; i < spec.site_packages.size(); ++i) paths.push_back(environment_folder(i));
  Frame frame;
  frame.type = FrameType::configure;
  frame.json = dump({{"handler", spec.handler},
                     {"paths", paths},
                     {"environment", spec.environment},
                     {"tmp_options", "size=" + std::to_string(spec.limits.tmp_bytes) + ",mode=1777"},
                     {"private_tmp", !(options.insecure_test && options.left_out.private_tmp)},
                     {"landlock", !(options.insecure_test && options.left_out.landlock)},
                     {"filters", !(options.insecure_test && options.left_out.seccomp)},
                     {"alone", alone}});
  return frame;
}

LocalTemplate::~LocalTemplate() {
  *here_ = false;
  if (init_timer_ != 0) starting_.loop.cancel(init_timer_);
  for (auto& [number, exit] : exits_) exit->tell(-1);
  if (control_) control_->close();
  starting_.launcher.remove_cell(cell_.id);
  for (auto& cell : spare_) starting_.launcher.remove_cell(cell.id);
  // Its instances go on, also when it was killed: pid 1 of the tree stays until the last of them has ended. One that
  // never parked has none, and without cgroups there is no other way to end one that hangs.
  if (!parked_ || (starting_.launcher.cgroup_version() == 0 && exits_.empty())) starting_.launcher.kill_tree(tree_);
  for (auto& request : waiting_) {
    starting_.loop.post(
        [on_ready = std::move(request.on_ready)] { on_ready(fail(Code::cancelled, "The template was ended.")); });
  }
}

void LocalTemplate::start(OnStarted on_started) {
  on_started_ = std::move(on_started);
  alive_ = true;
  starting_.launcher.make_cell(
      for_init(spec_.limits), true, [this, here = std::weak_ptr<bool>(here_)](Result<Cell> cell) {
        const auto still = here.lock();
        if (!still || !*still) {
          return;  // the launcher's begin() of the next run removes it; the sandbox is going away
        }
        if (!cell.ok()) return finish_start(cell.error());
        start_in(std::move(*cell));
      });
}

void LocalTemplate::start_in(Cell cell) {
  cell_ = std::move(cell);
  auto sockets = make_socket_pair();
  auto pipe = make_output_pipe();
  if (!sockets.ok() || !pipe.ok()) return finish_start(sockets.ok() ? pipe.error() : sockets.error());
  control_ = std::make_unique<FrameChannel>(starting_.loop, std::move(sockets->first));
  output_ = std::make_unique<OutputReader>(starting_.loop, std::move(pipe->first), [this](std::string_view text) {
    init_output_.append(text.substr(0, kInitOutput - std::min(kInitOutput, init_output_.size())));
  });
  control_->open({[this](const Frame& frame) { on_frame(frame); }, [this](const std::string&) { on_gone(); }});
  auto tree = starting_.python_tree(spec_, cell_.id, std::move(sockets->second), std::move(pipe->second));
  const auto guard = std::weak_ptr<bool>(here_);
  const auto here = [guard] {
    const auto still = guard.lock();
    return still && *still;
  };
  tree_ = starting_.launcher.start_tree(
      std::move(tree),
      [this, here](const Result<int>& pid) {
        if (here() && !pid.ok()) finish_start(pid.error());
      },
      [this, here](int status) {
        if (!here()) return;
        tree_ = 0;
        // Its last words (why init failed) may stand in the socket still, while the launcher's report overtook them.
        if (on_started_) control_->drain();
        if (!here()) return;
        if (on_started_) return ended_in_init(status);
        if (alive_) on_gone();
      });
  control_->send(starting_.configuration(spec_, false));
  limit_start(kInterpreterStart);
}

void LocalTemplate::limit_start(Duration limit) {
  if (init_timer_ != 0) starting_.loop.cancel(init_timer_);
  init_timer_ = starting_.loop.run_after(limit, [this] {
    init_timer_ = 0;
    auto start = std::make_shared<TemplateStart>();
    const auto seconds = double(spec_.init_timeout.count()) / 1000;
    char message[64];
    snprintf(message, sizeof(message), "Init timed out after %.2f seconds", seconds);
    start->failure = {"Sandbox.Timedout", message, {}};
    finish_start(std::move(start));
  });
}

void LocalTemplate::finish_start(Result<std::shared_ptr<TemplateStart>> result) {
  if (init_timer_ != 0) starting_.loop.cancel(init_timer_);
  init_timer_ = 0;
  if (!on_started_) return;
  if (output_) output_->drain();
  if (result.ok()) (*result)->output = std::move(init_output_);
  // Whoever started us may drop us in there.
  std::exchange(on_started_, nullptr)(std::move(result));
}

void LocalTemplate::on_frame(const Frame& frame) {
  auto fields = parse_json(frame.json, "a template's message");
  if (!fields.ok() || !fields->is_object()) return on_gone();
  if (frame.type == FrameType::configured && on_started_) return limit_start(spec_.init_timeout);
  if (frame.type == FrameType::parked && on_started_) return on_parked(*fields);
  if (frame.type == FrameType::forked) return on_forked(frame.id, *fields);
  if (frame.type == FrameType::exited) return on_exited(frame.id, *fields);
  on_gone();
}

void LocalTemplate::on_parked(const Json& fields) {
  auto start = std::make_shared<TemplateStart>();
  if (!get_bool(fields, "ok", false).ok()) return on_gone();
  if (!fields.value("ok", false)) {
    const auto failure = fields.value("failure", Json::object());
    if (!failure.is_object()) return on_gone();
    const auto type = get_string(failure, "type", "Runtime.Unknown"), message = get_string(failure, "message", "");
    start->failure = {type.ok() ? *type : "Runtime.Unknown", message.ok() ? *message : "", {}};
    for (const auto& line : failure.value("stack", Json::array())) {
      if (line.is_string()) start->failure.stack.push_back(line.get<std::string>());
    }
    return finish_start(std::move(start));
  }
  const auto init = get_int(fields, "init_ns", 0), memory = get_int(fields, "memory_bytes", 0);
  const auto reason = get_string(fields, "reason", "");
  const auto fork_safe = get_bool(fields, "fork_safe", false);
  if (!init.ok() || !memory.ok() || !reason.ok() || !fork_safe.ok()) return on_gone();
  start->ready = {Duration(*init), *memory, *fork_safe, *reason};
  parked_ = true;
  fork_safe_ = *fork_safe;
  if (!fork_safe_) {
    // It will never be forked from: its memory is better free. Each instance runs init itself, in a tree of its own.
    starting_.launcher.remove_cell(std::exchange(cell_.id, 0));
    starting_.launcher.kill_tree(tree_);
    control_->close();
  } else {
    order_cell();
  }
  finish_start(std::move(start));
}

void LocalTemplate::ended_in_init(int status) {
  auto start = std::make_shared<TemplateStart>();
  if (status < 0) return finish_start(fail(Code::unavailable, "The launcher ended while " + spec_.name + " started."));
  if (cell_.oom_kills() > 0) {
    start->failure = {"Runtime.OutOfMemory", how_memory_ended_it(spec_.limits.memory_bytes, cell_.peak_bytes()), {}};
  } else {
    const int signal = status > 128 ? status - 128 : 0;
    start->failure = {"Runtime.ExitError", how_it_ended(signal != 0 ? -1 : status, signal), {}};
  }
  finish_start(std::move(start));
}

void LocalTemplate::on_gone() {
  if (control_) control_->close();
  if (!parked_) {
    // Its end comes with its status from the launcher; what init left running must not hold that up.
    starting_.launcher.kill_cell(cell_.id);
    return;
  }
  if (!alive_ || !fork_safe_) return;
  alive_ = false;
  for (auto& [number, exit] : exits_) exit->tell(-1);
  exits_.clear();
  const std::string reason = cell_.oom_kills() > 0 ? "the template ran out of memory" : "the template ended";
  starting_.launcher.remove_cell(std::exchange(cell_.id, 0));
  if (on_death_) on_death_(reason);
}

void LocalTemplate::order_cell() {
  if (cell_ordered_) return;
  cell_ordered_ = true;
  starting_.launcher.make_cell(
      spec_.limits, false,
      [this, here = std::weak_ptr<bool>(here_), &launcher = starting_.launcher](Result<Cell> cell) {
        const auto still = here.lock();
        if (!still || !*still) {
          if (cell.ok()) launcher.remove_cell(cell->id);
          return;
        }
        cell_ordered_ = false;
        if (!cell.ok()) {
          for (auto& request : std::exchange(waiting_, {})) request.on_ready(cell.error());
          return;
        }
        if (waiting_.empty()) {
          spare_.push_back(std::move(*cell));
          return;
        }
        auto request = std::move(waiting_.front());
        waiting_.pop_front();
        fork_in(std::move(*cell), std::move(request));
        order_cell();
      });
}

void LocalTemplate::fork(InstanceEvents& events, Callback<std::unique_ptr<Instance>> on_ready) {
  if (!alive_) {
    starting_.loop.post([on_ready = std::move(on_ready), name = spec_.name] {
      on_ready(fail(Code::unavailable, "The template of " + name + " has ended."));
    });
    return;
  }
  Fork request{events, std::move(on_ready)};
  if (!fork_safe_) return start_alone(std::move(request));
  if (spare_.empty()) {
    waiting_.push_back(std::move(request));
  } else {
    auto cell = std::move(spare_.front());
    spare_.pop_front();
    fork_in(std::move(cell), std::move(request));
  }
  order_cell();
}

void LocalTemplate::fork_in(Cell cell, Fork request) {
  auto sockets = make_socket_pair();
  auto pipe = make_output_pipe();
  if (!sockets.ok() || !pipe.ok() || !alive_) {
    starting_.launcher.remove_cell(cell.id);
    const auto error = !alive_        ? fail(Code::unavailable, "The template of " + spec_.name + " has ended.")
                       : sockets.ok() ? pipe.error()
                                      : sockets.error();
    starting_.loop.post([on_ready = std::move(request.on_ready), error] { on_ready(error); });
    return;
  }
  const uint32_t number = next_number_++;
  Frame frame;
  frame.type = FrameType::fork;
  frame.id = number;
  frame.json = "{}";
  frame.fds.push_back(std::move(sockets->second));
  frame.fds.push_back(std::move(pipe->second));
  for (auto& fd : cell.attach) frame.fds.push_back(std::move(fd));
  cell.attach.clear();
  auto exit = std::make_shared<ExitNote>();
  exits_[number] = exit;
  auto instance = std::make_unique<LocalInstance>(
      starting_.loop, starting_.clock, starting_.launcher, request.events,
      LocalInstance::Parts{spec_.name, std::move(sockets->first), std::move(pipe->first), std::move(cell), 0, exit});
  starting_.adopt(std::move(instance), kForkLimit, std::move(request.on_ready));
  control_->send(std::move(frame));
}

void LocalTemplate::on_forked(uint32_t number, const Json& fields) {
  if (!fields.contains("error")) return;
  // The child never was: its socket closes by itself.
  if (const auto found = exits_.find(number); found != exits_.end()) {
    const auto exit = found->second;
    exits_.erase(found);
    exit->tell(-1);
  }
}

void LocalTemplate::on_exited(uint32_t number, const Json& fields) {
  const auto found = exits_.find(number);
  if (found == exits_.end()) return;
  const auto exit = found->second;
  exits_.erase(found);
  const auto status = get_int(fields, "status", -1);
  exit->tell(status.ok() && *status >= 0 ? plain_status(*status) : -1);
}

void LocalTemplate::start_alone(Fork request) {
  starting_.launcher.make_cell(for_init(spec_.limits), true,
                               [this, here = std::weak_ptr<bool>(here_), &launcher = starting_.launcher,
                                request = std::move(request)](Result<Cell> cell) mutable {
                                 const auto still = here.lock();
                                 if (!cell.ok()) return request.on_ready(cell.error());
                                 if (!still || !*still) {
                                   launcher.remove_cell(cell->id);
                                   return request.on_ready(fail(Code::cancelled, "The template was ended."));
                                 }
                                 start_alone_in(std::move(*cell), std::move(request));
                               });
}

void LocalTemplate::start_alone_in(Cell cell, Fork request) {
  auto control = make_socket_pair();
  auto sockets = make_socket_pair();
  auto pipe = make_output_pipe();
  if (!control.ok() || !sockets.ok() || !pipe.ok()) {
    starting_.launcher.remove_cell(cell.id);
    return request.on_ready(fail(Code::unavailable, "No descriptors are left for an instance."));
  }
  auto exit = std::make_shared<ExitNote>();
  auto tree = starting_.python_tree(spec_, cell.id, std::move(control->second), std::move(pipe->second));
  const uint64_t id = starting_.launcher.start_tree(
      std::move(tree),
      [exit](const Result<int>& pid) {
        if (!pid.ok()) exit->tell(-1);
      },
      [exit](int status) { exit->tell(status); });
  auto instance = std::make_unique<LocalInstance>(
      starting_.loop, starting_.clock, starting_.launcher, request.events,
      LocalInstance::Parts{spec_.name, std::move(sockets->first), std::move(pipe->first), std::move(cell), id, exit});
  auto channel = std::make_shared<FrameChannel>(starting_.loop, std::move(control->first));
  auto frame = starting_.configuration(spec_, true);
  frame.fds.push_back(std::move(sockets->second));
  channel->open({[](const Frame&) {}, [](const std::string&) {}});
  channel->send(std::move(frame));
  instance->keep(std::move(channel));
  starting_.adopt(std::move(instance), spec_.init_timeout + kInterpreterStart, std::move(request.on_ready));
}

}  // namespace sundog::sandbox
