#include "sandbox/local_template.h"

#include "sandbox/endings.h"
#include "sandbox/environment_templates.h"

namespace sundog::sandbox {
namespace {

constexpr size_t kInitOutput = 64 << 10;
constexpr Duration kForkLimit = std::chrono::seconds(20);         // hooks after the restore may take 10 s
constexpr Duration kInterpreterStart = std::chrono::seconds(10);  // before init's own time begins to matter
constexpr Duration kEnvironmentStart =
    std::chrono::seconds(60);  // the same where packages may have to be imported first

}  // namespace

LocalTemplate::~LocalTemplate() {
  *here_ = false;
  if (exit_) exit_->on_known = nullptr;
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
  why_own_ = starting_.environments->why_not(spec_);
  shared_ = why_own_.empty();
  if (shared_) {
    start_shared();
  } else {
    start_own();
  }
}

void LocalTemplate::prepare_fork(OnPrepared on_prepared) {
  auto& launcher = starting_.launcher;
  launcher.make_cell(for_init(spec_.limits), false,
                     [&launcher, code = spec_.code, on_prepared = std::move(on_prepared)](Result<Cell> made) {
                       if (!made.ok()) return on_prepared(made.error(), {});
                       const auto cell = std::make_shared<Cell>(std::move(*made));
                       launcher.clone_mount(code, [&launcher, cell, on_prepared](Result<UniqueFd> cloned) {
                         if (cloned.ok()) return on_prepared(std::move(*cell), std::move(*cloned));
                         launcher.remove_cell(cell->id);
                         on_prepared(cloned.error(), {});
                       });
                     });
}

void LocalTemplate::start_shared() {
  prepare_fork(
      [this, here = std::weak_ptr<bool>(here_), &launcher = starting_.launcher](Result<Cell> cell, UniqueFd code) {
        const auto still = here.lock();
        if (!still || !*still) {
          if (cell.ok()) launcher.remove_cell(cell->id);
          return;
        }
        if (!cell.ok()) return start_over(cell.error().message);
        start_fork(std::move(*cell), std::move(code));
      });
}

bool LocalTemplate::open_channels(UniqueFd& socket, UniqueFd& output) {
  auto sockets = make_socket_pair();
  auto pipe = make_output_pipe();
  if (!sockets.ok() || !pipe.ok()) {
    finish_start(sockets.ok() ? pipe.error() : sockets.error());
    return false;
  }
  control_ = std::make_unique<FrameChannel>(starting_.loop, std::move(sockets->first));
  output_ = std::make_unique<OutputReader>(starting_.loop, std::move(pipe->first), [this](std::string_view text) {
    init_output_.append(text.substr(0, kInitOutput - std::min(kInitOutput, init_output_.size())));
  });
  control_->open({[this](Frame frame) { on_frame(std::move(frame)); }, [this](const std::string&) { on_gone(); }});
  socket = std::move(sockets->second);
  output = std::move(pipe->second);
  return true;
}

void LocalTemplate::start_fork(Cell cell, UniqueFd code) {
  cell_ = std::move(cell);
  TemplateFork fork;
  if (!open_channels(fork.control, fork.output)) return;
  fork.code = std::move(code);
  fork.attach = std::exchange(cell_.attach, {});
  fork.tmp_bytes = spec_.limits.tmp_bytes;
  const auto environment = starting_.environments->of(spec_);
  control_->send(starting_.configuration(spec_, false));
  limit_start(kEnvironmentStart);
  exit_ = environment->fork(std::move(fork));
  exit_->on_known = [this] { on_exit_known(exit_->status); };
}

// A fork's end is told by its parent. When the parent itself ends nobody knows, and the fork goes on.
void LocalTemplate::on_exit_known(int status) {
  if (status >= 0 || !control_->is_open()) on_process_end(status);
}

void LocalTemplate::start_over(const std::string& reason) {
  if (init_timer_ != 0) starting_.loop.cancel(init_timer_);
  init_timer_ = 0;
  if (exit_) exit_->on_known = nullptr;
  if (control_) control_->close();
  if (output_) output_->close();
  // Not from inside their own callbacks.
  starting_.loop.post([control = std::shared_ptr<FrameChannel>(std::move(control_)),
                       output = std::shared_ptr<OutputReader>(std::move(output_))] {});
  starting_.launcher.remove_cell(std::exchange(cell_.id, 0));
  starting_.log.info("template_in_a_tree_of_its_own", {{"template", spec_.name}, {"reason", reason}});
  shared_ = configured_ = false;
  why_own_ = reason;
  init_output_.clear();
  start_own();
}

void LocalTemplate::start_own() {
  starting_.launcher.make_cell(
      for_init(spec_.limits), true, [this, here = std::weak_ptr<bool>(here_)](Result<Cell> cell) {
        const auto still = here.lock();
        if (!still || !*still) {
          return;  // the launcher's begin() of the next run removes it; the sandbox is going away
        }
        if (!cell.ok()) return finish_start(cell.error());
        start_own_in(std::move(*cell));
      });
}

void LocalTemplate::start_own_in(Cell cell) {
  cell_ = std::move(cell);
  UniqueFd socket, output;
  if (!open_channels(socket, output)) return;
  auto tree = starting_.python_tree(spec_, cell_.id, std::move(socket), std::move(output));
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
        on_process_end(status);
      });
  control_->send(starting_.configuration(spec_, false));
  limit_start(kInterpreterStart);
}

