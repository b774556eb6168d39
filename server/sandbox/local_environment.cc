#include "sandbox/local_environment.h"

namespace sundog::sandbox {
namespace {

constexpr size_t kLastWords = 4 << 10;
constexpr Duration kPreloadLimit = std::chrono::minutes(3);
constexpr int64_t kMegabyte = 1 << 20;

}  // namespace

LocalEnvironment::~LocalEnvironment() {
  events_ = {};
  end("");
}

void LocalEnvironment::start(const Limits& limits, Events events) {
  auto sockets = make_socket_pair();
  auto pipe = make_output_pipe();
  events_ = std::move(events);
  if (!sockets.ok() || !pipe.ok()) {
    starting_.loop.post([this, here = std::weak_ptr<bool>(here_)] {
      if (!here.expired()) end("no descriptors are left");
    });
    return;
  }
  control_ = std::make_unique<FrameChannel>(starting_.loop, std::move(sockets->first));
  output_ = std::make_unique<OutputReader>(starting_.loop, std::move(pipe->first), [this](std::string_view text) {
    last_words_.append(text);
    if (last_words_.size() > kLastWords) last_words_.erase(0, last_words_.size() - kLastWords);
  });
  control_->open({[this](const Frame& frame) { on_frame(frame); },
                  [this](const std::string&) { end("it ended, last saying: " + last_words_); }});
  Frame frame;
  frame.type = FrameType::configure_environment;
  frame.head = dump(starting_.environment_configuration(key_));
  control_->send(std::move(frame));
  starting_.launcher.make_cell(limits, true,
                               [this, limits, here = std::weak_ptr<bool>(here_), &launcher = starting_.launcher,
                                socket = std::make_shared<UniqueFd>(std::move(sockets->second)),
                                output = std::make_shared<UniqueFd>(std::move(pipe->second))](Result<Cell> cell) {
                                 if (here.expired() || !alive()) {
                                   if (cell.ok()) launcher.remove_cell(cell->id);
                                 } else if (!cell.ok()) {
                                   end(cell.error().message);
                                 } else {
                                   start_in(std::move(*cell), limits, std::move(*socket), std::move(*output));
                                 }
                               });
}

void LocalEnvironment::start_in(Cell cell, const Limits& limits, UniqueFd socket, UniqueFd output) {
  cell_ = std::move(cell);
  auto tree = starting_.environment_tree(key_, limits, cell_.id, std::move(socket), std::move(output));
  const auto here = std::weak_ptr<bool>(here_);
  starting_.launcher.start_tree(
      std::move(tree),
      [this, here](const Result<int>& pid) {
        if (!here.expired() && !pid.ok()) end(pid.error().message);
      },
      // Its pid 1 stays as long as anything that was forked from it; the socket tells of its own end.
      [this, here](int) {
        // Its last words may stand in the socket still.
        if (!here.expired() && control_) control_->drain();
        if (!here.expired()) end("its process tree ended");
      });
}

void LocalEnvironment::preload(std::vector<std::string> modules) {
  if (!alive()) return;
  preloading_ = std::move(modules);
  importing_.clear();
  Frame frame;
  frame.type = FrameType::preload;
  frame.head = dump({{"modules", preloading_}});
  control_->send(std::move(frame));
  if (preload_limit_ != 0) starting_.loop.cancel(preload_limit_);
  preload_limit_ = starting_.loop.run_after(kPreloadLimit, [this] {
    preload_limit_ = 0;
    end("its imports took too long");
  });
}

std::shared_ptr<ExitNote> LocalEnvironment::fork(TemplateFork fork) {
  auto exit = std::make_shared<ExitNote>();
  if (!alive()) {
    exit->tell(-1);
    return exit;
  }
  const uint32_t number = next_number_++;
  Frame frame;
  frame.type = FrameType::fork_template;
  frame.id = number;
  frame.head = dump({{"tmp_megabytes", std::max<int64_t>(1, (fork.tmp_bytes + kMegabyte - 1) / kMegabyte)},
                     {"private_tmp", starting_.private_tmp()}});
  for (auto* fd : {&fork.control, &fork.output, &fork.code}) frame.fds.push_back(std::move(*fd));
  for (auto& fd : fork.attach) frame.fds.push_back(std::move(fd));
  exits_[number] = exit;
  control_->send(std::move(frame));
  return exit;
}

void LocalEnvironment::on_frame(const Frame& frame) {
  const auto fields = parse_json(frame.head, "a template's message");
  if (!fields.ok() || !fields->is_object()) return end("it broke the protocol");
  switch (frame.type) {
    case FrameType::configured:
      ready_ = true;
      return;
    case FrameType::preloaded:
      return on_preloaded(*fields);
    case FrameType::importing: {
      const auto package = get_string(*fields, "package", "");
      if (!package.ok()) return end("it broke the protocol");
      importing_ = *package;
      return;
    }
    case FrameType::forked:
      if (fields->contains("error")) {
        const auto text = get_string(*fields, "text", "");
        on_exited(frame.id, -1, text.ok() ? *text : "");
      }
      return;
    case FrameType::exited: {
      const auto status = get_int(*fields, "status", -1);
      return on_exited(frame.id, status.ok() && *status >= 0 ? plain_status(*status) : -1);
    }
    default:
      return end("it broke the protocol");
  }
}

void LocalEnvironment::on_preloaded(const Json& fields) {
  if (preload_limit_ != 0) starting_.loop.cancel(preload_limit_);
  preload_limit_ = 0;
  std::vector<std::string> failed;
  for (const auto& name : fields.value("failed", Json::array())) {
    if (name.is_string()) failed.push_back(name.get<std::string>());
  }
  const auto reason = get_string(fields, "reason", ""), culprit = get_string(fields, "culprit", "");
  if (preloading_.empty() || !reason.ok() || !culprit.ok()) return end("it broke the protocol");
  // A copy: it may retire us.
  if (const auto on_preloaded = events_.on_preloaded) on_preloaded(failed, *reason, *culprit);
  preloading_.clear();
}

void LocalEnvironment::on_exited(uint32_t number, int status, const std::string& error) {
  const auto found = exits_.find(number);
  if (found == exits_.end()) return;
  const auto exit = found->second;
  exits_.erase(found);
  exit->error = error;
  const auto here = std::weak_ptr<bool>(here_);
  exit->tell(status);
  if (here.expired()) return;
  if (const auto on_child_ended = events_.on_child_ended) on_child_ended();
}

void LocalEnvironment::end(const std::string& reason) {
  if (preload_limit_ != 0) starting_.loop.cancel(preload_limit_);
  preload_limit_ = 0;
  if (control_) control_->close();
  if (output_) output_->close();
  // Not from inside its own callback.
  starting_.loop.post([control = std::shared_ptr<FrameChannel>(std::move(control_)),
                       output = std::shared_ptr<OutputReader>(std::move(output_))] {});
  starting_.launcher.remove_cell(std::exchange(cell_.id, 0));
  // Nobody tells their status any more; those that live go on under pid 1.
  for (auto& [number, exit] : std::exchange(exits_, {})) exit->tell(-1);
  if (auto on_end = std::exchange(events_.on_end, nullptr)) on_end(reason);
}

}  // namespace sundog::sandbox
