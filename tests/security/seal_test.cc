// The seal, rule by rule: each attempt is blocked, and gets through once just the rules named beside it are left out,
// so that no row is vacuous; and what ordinary code does still works. docs/design/sandbox.md has the same rows in
// words.
#include <poll.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "sandbox/test_listener.h"
#include "seal_fixture.h"

namespace sundog::sandbox {
namespace {

// Things of the host that an instance must not reach.
class HostTargets {
 public:
  HostTargets() {
    accepting_ = std::thread([this] {
      pollfd callers{tcp_.fd.get(), POLLIN, 0};
      while (poll(&callers, 1, -1) == 1) {
        const UniqueFd peer(accept4(tcp_.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
        if (!peer) return;
        send(peer.get(), "host", 4, MSG_NOSIGNAL);
      }
    });
    shared_memory = shmget(shared_key, 4096, IPC_CREAT | 0666);
    abstract_ = UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un name{.sun_family = AF_UNIX, .sun_path = {}};
    std::copy(abstract_name.begin(), abstract_name.end(), name.sun_path + 1);
    const auto length = socklen_t(offsetof(sockaddr_un, sun_path) + 1 + abstract_name.size());
    EXPECT_EQ(bind(abstract_.get(), reinterpret_cast<sockaddr*>(&name), length), 0);
    EXPECT_EQ(listen(abstract_.get(), 8), 0);
  }
  ~HostTargets() {
    shutdown(tcp_.fd.get(), SHUT_RDWR);
    accepting_.join();
    shmctl(shared_memory, IPC_RMID, nullptr);
  }
  int port() const { return tcp_.port; }
  int shared_key = 0x53554e44;
  int shared_memory = -1;
  const std::string abstract_name = "sundog-host-" + short_id("s");

 private:
  TestListener tcp_;
  UniqueFd abstract_;
  std::thread accepting_;
};

// What a process may do by its user: the launcher's user and rights, and no user namespace between.
constexpr LeftOut kRights{.seccomp = true, .user_namespace = true, .private_tmp = true, .rights = true};

TEST_F(SealTest, SystemCallsThatAreRefused) {
  const std::vector<std::pair<const char*, const char*>> attacks = {
      {"ptrace_child", "seccomp"},
      {"read_own_memory_by_process_vm", "seccomp"},
      {"unshare_user", "last filter"},
      {"unshare_user_by_clone", "seccomp on clone's flags"},
      {"unshare_user_by_clone3", "seccomp: its flags lie where no filter can look"},
      {"mount_in_user_namespace", "last filter"},
      {"pivot_root", "seccomp"},
      {"join_namespace", "seccomp"},
      {"change_root", "seccomp"},
      {"kernel_events_socket", "seccomp on socket's arguments"},
      {"add_key", "seccomp"},
      {"io_uring", "seccomp"},
      {"userfaultfd", "seccomp"},
  };
  {
    const auto sealed = start_pair();
    for (const auto& [name, rule] : attacks) {
      EXPECT_FALSE(through(attempt(*sealed->instance, name))) << name << " (" << rule << ") got through: " << last_;
    }
  }
  open_without({.seccomp = true});
  const auto parked = start(attempts());
  for (const auto& [name, rule] : attacks) {
    Witness witness;  // one each: some change what the next would see
    auto instance = fork(*parked->parked, witness);
    EXPECT_TRUE(through(attempt(*instance, name))) << name << " is vacuous: " << last_;
  }
}

// Two locks each: the filter, and that the process has no right over anything of the host's.
TEST_F(SealTest, WhatOnlyTheHostsRootMayDo) {
  struct Attack {
    const char* name;
    Json with = nullptr;
    bool possible = true;
  };
  const std::vector<Attack> attacks = {
      {"raw_socket"},
      {"load_bpf"},
      {"perf_event"},
      {"make_device"},
      {"kernel_log"},
      {"capabilities"},
      {"load_module", nullptr, access("/proc/modules", F_OK) == 0},  // a kernel without modules refuses everybody
      {"open_for_writing", "/proc/sys/kernel/core_pattern"},
      {"open_for_writing", "/proc/sys/vm/drop_caches"},
      {"open_for_writing", "/proc/sysrq-trigger", access("/proc/sysrq-trigger", F_OK) == 0},
  };
  const auto blocked = [&] {
    const auto sealed = start_pair();
    for (const auto& attack : attacks) {
      EXPECT_FALSE(through(attempt(*sealed->instance, attack.name, attack.with)))
          << attack.name << " got through: " << last_;
    }
  };
  blocked();
  open_without(kRights);
  const auto parked = start(attempts());
  Witness witness;
  auto instance = fork(*parked->parked, witness);
  for (const auto& attack : attacks) {
    if (!attack.possible) continue;
    EXPECT_TRUE(through(attempt(*instance, attack.name, attack.with))) << attack.name << " is vacuous: " << last_;
  }
}

TEST_F(SealTest, WhatCannotBeLeftOut) {
  const auto sealed = start_pair();
  EXPECT_FALSE(through(attempt(*sealed->instance, "cgroups"))) << "/sys is mounted: " << last_;
  EXPECT_FALSE(through(attempt(*sealed->instance, "descriptors"))) << last_;
}

TEST_F(SealTest, TheHostsNameAndMarksAreNotTold) {
  char name[256] = {};
  gethostname(name, sizeof(name) - 1);
  auto secrets = Json::array();
  if (std::string_view(name) != "sundog" && strlen(name) > 3) secrets.push_back(name);
  for (const char* file :
       {"/etc/machine-id", "/sys/class/net/eth0/address", "/proc/sys/kernel/random/boot_id", "/proc/cmdline"}) {
    const auto text = read_file(file);
    if (text.ok() && text->size() > 8) secrets.push_back(text->substr(0, text->find('\n')));
  }
  {
    const auto sealed = start_pair();
    EXPECT_FALSE(through(attempt(*sealed->instance, "host_name"))) << last_;
    EXPECT_FALSE(through(attempt(*sealed->instance, "facts_of_host", secrets))) << last_;
  }
  EXPECT_TRUE(gets_through({.tree = true}, "facts_of_host", secrets)) << "vacuous: " << last_;
  if (std::string_view(name) == "sundog") return;
  EXPECT_TRUE(gets_through({.uts = true}, "host_name")) << last_;
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

TEST_F(SealTest, WithTheHostsTreeOrProcessesLeftInTheyAreSeen) {
  const Path folder = folder_ / "data";
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "keys.db") << "secret";
  open_without({.tree = true});
  {
    const auto open = start_pair();
    EXPECT_EQ(attempt(*open->instance, "read_path", (folder / "keys.db").string()), "secret") << last_;
  }
  // Against the tree's hole stands the mode of the data folder, which is the server's alone.
  std::filesystem::permissions(folder, std::filesystem::perms(0700));
  {
    const auto open = start_pair();
    EXPECT_FALSE(through(attempt(*open->instance, "read_path", (folder / "keys.db").string()))) << last_;
  }
  EXPECT_TRUE(gets_through({.pids = true}, "process_of", getpid())) << last_;
}

TEST_F(SealTest, CodeRuntimeAndSystemAreReadOnly) {
  const std::vector<std::string> paths = {"/var/task/app.py", "/var/task/new", "/usr/new", "/opt/sundog/runtime/new",
                                          "/etc/passwd",      "/new",          "/dev/new"};
  {
    const auto sealed = start_pair();
    for (const auto& path : paths) EXPECT_FALSE(through(attempt(*sealed->instance, "write_to", path))) << path;
    EXPECT_FALSE(through(attempt(*sealed->instance, "become_root", "/var/task/suid"))) << last_;
  }
  EXPECT_TRUE(gets_through({.read_only = true}, "write_to", "/var/task/new")) << last_;
}

// Four locks: nosuid mounts, no_new_privs, a user namespace without root in it, and one more for each instance. The
// filters and Landlock may only be had with no_new_privs.
TEST_F(SealTest, SetuidProgramsGiveNothing) {
  const LeftOut all{.seccomp = true, .user_namespace = true, .landlock = true, .private_tmp = true, .setuid = true};
  EXPECT_TRUE(gets_through(all, "become_root", "/var/task/suid")) << "vacuous: " << last_;
  LeftOut without_setuid = all;
  without_setuid.setuid = false;
  EXPECT_FALSE(gets_through(without_setuid, "become_root", "/var/task/suid")) << last_;
  LeftOut with_namespaces = all;
  with_namespaces.user_namespace = with_namespaces.private_tmp = false;
  EXPECT_FALSE(gets_through(with_namespaces, "become_root", "/var/task/suid")) << last_;
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

TEST_F(SealTest, ASiblingOrTheTemplateCannotBeTracedByAnyCall) {
  const std::vector<const char*> attacks = {"trace_process", "read_process_by_process_vm", "environment_of",
                                            "signal_process"};
  const auto outcomes = [&](const char* attack) {
    const auto pair = start_pair();
    const auto sibling = attempt(*pair->sibling, "leave_in_tmp", "x"),
               parent = attempt(*pair->instance, "template_pid");
    EXPECT_GT(sibling.get<int>(), 1);
    EXPECT_GT(parent.get<int>(), 1) << "the template is an instance's parent";
    const bool reached = through(attempt(*pair->instance, attack, sibling));
    return std::pair{reached, through(attempt(*pair->instance, attack, parent))};
  };
  for (const char* attack : attacks) EXPECT_EQ(outcomes(attack), std::pair(false, false)) << attack << last_;
  // Each of filter, Landlock and the instance's user namespace stops the first two alone.
  open_without({.seccomp = true});
  EXPECT_EQ(outcomes("trace_process"), std::pair(false, false)) << last_;
  open_without({.landlock = true, .private_tmp = true});
  EXPECT_EQ(outcomes("trace_process"), std::pair(false, false)) << last_;
  open_without({.seccomp = true, .landlock = true, .private_tmp = true});
  for (const char* attack : attacks) EXPECT_EQ(outcomes(attack), std::pair(true, true)) << attack << last_;
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
    EXPECT_FALSE(through(attempt(*sealed->instance, "connect_tcp", host.port()))) << last_;
    EXPECT_FALSE(through(attempt(*sealed->instance, "ipc_of_host", host.shared_key))) << last_;
    EXPECT_FALSE(through(attempt(*sealed->instance, "connect_abstract", host.abstract_name))) << last_;
  }
  EXPECT_TRUE(gets_through({.ipc = true}, "ipc_of_host", host.shared_key)) << last_;
  EXPECT_FALSE(gets_through({.network = true}, "connect_abstract", host.abstract_name)) << "Landlock's too: " << last_;
  EXPECT_TRUE(gets_through({.network = true, .landlock = true}, "connect_abstract", host.abstract_name)) << last_;
  EXPECT_GE(shmget(host.shared_key, 4096, 0), 0) << "the target is not there";
  {
    open_without({.network = true});
    const auto open = start_pair();
    EXPECT_TRUE(through(attempt(*open->instance, "connect_tcp", host.port()))) << last_;
  }
  auto spec = attempts();
  spec.network = Network::host;
  const auto granted = start(spec);
  Witness witness;
  auto instance = fork(*granted->parked, witness);
  EXPECT_TRUE(through(attempt(*instance, "connect_tcp", host.port())))
      << "network \"host\" does not give it: " << last_;
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
      {"use_shared_memory", "hello"},    {"use_ipc", true},  {"use_files", "hello"},
      {"use_abstract_socket", true},     {"use_proc", true}, {"use_clocks", true},
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