void LocalTemplate::on_process_end(int status) {
  const auto here = std::weak_ptr<bool>(here_);
  const auto gone = [&here] {
    const auto still = here.lock();
    return !still || !*still;
  };
  // Its last words (why init failed) may stand in the socket still, while the report of its end overtook them.
  const bool was_shared = shared_;
  if (on_started_ && control_) control_->drain();
  if (gone() || shared_ != was_shared) return;  // those words made it begin again in a tree of its own
  if (on_started_ && shared_ && !configured_)
    return start_over("it could not be forked from its environment's" + why_no_fork());
  if (on_started_) return ended_in_init(status);
  if (alive_) on_gone();
}

std::string LocalTemplate::why_no_fork() {
  if (exit_ && !exit_->error.empty()) return ": " + exit_->error;
  if (output_) output_->drain();
  // The last line of a traceback.
  std::string_view text = init_output_;
  while (text.ends_with('\n')) text.remove_suffix(1);
  text.remove_prefix(text.rfind('\n') + 1);
  return text.empty() ? "" : ": " + std::string(text.substr(0, 300));
}

void LocalTemplate::limit_start(Duration limit) {
  if (init_timer_ != 0) starting_.loop.cancel(init_timer_);
  init_timer_ = starting_.loop.run_after(limit, [this] {
    init_timer_ = 0;
    if (shared_ && !configured_) return start_over("its environment's template did not fork in time");
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

// Before anything of the user's runs, so the first of its kind is what it says.
void LocalTemplate::on_configured(std::vector<UniqueFd> handed) {
  configured_ = true;
  if (spec_.network == Network::egress) {
    way_out_ = starting_.let_out(std::move(handed), spec_.allow, spec_.tenant, spec_.name);
    if (!way_out_) return finish_start(fail(Code::internal, "The template of " + spec_.name + " has no way out."));
  }
  limit_start(spec_.init_timeout);
}

void LocalTemplate::on_frame(Frame frame) {
  auto fields = parse_json(frame.head, "a template's message");
  if (!fields.ok() || !fields->is_object()) return on_gone();
  if (frame.type == FrameType::configured && on_started_ && !configured_) return on_configured(std::move(frame.fds));
  if (frame.type == FrameType::parked && on_started_) return on_parked(*fields);
  if (frame.type == FrameType::forked) return on_forked(frame.id, *fields);
  if (frame.type == FrameType::exited) return on_exited(frame.id, *fields);
  on_gone();
}

void LocalTemplate::on_parked(const Json& fields) {
  auto start = std::make_shared<TemplateStart>();
  if (!get_bool(fields, "ok", false).ok()) return on_gone();
  if (!fields.value("ok", false)) {
    if (const auto name = get_string(fields, "shadowed", ""); shared_ && name.ok() && !name->empty()) {
      return start_over("its own module " + *name + " stands before its environment's");
    }
    const auto failure = fields.value("failure", Json::object());
    if (!failure.is_object()) return on_gone();
    start->failure = init_failure_of(failure);
    return finish_start(std::move(start));
  }
  const auto init = get_int(fields, "init_ns", 0), memory = get_int(fields, "memory_bytes", 0);
  const auto reason = get_string(fields, "reason", "");
  const auto fork_safe = get_bool(fields, "fork_safe", false);
  if (!init.ok() || !memory.ok() || !reason.ok() || !fork_safe.ok()) return on_gone();
  start->ready = {Duration(*init), *memory, *fork_safe, *reason};
  if (shared_) {
    // What it shares with its environment's template is counted there.
    if (const auto own = cell_.usage_bytes(); own > 0) start->ready.memory_bytes = own;
    starting_.environments->learn(spec_, fields.value("modules", Json::array()));
  }
  start->ready.why_own_tree = why_own_;
  parked_ = true;
  fork_safe_ = *fork_safe;
  if (!fork_safe_) {
    // It will never be forked from: its memory is better free. Each instance runs init itself, in a tree of its own.
    starting_.launcher.remove_cell(std::exchange(cell_.id, 0));
    starting_.launcher.kill_tree(tree_);
    control_->close();
    way_out_.reset();
  } else {
    spec_.environment.clear();  // it has them; nothing will be configured by them again
    order_cell();
  }
  finish_start(std::move(start));
}

void LocalTemplate::ended_in_init(int status) {
  auto start = std::make_shared<TemplateStart>();
  if (cell_.oom_kills() > 0) {
    start->failure = {"Runtime.OutOfMemory", how_memory_ended_it(spec_.limits.memory_bytes, cell_.peak_bytes()), {}};
  } else if (status < 0) {
    const char* const who = shared_ ? "The template of its environment" : "The launcher";
    return finish_start(fail(Code::unavailable, std::string(who) + " ended while " + spec_.name + " started."));
  } else {
    const int signal = status > 128 ? status - 128 : 0;
    start->failure = {"Runtime.ExitError", how_it_ended(signal != 0 ? -1 : status, signal), {}};
  }
  finish_start(std::move(start));
}

void LocalTemplate::on_gone() {
  if (control_) control_->close();
  if (!parked_) {
    // Its end comes with its status from its parent or the launcher; what init left running must not hold that up.
    starting_.launcher.kill_cell(cell_.id);
    if (on_started_ && shared_ && exit_ && exit_->known) on_process_end(exit_->status);
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
  frame.head = "{}";
  frame.fds.push_back(std::move(sockets->second));
  frame.fds.push_back(std::move(pipe->second));
  for (auto& fd : cell.attach) frame.fds.push_back(std::move(fd));
  cell.attach.clear();
  auto exit = std::make_shared<ExitNote>();
  exits_[number] = exit;
  auto instance = std::make_unique<LocalInstance>(
      starting_.loop, starting_.clock, starting_.launcher, request.events,
      LocalInstance::Parts{spec_.name, std::move(sockets->first), std::move(pipe->first), std::move(cell), 0, exit});
  instance->keep(way_out_);
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
  const auto shared_request = std::make_shared<Fork>(std::move(request));
  const auto here = std::weak_ptr<bool>(here_);
  const auto start_in = [this, here, &launcher = starting_.launcher, shared_request](Result<Cell> cell, UniqueFd code) {
    const auto still = here.lock();
    if (!cell.ok()) return shared_request->on_ready(cell.error());
    if (!still || !*still) {
      launcher.remove_cell(cell->id);
      return shared_request->on_ready(fail(Code::cancelled, "The template was ended."));
    }
    start_alone_in(std::move(*cell), std::move(code), std::move(*shared_request));
  };
  if (shared_) return prepare_fork(start_in);
  starting_.launcher.make_cell(for_init(spec_.limits), true,
                               [start_in](Result<Cell> cell) { start_in(std::move(cell), {}); });
}

// Tells a process that it is to become an instance itself. What it returns lives as long as that.
std::shared_ptr<void> LocalTemplate::configure_alone(UniqueFd control, UniqueFd socket) {
  struct Alone {
    std::shared_ptr<void> way_out;
    bool configured = false;
    std::unique_ptr<FrameChannel> channel;
  };
  auto alone = std::make_shared<Alone>();
  alone->channel = std::make_unique<FrameChannel>(starting_.loop, std::move(control));
  const auto on_frame = [&starting = starting_, alone = alone.get(), allow = spec_.allow, tenant = spec_.tenant,
                         name = spec_.name, egress = spec_.network == Network::egress](Frame frame) {
    if (frame.type != FrameType::configured || std::exchange(alone->configured, true) || !egress) return;
    alone->way_out = starting.let_out(std::move(frame.fds), allow, tenant, name);
  };
  alone->channel->open({on_frame, [](const std::string&) {}});
  auto frame = starting_.configuration(spec_, true);
  frame.fds.push_back(std::move(socket));
  alone->channel->send(std::move(frame));
  return alone;
}

void LocalTemplate::start_alone_in(Cell cell, UniqueFd code, Fork request) {
  auto control = make_socket_pair();
  auto sockets = make_socket_pair();
  auto pipe = make_output_pipe();
  if (!control.ok() || !sockets.ok() || !pipe.ok()) {
    starting_.launcher.remove_cell(cell.id);
    return request.on_ready(fail(Code::unavailable, "No descriptors are left for an instance."));
  }
  auto exit = std::make_shared<ExitNote>();
  uint64_t tree = 0;
  if (shared_) {
    TemplateFork fork{std::move(control->second), std::move(pipe->second), std::move(code),
                      std::exchange(cell.attach, {}), spec_.limits.tmp_bytes};
    exit = starting_.environments->of(spec_)->fork(std::move(fork));
  } else {
    tree = starting_.launcher.start_tree(
        starting_.python_tree(spec_, cell.id, std::move(control->second), std::move(pipe->second)),
        [exit](const Result<int>& pid) {
          if (!pid.ok()) exit->tell(-1);
        },
        [exit](int status) { exit->tell(status); });
  }
  auto instance = std::make_unique<LocalInstance>(
      starting_.loop, starting_.clock, starting_.launcher, request.events,
      LocalInstance::Parts{spec_.name, std::move(sockets->first), std::move(pipe->first), std::move(cell), tree, exit});
  instance->keep(configure_alone(std::move(control->first), std::move(sockets->second)));
  starting_.adopt(std::move(instance), spec_.init_timeout + (shared_ ? kEnvironmentStart : kInterpreterStart),
                  std::move(request.on_ready));
}

}  // namespace sundog::sandbox
