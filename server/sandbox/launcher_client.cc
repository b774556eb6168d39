#include "sandbox/launcher_client.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstring>

#include "sandbox/launcher/fd_message.h"
#include "sandbox/launcher_messages.h"

extern char** environ;

namespace sundog::sandbox {
namespace {

std::string read_small(const UniqueFd& fd) {
  char text[512];
  const ssize_t bytes = fd ? pread(fd.get(), text, sizeof(text), 0) : -1;
  return bytes > 0 ? std::string(text, size_t(bytes)) : std::string();
}

// The number after `name ` in "name 12\nother 3\n"; 0 if absent.
int64_t field_of(const std::string& text, std::string_view name) {
  const auto at = text.rfind(std::string(name) + " ");
  return at == std::string::npos ? 0 : std::atoll(text.c_str() + at + name.size() + 1);
}

Cell to_cell(uint64_t id, const launcher::ReplyHeader& header, std::vector<UniqueFd> fds) {
  Cell cell;
  cell.id = id;
  size_t at = 0;
  for (; at < header.attach_count && at < fds.size(); ++at) cell.attach.push_back(std::move(fds[at]));
  for (const auto& [bit, member] : {std::pair{launcher::kPeak, &Cell::peak},
                                    {launcher::kUsage, &Cell::usage},
                                    {launcher::kOom, &Cell::oom},
                                    {launcher::kCpu, &Cell::cpu}}) {
    if ((header.cell_fds & bit) != 0 && at < fds.size()) cell.*member = std::move(fds[at++]);
  }
  return cell;
}

Error gone() {
  return fail(Code::unavailable, "The launcher has ended.", "It is started again by itself; try in a moment.");
}

}  // namespace

int64_t Cell::peak_bytes() const {
  return std::atoll(read_small(peak).c_str());
}
int64_t Cell::usage_bytes() const {
  return std::atoll(read_small(usage).c_str());
}
int64_t Cell::oom_kills() const {
  return field_of(read_small(oom), "oom_kill");
}
Duration Cell::cpu_time() const {
  const std::string text = read_small(cpu);
  // v2's cpu.stat names its fields; v1's cpuacct.usage is one number of nanoseconds.
  if (text.starts_with("usage_usec")) return std::chrono::microseconds(field_of(text, "usage_usec"));
  return Duration{std::atoll(text.c_str())};
}

LauncherClient::LauncherClient(net::Loop& loop, Clock& clock, Log& log, Options options)
    : loop_(loop), clock_(clock), log_(log), options_(std::move(options)) {}

Result<std::unique_ptr<LauncherClient>> LauncherClient::start(net::Loop& loop, Clock& clock, Log& log,
                                                              Options options) {
  std::unique_ptr<LauncherClient> client(new LauncherClient(loop, clock, log, std::move(options)));
  SUNDOG_CHECK(client->spawn());
  SUNDOG_CHECK(client->wait_for_greeting());
  client->watch();
  return client;
}

LauncherClient::~LauncherClient() {
  if (readable_ != 0) loop_.unwatch(readable_);
  if (writable_ != 0) loop_.unwatch(writable_);
  if (restart_ != 0) loop_.cancel(restart_);
  socket_.reset();  // the launcher kills and removes everything, then exits
  reap();
}

bool LauncherClient::has_ended() const {
  pollfd end{socket_.get(), 0, 0};
  return !socket_ || (poll(&end, 1, 0) == 1 && (end.revents & POLLHUP) != 0);
}

void LauncherClient::reap() {
  if (pid_ > 0) waitpid(pid_t(pid_), nullptr, 0);
  pid_ = 0;
}

Status LauncherClient::spawn() {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return fail_errno("make a socket pair", errno);
  UniqueFd ours(pair[0]), theirs(pair[1]);
  fcntl(ours.get(), F_SETFL, O_NONBLOCK);
  const int buffer = 1 << 20;
  setsockopt(ours.get(), SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
  // dup2 onto itself would leave close-on-exec set.
  if (theirs.get() == 3) theirs = UniqueFd(fcntl(theirs.get(), F_DUPFD_CLOEXEC, 10));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, theirs.get(), 3);
  posix_spawn_file_actions_addclosefrom_np(&actions, 4);
  std::vector<std::string> arguments = {options_.program.string(), "--name", options_.name};
  if (!options_.cgroup.empty()) arguments.insert(arguments.end(), {"--cgroup", options_.cgroup.string()});
  if (options_.insecure_test) arguments.emplace_back("--insecure-test");
  std::vector<char*> argv;
  for (auto& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_t pid = 0;
  const int error = posix_spawn(&pid, options_.program.c_str(), &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return fail_errno("start " + options_.program.string(), error);
  pid_ = pid;
  started_ = clock_.mono();
  socket_ = std::move(ours);
  return done;
}

Status LauncherClient::wait_for_greeting() {
  pollfd wait{socket_.get(), POLLIN, 0};
  if (poll(&wait, 1, 5000) != 1) return fail(Code::unavailable, "The launcher did not greet within 5 s.");
  if (!take_message())
    return fail(Code::unavailable, "The launcher ended at once.", "Its message is on standard error.");
  return done;
}

void LauncherClient::watch() {
  readable_ = loop_.watch_readable(socket_.get(), [this] { on_readable(); });
}

void LauncherClient::on_readable() {
  while (take_message()) continue;
}

bool LauncherClient::take_message() {
  char buffer[sizeof(launcher::ReplyHeader)];
  auto received = launcher::receive_with_fds(socket_.get(), buffer, sizeof(buffer));
  std::vector<UniqueFd> fds;
  for (const int fd : received.fds) fds.emplace_back(fd);
  if (received.bytes < 0 && errno == EAGAIN) return false;
  launcher::ReplyHeader header;
  if (received.bytes <= 0 || received.truncated || !launcher::parse_reply({buffer, size_t(received.bytes)}, header)) {
    lost();
    return false;
  }
  switch (launcher::Answer(header.answer)) {
    case launcher::Answer::hello:
      cgroup_version_ = header.status;
      break;
    case launcher::Answer::reply:
      if (const auto found = pending_.find(header.id); found != pending_.end()) {
        auto waiting = std::move(found->second);
        pending_.erase(found);
        waiting.on_reply(header, std::move(fds));
      }
      break;
    case launcher::Answer::tree_ended:
      if (const auto found = trees_.find(header.id); found != trees_.end()) {
        auto on_ended = std::move(found->second);
        trees_.erase(found);
        if (on_ended) on_ended(header.status);
      }
      break;
  }
  return bool(socket_);
}

void LauncherClient::lost() {
  if (readable_ != 0) loop_.unwatch(readable_);
  if (writable_ != 0) loop_.unwatch(writable_);
  readable_ = writable_ = 0;
  socket_.reset();
  outgoing_.clear();
  if (pid_ > 0) ::kill(pid_t(pid_), SIGKILL);
  reap();
  // Back-off: at once after a long life, at most 5 s after many short ones.
  failures_ = clock_.mono() - started_ > std::chrono::seconds(30) ? 1 : failures_ + 1;
  const Duration pause = Millis(std::min(5000, 20 << std::min(failures_, 8)));
  log_.write(Level::error, "launcher_lost", {{"restart_in_ms", pause / Millis(1)}});
  restart_ = loop_.run_after(pause, [this] {
    restart_ = 0;
    if (const auto started = spawn(); !started.ok()) {
      log_.error("launcher_not_started", started.error());
      return lost();
    }
    watch();
    log_.info("launcher_started", {{"pid", pid_}});
    flush();
  });
  auto pending = std::exchange(pending_, {});
  auto trees = std::exchange(trees_, {});
  for (auto& [id, waiting] : pending) waiting.on_reply(gone(), {});
  for (auto& [id, on_ended] : trees) {
    if (on_ended) on_ended(-1);
  }
}

void LauncherClient::request(launcher::RequestHeader header, const TreeStart* spec, std::vector<UniqueFd> fds,
                             std::function<void(Result<launcher::ReplyHeader>, std::vector<UniqueFd>)> on_reply) {
  header.id = next_id_++;
  std::vector<std::array<std::string, 3>> mounts;
  if (spec) {
    for (const auto& mount : spec->mounts) {
      mounts.push_back({mount.source.string(), mount.where, mount.writable ? "w" : "r"});
    }
  }
  static const std::vector<std::string> none;
  Message message{encode_request(header, spec ? spec->argv : none, spec ? spec->environment : none, mounts),
                  std::move(fds)};
  launcher::Request check;
  if (const char* why = launcher::parse_request(message.bytes, check)) {
    if (!on_reply) return;
    loop_.post([on_reply, why] {
      on_reply(fail(Code::invalid_argument, "The launcher would refuse this start: " + std::string(why) + "."), {});
    });
    return;
  }
  if (on_reply) pending_[header.id] = {std::move(on_reply)};
  outgoing_.push_back(std::move(message));
  if (writable_ == 0) flush();
}

void LauncherClient::flush() {
  while (socket_ && !outgoing_.empty()) {
    auto& message = outgoing_.front();
    std::vector<int> fds;
    for (const auto& fd : message.fds) fds.push_back(fd.get());
    if (launcher::send_with_fds(socket_.get(), message.bytes, fds.data(), fds.size()) < 0) {
      if (errno == EAGAIN) {
        if (writable_ == 0) writable_ = loop_.watch_writable(socket_.get(), [this] { flush(); });
        return;
      }
      break;  // the end comes as readable
    }
    outgoing_.pop_front();
  }
  if (writable_ != 0) loop_.unwatch(writable_);
  writable_ = 0;
}

namespace {
launcher::RequestHeader header_of(launcher::Command command, uint64_t subject, const Limits* limits = nullptr) {
  launcher::RequestHeader header;
  header.command = uint16_t(command);
  header.subject = subject;
  if (limits) {
    header.memory_bytes = limits->memory_bytes;
    header.tmp_bytes = limits->tmp_bytes;
    header.cpu_millis = limits->cpu_millis;
    header.max_pids = limits->max_pids;
  }
  return header;
}
}  // namespace

void LauncherClient::make_cell(const Limits& limits, bool for_tree, Callback<Cell> on_made) {
  const uint64_t id = next_id_++;
  auto header = header_of(launcher::Command::make_cell, id, &limits);
  header.kind = for_tree ? 1 : 0;
  request(header, nullptr, {},
          [id, for_tree, on_made = std::move(on_made)](Result<launcher::ReplyHeader> reply, std::vector<UniqueFd> fds) {
            if (!reply.ok()) return on_made(reply.error());
            if (reply->error != 0) {
              return on_made(fail(Code::unavailable,
                                  "The launcher could not make a cell: " + std::string(reply->text.data()) + ": " +
                                      std::strerror(reply->error) + ".",
                                  "sundog doctor says what this machine lacks."));
            }
            auto cell = to_cell(id, *reply, std::move(fds));
            if (for_tree) cell.attach.clear();
            on_made(std::move(cell));
          });
}

void LauncherClient::kill_cell(uint64_t cell) {
  if (cell != 0) request(header_of(launcher::Command::kill_cell, cell), nullptr, {}, nullptr);
}

void LauncherClient::remove_cell(uint64_t cell) {
  if (cell != 0) request(header_of(launcher::Command::remove_cell, cell), nullptr, {}, nullptr);
}

void LauncherClient::kill_tree(uint64_t tree) {
  if (tree != 0) request(header_of(launcher::Command::kill_tree, tree), nullptr, {}, nullptr);
}

void LauncherClient::clone_mount(const Path& folder, Callback<UniqueFd> on_cloned) {
  TreeStart one;
  one.mounts.push_back({folder, "/var/task", false});
  request(header_of(launcher::Command::clone_mount, next_id_++), &one, {},
          [folder, on_cloned = std::move(on_cloned)](Result<launcher::ReplyHeader> reply, std::vector<UniqueFd> fds) {
            if (!reply.ok()) return on_cloned(reply.error());
            if (reply->error == 0 && fds.size() == 1) return on_cloned(std::move(fds.front()));
            on_cloned(fail(Code::unavailable, "The launcher could not clone the mount of " + folder.string() + ": " +
                                                  std::strerror(reply->error) + "."));
          });
}

uint64_t LauncherClient::start_tree(TreeStart spec, Callback<int> on_started, std::function<void(int)> on_ended) {
  const uint64_t id = next_id_++;
  auto header = header_of(launcher::Command::start, id, &spec.limits);
  header.kind = uint8_t(spec.kind);
  header.network = spec.network == Network::host ? 2 : 0;
  header.without_rules = spec.without_rules;
  header.cell = spec.cell;
  std::vector<UniqueFd> fds;
  fds.push_back(std::move(spec.socket));
  fds.push_back(std::move(spec.output));
  trees_[id] = std::move(on_ended);
  request(header, &spec, std::move(fds),
          [this, id, on_started = std::move(on_started)](Result<launcher::ReplyHeader> reply,
                                                         const std::vector<UniqueFd>&) {
            if (reply.ok() && reply->error == 0) return on_started(reply->pid);
            trees_.erase(id);
            if (!reply.ok()) return on_started(reply.error());
            on_started(fail(Code::unavailable,
                            "The launcher could not start a process tree: " + std::string(reply->text.data()) + ": " +
                                std::strerror(reply->error) + ".",
                            "sundog doctor says what this machine lacks."));
          });
  return id;
}

}  // namespace sundog::sandbox
