// The seal, rule by rule: each attempt is blocked, and gets through once just the rules named beside it are left out,
// so that no row is vacuous; and what ordinary code does still works. docs/design/sandbox.md has the same rows in
// words.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "sandbox/sandbox_fixture.h"

namespace sundog::sandbox {
namespace {

// Things of the host that an instance must not reach.
class HostTargets {
 public:
  HostTargets() {
    tcp_ = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(tcp_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(tcp_.get(), 8), 0);
    socklen_t size = sizeof(address);
    getsockname(tcp_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port = ntohs(address.sin_port);
    accepting_ = std::thread([this] {
      while (true) {
        const UniqueFd peer(accept4(tcp_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        if (!peer) return;
        send(peer.get(), "host", 4, MSG_NOSIGNAL);
      }
    });
    shared_memory = shmget(shared_key, 4096, IPC_CREAT | 0666);
  }
  ~HostTargets() {
    shutdown(tcp_.get(), SHUT_RDWR);
    accepting_.join();
    shmctl(shared_memory, IPC_RMID, nullptr);
  }
  int port = 0;
  int shared_key = 0x53554e44;
  int shared_memory = -1;

 private:
  UniqueFd tcp_;
  std::thread accepting_;
};

class SealTest : public SandboxTest {
 protected:
  TemplateSpec attempts() {
    auto spec = spec_of("");
    std::filesystem::copy_file(SUNDOG_TEST_ATTEMPTS, spec.code / "app.py",
                               std::filesystem::copy_options::overwrite_existing);
    // Only the read-only mount protects it, not its mode.
    chmod(spec.code.c_str(), 0777);
    chmod((spec.code / "app.py").c_str(), 0666);
    std::filesystem::copy_file("/usr/bin/id", spec.code / "suid");
    chmod((spec.code / "suid").c_str(), 04755);
    return spec;
  }
  void open_without(LeftOut left_out) {
    LocalSandboxOptions options;
    options.insecure_test = true;
    options.left_out = left_out;
    open_sandbox(options);
  }
  // What the attempt got; null when blocked with an error.
  Json attempt(Instance& instance, const std::string& what, const Json& with = nullptr) {
    const auto outcome = invoke(instance, dump({{"do", what}, {"with", with}}));
    last_ = outcome.payload + outcome.detail;
    if (outcome.kind != Outcome::Kind::ok) {
      ADD_FAILURE() << what << " broke: " << last_;
      return nullptr;
    }
    return Json::parse(outcome.payload)["got"];
  }
  static bool through(const Json& got) {
    const std::string text = got.dump();
    return text != "null" && text != "false" && text != "0" && text != R"("")" && text != "[]";
  }
  struct Pair {
    std::shared_ptr<TemplateStart> parked;
    Witness witness, sibling_witness;
    std::unique_ptr<Instance> instance, sibling;
  };
  std::unique_ptr<Pair> start_pair() {
    auto pair = std::make_unique<Pair>();
    pair->parked = start(attempts());
    EXPECT_TRUE(pair->parked->parked) << pair->parked->failure.message;
    pair->instance = fork(*pair->parked->parked, pair->witness);
    pair->sibling = fork(*pair->parked->parked, pair->sibling_witness);
    return pair;
  }
  std::string last_;
};

struct Attack {
  const char* name;
  const char* rule;
  LeftOut without;    // the rules whose absence lets it through
  bool shown = true;  // false: what stops it cannot be left out (the reason is in `rule`)
};

TEST_F(SealTest, AttacksThatNeedNoTarget) {
  const LeftOut seccomp{.seccomp = true};
  const std::vector<Attack> attacks = {
      {"ptrace_child", "seccomp", seccomp},
      {"read_own_memory_by_process_vm", "seccomp", seccomp},
      {"unshare_user", "last filter", seccomp},
      {"unshare_user_by_clone", "seccomp on clone's flags", seccomp},
      {"mount_in_user_namespace", "last filter", seccomp},
      {"join_namespace", "seccomp", seccomp},
      {"change_root", "seccomp", seccomp},
      {"kernel_events_socket", "seccomp on socket's arguments", seccomp},
      {"add_key", "seccomp", seccomp},
      {"io_uring", "seccomp", seccomp},
      {"userfaultfd", "seccomp", seccomp},
      {"raw_socket", "no capability, and seccomp", {}, false},
      {"load_bpf", "no capability, and seccomp", {}, false},
      {"perf_event", "perf_event_paranoid, and seccomp", {}, false},
      {"load_module", "no capability, and seccomp", {}, false},
      {"capabilities", "dropped before anything runs", {}, false},
      {"cgroups", "/sys is not mounted", {}, false},
      {"host_name", "uts namespace", {}, false},
      {"descriptors", "close_range before the command runs", {}, false},
  };
  {
    const auto sealed = start_pair();
    for (const auto& attack : attacks) {
      const auto got = attempt(*sealed->instance, attack.name);
      EXPECT_FALSE(through(got)) << attack.name << " (" << attack.rule << ") got through: " << last_;
    }
  }
  open_without(seccomp);
  const auto parked = start(attempts());
  for (const auto& attack : attacks) {
    if (!attack.shown) continue;
    Witness witness;  // one each: some change what the next would see
    auto instance = fork(*parked->parked, witness);
    EXPECT_TRUE(through(attempt(*instance, attack.name))) << attack.name << " is vacuous: " << last_;
  }
}

TEST_F(SealTest, FilesOfTheHostAndOfOthersAreOutOfReach) {
  const Path secret = folder_ / "keys.db";
  std::ofstream(secret) << "secret";
  const auto other = spec_of("SECRET = 'other code'\ndef handler(e, c): return 1\n");
  const auto pair = start_pair();
  for (const Path& path : {secret, other.code / "app.py", Path("/root/.bashrc"), Path("/etc/shadow")}) {
    EXPECT_FALSE(through(attempt(*pair->instance, "read_path", path.string()))) << path << last_;
  }
  EXPECT_EQ(*read_file(secret), "secret") << "the target is not there";
  EXPECT_TRUE(through(attempt(*pair->instance, "read_path", "/var/task/app.py"))) << "not even its own code";
  EXPECT_FALSE(through(attempt(*pair->instance, "process_of", getpid()))) << "the server";
  const std::string inside = attempt(*pair->instance, "read_path", "/etc/passwd");
  EXPECT_THAT(inside, ::testing::Not(::testing::HasSubstr("daemon"))) << "the host's users are visible";
}

TEST_F(SealTest, CodeRuntimeAndSystemAreReadOnly) {
  const std::vector<std::string> paths = {"/var/task/app.py", "/var/task/new", "/usr/new", "/opt/sundog/runtime/new",
                                          "/etc/passwd",      "/new",          "/dev/new"};
  {
    const auto sealed = start_pair();
    for (const auto& path : paths) EXPECT_FALSE(through(attempt(*sealed->instance, "write_to", path))) << path;
    EXPECT_FALSE(through(attempt(*sealed->instance, "become_root", "/var/task/suid"))) << last_;
  }
  open_without({.read_only = true});
  const auto open = start_pair();
  EXPECT_TRUE(through(attempt(*open->instance, "write_to", "/var/task/new"))) << last_;
}

TEST_F(SealTest, ASiblingsFilesAreItsOwn) {
  {
    const auto sealed = start_pair();
    attempt(*sealed->sibling, "leave_in_tmp", "sibling's");
    EXPECT_EQ(attempt(*sealed->sibling, "find_in_tmp"), "sibling's") << "the target is not there";
    EXPECT_FALSE(through(attempt(*sealed->instance, "find_in_tmp"))) << last_;
  }
  open_without({.private_tmp = true});
  const auto open = start_pair();
  attempt(*open->sibling, "leave_in_tmp", "sibling's");
  EXPECT_TRUE(through(attempt(*open->instance, "find_in_tmp"))) << last_;
}

TEST_F(SealTest, ASiblingCannotBeSignalledTracedOrRead) {
  {
    const auto sealed = start_pair();
    const auto pid = attempt(*sealed->sibling, "leave_in_tmp", "x");
    ASSERT_GT(pid.get<int>(), 1);
    EXPECT_FALSE(through(attempt(*sealed->instance, "signal_others"))) << last_;
    EXPECT_FALSE(through(attempt(*sealed->instance, "kill_sibling", pid))) << last_;
    EXPECT_FALSE(through(attempt(*sealed->instance, "see_sibling", pid))) << last_;
    EXPECT_FALSE(through(attempt(*sealed->instance, "read_sibling_memory", pid))) << last_;
    EXPECT_TRUE(sealed->sibling->alive());
    EXPECT_TRUE(sealed->parked->parked->alive());
  }
  {
    open_without({.landlock = true});
    const auto open = start_pair();
    const auto pid = attempt(*open->sibling, "leave_in_tmp", "x");
    EXPECT_TRUE(through(attempt(*open->instance, "signal_others"))) << last_;
    EXPECT_FALSE(through(attempt(*open->instance, "read_sibling_memory", pid)))
        << "its user namespace is its own: " << last_;
    EXPECT_TRUE(through(attempt(*open->instance, "kill_sibling", pid))) << last_;
    EXPECT_TRUE(loop_.run_until([&] { return !open->sibling->alive(); }));
  }
  // With neither a Landlock domain nor a user namespace of its own, memory is open to the same user.
  open_without({.landlock = true, .private_tmp = true});
  const auto open = start_pair();
  const auto pid = attempt(*open->sibling, "leave_in_tmp", "x");
  EXPECT_TRUE(through(attempt(*open->instance, "see_sibling", pid))) << last_;
  EXPECT_TRUE(through(attempt(*open->instance, "read_sibling_memory", pid))) << last_;
}

TEST_F(SealTest, SiblingsAbstractSocketsAreTheirOwn) {
  {
    const auto sealed = start_pair();
    EXPECT_TRUE(through(attempt(*sealed->sibling, "listen_abstract", "meeting")));
    EXPECT_TRUE(through(attempt(*sealed->sibling, "connect_abstract", "meeting"))) << "its own socket works";
    EXPECT_FALSE(through(attempt(*sealed->instance, "connect_abstract", "meeting"))) << last_;
  }
  open_without({.landlock = true});
  const auto open = start_pair();
  EXPECT_TRUE(through(attempt(*open->sibling, "listen_abstract", "meeting")));
  EXPECT_TRUE(through(attempt(*open->instance, "connect_abstract", "meeting"))) << last_;
}

TEST_F(SealTest, TheHostsNetworkAndIpcAreOutOfReach) {
  const HostTargets host;
  {
    const auto sealed = start_pair();
    EXPECT_FALSE(through(attempt(*sealed->instance, "connect_tcp", host.port))) << last_;
    EXPECT_FALSE(through(attempt(*sealed->instance, "ipc_of_host", host.shared_key))) << last_;
  }
  EXPECT_GE(shmget(host.shared_key, 4096, 0), 0) << "the target is not there";
  {
    open_without({.network = true});
    const auto open = start_pair();
    EXPECT_TRUE(through(attempt(*open->instance, "connect_tcp", host.port))) << last_;
  }
  auto spec = attempts();
  spec.network = Network::host;
  const auto granted = start(spec);
  Witness witness;
  auto instance = fork(*granted->parked, witness);
  EXPECT_TRUE(through(attempt(*instance, "connect_tcp", host.port))) << "network \"host\" does not give it: " << last_;
}

TEST_F(SealTest, ATemplatesOwnMeansCannotBeTurnedToAnythingElse) {
  const std::string init = R"(
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def handler(event, context): return found
found = {}
child = os.fork()
if child == 0:
    # The right that the private /tmp needs, in a child so that init itself goes on.
    entered = libc.unshare(0x10020000)
    results = []
    # The words that the filter lets through, changed where they lie: by /proc/self/mem, mprotect, and a new mapping.
    line = next(line for line in open("/proc/self/maps") if "mount-words" in line)
    start = int(line.split("-")[0], 16)
    try:
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            memory.write(b"proc\0")
            results.append(0)
    except OSError:
        results.append(-1)
    results.append(libc.mprotect(ctypes.c_void_p(start), 4096, 3))
    libc.mmap.restype = ctypes.c_long
    results.append(-1 if libc.mmap(ctypes.c_void_p(start), 4096, 3, 0x32, -1, 0) == -1 else 0)
    for source, target, kind, flags in ((b"tmpfs", b"/opt", b"tmpfs", 0), (b"/", b"/tmp", None, 4096), (b"proc", b"/tmp", b"proc", 0)):
        results.append(libc.mount(source, target, kind, flags, None))
    os._exit(100 if entered != 0 else sum(1 << place for place, result in enumerate(results) if result == 0))
found["mounted"] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
)";
  const auto mounted = [&] {
    const auto started = start(init);
    Witness witness;
    const auto instance = fork(*started->parked, witness);
    return Json::parse(invoke(*instance, "{}").payload)["mounted"];
  };
  EXPECT_EQ(mounted(), 0);
  open_without({.seccomp = true});
  EXPECT_GT(mounted(), 0) << "vacuous";
}

TEST_F(SealTest, ALauncherOfAServerRefusesToLeaveRulesOut) {
  LocalSandboxOptions options;
  options.left_out = {.seccomp = true, .network = true, .read_only = true, .landlock = true, .private_tmp = true};
  open_sandbox(options);  // without insecure_test: ignored
  const auto pair = start_pair();
  EXPECT_FALSE(through(attempt(*pair->instance, "ptrace_child")));
}

TEST_F(SealTest, OrdinaryCodeWorks) {
  auto spec = attempts();
  spec.limits.memory_bytes = 512 << 20;
  spec.limits.cpu_millis = 1000;
  spec.site_packages = {SUNDOG_TEST_SITE_PACKAGES};
  const auto started = start(spec);
  ASSERT_TRUE(started->parked) << started->failure.message;
  Witness witness;
  auto instance = fork(*started->parked, witness);
  const std::vector<std::pair<const char*, Json>> uses = {
      {"use_subprocess", "42"},          {"use_threads", 8}, {"use_multiprocessing", {1, 4, 9}},
      {"use_spawn", Json::array({16})},  {"use_sqlite", 42}, {"use_loopback", "hello"},
      {"use_signals_in_own_group", -15}, {"use_numpy", 1.0}, {"use_devices", 8},
  };
  for (const auto& [use, expected] : uses) {
    EXPECT_EQ(attempt(*instance, use), expected) << use << ": " << last_ << witness.output;
  }
}

// The environment that most functions have: one thread too many would cost every one of its starts an import.
TEST_F(SealTest, ScikitLearnSurvivesTheFork) {
  auto spec = spec_of(R"(
import numpy, pandas
from sklearn.linear_model import LogisticRegression
x = numpy.random.default_rng(0).normal(size=(200, 5))
model = LogisticRegression().fit(x, (x[:, 0] > 0).astype(int))
def handler(event, context): return int(model.predict(x[:1])[0]) == int(x[0, 0] > 0)
)");
  spec.limits.memory_bytes = 1 << 30;
  spec.init_timeout = Millis{120'000};
  spec.site_packages = {SUNDOG_TEST_SITE_PACKAGES};
  std::shared_ptr<TemplateStart> started;
  sandbox_->start_template(spec, [&](Result<std::shared_ptr<TemplateStart>> result) { started = *result; });
  ASSERT_TRUE(loop_.run_until([&] { return started != nullptr; }, std::chrono::seconds(150)));
  ASSERT_TRUE(started->parked) << started->failure.message << started->output;
  EXPECT_TRUE(started->ready.fork_safe) << started->ready.reason;
  Witness witness;
  auto instance = fork(*started->parked, witness);
  EXPECT_EQ(invoke(*instance, "{}").payload, "true") << witness.output;
}

}  // namespace
}  // namespace sundog::sandbox
