// Functions that begin as forks of one environment's template: what they share, and that they share nothing else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "sandbox/sandbox_fixture.h"
#include "sandbox/sharing.h"

namespace sundog::sandbox {
namespace {

using Kind = Outcome::Kind;
using ::testing::HasSubstr;

TEST(Sharing, IsDecidedByNetworkAndTmp) {
  TemplateSpec spec;
  EXPECT_EQ(why_not_shared(spec), "");
  spec.network = Network::egress;
  EXPECT_NE(why_not_shared(spec), "");
  spec.network = Network::host;
  EXPECT_EQ(why_not_shared(spec), "");
  spec.limits.tmp_bytes = kMaxSharedTmp + 1;
  EXPECT_NE(why_not_shared(spec), "");
}

TEST(Sharing, VariablesThatMayChangeImportsArePartOfTheKey) {
  TemplateSpec spec;
  spec.environment = {{"STAGE", "test"}, {"AWS_REGION", "local"}, {"PATH", "/usr/local/bin:/usr/bin:/bin"}};
  EXPECT_TRUE(key_of(spec).variables.empty());
  for (const char* name : {"OMP_NUM_THREADS", "MKL_DYNAMIC", "PYTHONHASHSEED", "LD_PRELOAD", "MALLOC_ARENA_MAX",
                           "TF_CPP_MIN_LOG_LEVEL", "MY_NUM_THREADS", "HOME", "MPLCONFIGDIR", "JAX_PLATFORMS"}) {
    EXPECT_TRUE(changes_imports(name)) << name;
    spec.environment[name] = "2";
    EXPECT_EQ(key_of(spec).variables.count(name), 1U) << name;
  }
  spec.environment = {{"PATH", "/tmp/bin"}};
  EXPECT_EQ(key_of(spec).variables.size(), 1U);
}

TEST(Sharing, KeysDifferInEachPart) {
  const EnvironmentKey key{"a", "/usr/bin/python3", {"/env/1"}, Network::none, {}};
  std::set<std::string> texts = {key.text()};
  for (auto change :
       {+[](EnvironmentKey& k) { k.tenant = "b"; }, +[](EnvironmentKey& k) { k.python = "/usr/bin/python4"; },
        +[](EnvironmentKey& k) { k.site_packages = {"/env/2"}; },
        +[](EnvironmentKey& k) { k.site_packages.push_back("/env/2"); },
        +[](EnvironmentKey& k) { k.network = Network::host; },
        +[](EnvironmentKey& k) { k.variables["OMP_NUM_THREADS"] = "2"; }}) {
    auto other = key;
    change(other);
    EXPECT_TRUE(texts.insert(other.text()).second) << other.text();
  }
}

TEST(Sharing, ModuleNames) {
  for (const char* good : {"numpy", "sklearn.linear_model._base", "_x", "a1"})
    EXPECT_TRUE(is_module_name(good)) << good;
  for (const char* bad : {"", ".", "a..b", "a.", ".a", "a b", "a/b", "a;b", "a\nb"})
    EXPECT_FALSE(is_module_name(bad)) << bad;
  EXPECT_FALSE(is_module_name(std::string(201, 'a')));
}

class EnvironmentTemplatesTest : public SandboxTest {
 protected:
  void module(const std::string& name, const std::string& text) {
    std::filesystem::create_directories(packages());
    std::ofstream(packages() / (name + ".py")) << text;
  }
  Path packages() const { return folder_ / "packages"; }
  TemplateSpec shared_spec(const std::string& text, const std::string& tenant = "a") {
    auto spec = spec_of(text);
    std::filesystem::create_directories(packages());
    spec.tenant = tenant;
    spec.site_packages = {packages()};
    return spec;
  }
  std::shared_ptr<TemplateStart> start_shared(const std::string& text, const std::string& tenant = "a") {
    auto started = start(shared_spec(text, tenant));
    EXPECT_TRUE(started->parked) << started->failure.type << started->failure.message << started->output;
    EXPECT_EQ(started->ready.why_own_tree, "") << sandbox_->environment_templates().dump();
    return started;
  }
  Json ask(Template& parked, const std::string& event = "{}") {
    Witness witness;
    auto instance = fork(parked, witness);
    if (!instance) return nullptr;
    const auto outcome = invoke(*instance, event);
    EXPECT_EQ(outcome.kind, Kind::ok) << outcome.payload << outcome.detail << witness.output;
    return outcome.kind == Kind::ok ? Json::parse(outcome.payload) : Json();
  }
  // Of this machine; by its own name for itself, and of this parent if that is given. 0: none.
  static int process_named(const std::string& name, int parent = 0) {
    std::error_code gone;
    for (const auto& entry : std::filesystem::directory_iterator("/proc", gone)) {
      std::ifstream file(entry.path() / "stat");
      std::string stat;
      std::getline(file, stat);
      const auto from = stat.find('('), to = stat.rfind(')');
      if (to == std::string::npos || stat.substr(from + 1, to - from - 1) != name) continue;
      if (parent == 0 || std::atoi(stat.c_str() + to + 4) == parent) return std::atoi(stat.c_str());
    }
    return 0;
  }
  Json row(size_t index = 0) const { return sandbox_->environment_templates().at(index); }
  void wait_until_learned(size_t modules) {
    EXPECT_TRUE(loop_.run_until([&] { return row()["modules"] == modules && row()["state"] == "ready"; },
                                std::chrono::seconds(10)))
        << row().dump();
  }
};

// Where the process is, and who imported the package.
const char* kWho = R"(
import os
import heavy
def handler(event, context):
    return {"imported_by": heavy.PID, "template": os.getppid(), "pids": os.readlink("/proc/self/ns/pid"),
            "net": os.readlink("/proc/self/ns/net"), "tmp": os.statvfs("/tmp").f_blocks * os.statvfs("/tmp").f_frsize}
)";
const char* kHeavy = "import os\nPID = os.getpid()\n";

TEST_F(EnvironmentTemplatesTest, TheSecondFunctionHasWhatTheFirstImported) {
  module("heavy", kHeavy);
  auto spec = shared_spec(kWho);
  spec.limits.tmp_bytes = 3 << 20;
  const auto first = start(std::move(spec));
  const auto one = ask(*first->parked);
  EXPECT_EQ(one["imported_by"], one["template"]) << "nobody had imported it yet";
  EXPECT_EQ(one["tmp"], 3 << 20);
  wait_until_learned(1);
  const auto second = start_shared(kWho);
  const auto two = ask(*second->parked);
  EXPECT_NE(two["imported_by"], two["template"]);
  EXPECT_EQ(two["tmp"], 512 << 20);
  EXPECT_EQ(one["pids"], two["pids"]);
  EXPECT_NE(one["net"], two["net"]);
  EXPECT_EQ(row()["functions"], 2);
  EXPECT_GT(sandbox_->shared_bytes(), 1 << 20);
  EXPECT_EQ(sandbox_->environment_templates().size(), 1U);
}

TEST_F(EnvironmentTemplatesTest, TwoTenantsNeverShare) {
  module("heavy", kHeavy);
  const auto first = start_shared(kWho, "a"), second = start_shared(kWho, "b");
  EXPECT_NE(ask(*first->parked)["pids"], ask(*second->parked)["pids"]);
  EXPECT_EQ(sandbox_->environment_templates().size(), 2U);
  EXPECT_EQ(row(0)["tenant"], "a");
  EXPECT_EQ(row(1)["tenant"], "b");
}

TEST_F(EnvironmentTemplatesTest, WhatWasLearnedIsImportedAfterARestart) {
  module("heavy", kHeavy);
  start_shared(kWho);
  wait_until_learned(1);
  open_sandbox({});
  {
    const auto again = start_shared(kWho);  // ends before its sandbox does
    const auto answer = ask(*again->parked);
    EXPECT_NE(answer["imported_by"], answer["template"]);
  }
  const auto files = [&] {
    return std::distance(std::filesystem::directory_iterator(folder_ / "environment-templates"), {});
  };
  EXPECT_EQ(files(), 1);
  std::filesystem::remove_all(packages());
  open_sandbox({});
  EXPECT_EQ(files(), 0) << "its environment is gone";
}

TEST_F(EnvironmentTemplatesTest, APackageThatLeavesAThreadIsNotShared) {
  module("heavy", kHeavy);
  module("threads", "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n");
  const auto first = start_shared("import threads\ndef handler(event, context): return 1\n");
  EXPECT_FALSE(first->ready.fork_safe);
  EXPECT_EQ(first->ready.reason, "1 thread was left running by init");
  EXPECT_TRUE(loop_.run_until([&] { return !row()["reason"].get<std::string>().empty(); }));
  EXPECT_EQ(row()["reason"], "threads: 1 thread was left running by init");
  EXPECT_EQ(ask(*first->parked), 1) << "each instance runs init itself";
  const auto second = start_shared(kWho);
  const auto answer = ask(*second->parked);
  EXPECT_EQ(answer["imported_by"], answer["template"]);
  wait_until_learned(1);  // `heavy`: what `threads` imports, every process has
}

TEST_F(EnvironmentTemplatesTest, APackageThatEndsTheTemplateIsNotSharedAndNobodyElseSuffers) {
  module("heavy", kHeavy);
  module("deadly", "import os\nif 'AWS_LAMBDA_FUNCTION_NAME' not in os.environ: os._exit(3)\n");
  auto spec = shared_spec("import heavy, deadly\ndef handler(event, context): return event\n");
  spec.environment["AWS_LAMBDA_FUNCTION_NAME"] = "f";
  const auto first = start(std::move(spec));
  ASSERT_TRUE(first->parked);
  Witness witness;
  auto instance = fork(*first->parked, witness);
  EXPECT_TRUE(loop_.run_until([&] { return row()["state"] == "ended"; }));
  EXPECT_THAT(row()["reason"].get<std::string>(), HasSubstr("deadly: it ended"));
  EXPECT_EQ(invoke(*instance, "7").payload, "7");
  EXPECT_EQ(ask(*first->parked, "8"), 8) << "its template lives on without its parent";
  const auto second = start_shared(kWho);
  const auto answer = ask(*second->parked);
  EXPECT_NE(answer["imported_by"], answer["template"]) << "what was imported before it goes on being shared";
}

TEST_F(EnvironmentTemplatesTest, ATemplateThatDoesNotStartRefusesNoPackage) {
  module("heavy", kHeavy);
  start_shared(kWho);
  wait_until_learned(1);
  LocalSandboxOptions options;
  options.environment_memory_bytes = 1 << 20;
  open_sandbox(options);
  EXPECT_NE(start(shared_spec(kWho))->ready.why_own_tree, "");
  EXPECT_EQ(row()["state"], "ended");
  open_sandbox({});
  const auto again = start_shared(kWho);
  const auto answer = ask(*again->parked);
  EXPECT_NE(answer["imported_by"], answer["template"]);
}

TEST_F(EnvironmentTemplatesTest, WhatOneTakesIsToldAndExpectedTheNextTime) {
  module("heavy", "held = bytearray(30 << 20)\nheld[::4096] = b'x' * len(held[::4096])\nPID = 1\n");
  int told = 0;
  sandbox_->on_shared_change([&] { ++told; });
  const auto spec = shared_spec(kWho);
  const auto id = sandbox_->shared_by(spec);
  EXPECT_EQ(sandbox_->shared_to_come(id), 0) << "nobody knows yet";
  auto first = start(spec);
  wait_until_learned(1);
  ASSERT_TRUE(loop_.run_until([&] { return sandbox_->shared_bytes() > 30 << 20; }));
  EXPECT_GT(told, 0);
  const auto shared = sandbox_->shared();
  ASSERT_EQ(shared.size(), 1U);
  EXPECT_EQ(shared[0].id, id);
  EXPECT_EQ(shared[0].tenant, spec.tenant);
  EXPECT_EQ(shared[0].bytes, sandbox_->shared_bytes());
  EXPECT_EQ(shared[0].functions, 1);
  EXPECT_EQ(sandbox_->shared_to_come(id), 0) << "it runs";
  first->parked.reset();
  ASSERT_TRUE(loop_.run_until([&] { return sandbox_->shared().at(0).functions == 0; }));
  sandbox_->end_shared(id);
  EXPECT_EQ(sandbox_->shared_bytes(), 0);
  EXPECT_TRUE(sandbox_->shared().empty());
  EXPECT_GT(sandbox_->shared_to_come(id), 30 << 20);
  // Also by the next process; and while it imports, it is counted as it will be.
  open_sandbox({});
  const auto again = start(shared_spec(kWho));
  EXPECT_GT(sandbox_->shared_bytes(), 30 << 20);
}

TEST_F(EnvironmentTemplatesTest, TheLaunchersEndRefusesNoPackage) {
  const auto name = short_id("e");
  module("slow",
         "import os, time\nif 'AWS_LAMBDA_FUNCTION_NAME' not in os.environ:\n"
         "    open('/proc/self/comm', 'w').write('" +
             name + "')\n    time.sleep(600)\n");
  auto spec = shared_spec("import slow\ndef handler(event, context): return event\n");
  spec.environment["AWS_LAMBDA_FUNCTION_NAME"] = "f";
  const auto started = start(std::move(spec));
  ASSERT_TRUE(loop_.run_until([&] { return process_named(name) > 0; }));
  const int launcher = process_named("sundog-launcher", getpid());
  ASSERT_GT(launcher, 0);
  ::kill(launcher, SIGKILL);
  ASSERT_TRUE(loop_.run_until([&] { return row()["state"] == "ended"; }));
  const auto file = std::filesystem::directory_iterator(folder_ / "environment-templates")->path();
  EXPECT_EQ(Json::parse(*read_file(file))["refused"], Json::array());
}

TEST_F(EnvironmentTemplatesTest, ATemplateThatSpeaksUnaskedIsEndedAndNotStartedAtOnce) {
  module("heavy", kHeavy);
  module("speaks", R"(
from sundog.runtime import _native, wire
send = _native.send
def twice(control, kind, number, header, raw):
    send(control, kind, number, header, raw)
    if kind == wire.PRELOADED: send(control, kind, number, b'{"reason":"I say so"}', raw)
_native.send = twice
)");
  start_shared("import heavy, speaks\ndef handler(event, context): return 1\n");
  EXPECT_TRUE(loop_.run_until([&] { return row()["state"] == "ended"; }, std::chrono::seconds(10))) << row().dump();
  const auto next = start(shared_spec(kWho));
  EXPECT_EQ(next->ready.why_own_tree, "its environment's template has just ended: it broke the protocol");
}

TEST_F(EnvironmentTemplatesTest, WhyAFunctionCouldNotBeForkedIsSaid) {
  for (const auto& [tenant, what, why] : {std::array{"a", "os.fork", ": None left"},
                                          {"b", "_native.become_template", ": OSError: [Errno 12] None left"}}) {
    module("heavy", std::string("import os\nfrom sundog.runtime import _native\nPID = os.getpid()\n") +
                        "def fails(*_): raise OSError(12, 'None left')\n" + what + " = fails\n");
    start_shared("import heavy\ndef handler(event, context): return 1\n", tenant);
    const size_t index = tenant == std::string("a") ? 0 : 1;
    EXPECT_TRUE(loop_.run_until([&] { return row(index)["modules"] == 1 && row(index)["state"] == "ready"; }));
    const auto second = start(shared_spec(kWho, tenant));
    EXPECT_EQ(second->ready.why_own_tree, std::string("it could not be forked from its environment's") + why) << what;
  }
}

TEST_F(EnvironmentTemplatesTest, AnEndThatNobodySawIsNotTheLaunchers) {
  LocalSandboxOptions options;
  options.environment_budget_bytes = 1;
  open_sandbox(options);
  for (const auto& [end, tenant] :
       {std::pair{"held = [bytearray(8 << 20) for _ in range(1000)]", "a"}, {"os._exit(3)", "b"}}) {
    const auto name = short_id("f");
    auto spec = shared_spec("import os, time\nopen('/proc/self/comm', 'w').write('" + name +
                                "')\nparent = os.getppid()\n"
                                "while os.getppid() == parent: time.sleep(0.01)\n" +
                                end + "\n",
                            tenant);
    std::optional<Result<std::shared_ptr<TemplateStart>>> ended;
    sandbox_->start_template(std::move(spec), [&](auto result) { ended = std::move(result); });
    ASSERT_TRUE(loop_.run_until([&] { return process_named(name) > 0; }));
    start_shared("def handler(event, context): return 1\n", std::string(tenant) + "2");  // over the budget
    ASSERT_TRUE(loop_.run_until([&] { return ended.has_value(); }));
    if (std::string(tenant) == "a") {
      ASSERT_TRUE(ended->ok()) << ended->error().text();
      EXPECT_EQ((**ended)->failure.type, "Runtime.OutOfMemory");
    } else {
      ASSERT_FALSE(ended->ok());
      EXPECT_EQ(ended->error().message, "The template of its environment ended while test/function:1 started.");
    }
  }
}

TEST_F(EnvironmentTemplatesTest, AFunctionsOwnModuleStandsBeforeThePackagesOfTheSameName) {
  module("heavy", "PID = 'package'\n");
  start_shared(kWho);
  wait_until_learned(1);
  auto spec = shared_spec(kWho);
  std::ofstream(spec.code / "heavy.py") << "PID = 'own'\n";
  const auto started = start(std::move(spec));
  ASSERT_TRUE(started->parked);
  EXPECT_EQ(started->ready.why_own_tree, "its own module heavy stands before its environment's");
  EXPECT_EQ(ask(*started->parked)["imported_by"], "own");
  // The same, from a folder that its init puts on the path.
  spec = shared_spec(std::string("import sys\nsys.path.insert(0, '/var/task/lib')\n") + kWho);
  std::filesystem::create_directories(spec.code / "lib");
  std::ofstream(spec.code / "lib" / "heavy.py") << "PID = 'vendored'\n";
  const auto vendored = start(std::move(spec));
  EXPECT_EQ(ask(*vendored->parked)["imported_by"], "vendored");
  // A folder of data is no module.
  spec = shared_spec(kWho);
  std::filesystem::create_directories(spec.code / "heavy");
  const auto data = start(std::move(spec));
  EXPECT_EQ(data->ready.why_own_tree, "");
}

TEST_F(EnvironmentTemplatesTest, ReapingImportsNothingInAFunctionsPlace) {
  auto first = start_shared("def handler(event, context): return 1\n");
  first->parked.reset();
  ASSERT_TRUE(loop_.run_until([&] { return row()["functions"] == 0; }));
  auto spec = shared_spec("import resource\ndef handler(event, context): return resource.OWN\n");
  std::ofstream(spec.code / "resource.py") << "OWN = True\n";
  const auto second = start(std::move(spec));
  ASSERT_TRUE(second->parked) << second->failure.message;
  EXPECT_EQ(second->ready.why_own_tree, "");
  EXPECT_EQ(ask(*second->parked), true);
}

TEST_F(EnvironmentTemplatesTest, AVariableThatMayChangeImportsIsThereWhenTheyHappen) {
  module("heavy", "import os\nPID = os.environ['OMP_NUM_THREADS']\n");
  const auto plain = start_shared(kWho);
  auto spec = shared_spec(kWho);
  spec.environment["OMP_NUM_THREADS"] = "2";
  for (int i = 0; i < 2; ++i) {
    const auto started = start(spec);
    EXPECT_EQ(started->ready.why_own_tree, "");
    EXPECT_EQ(ask(*started->parked)["imported_by"], "2");
    EXPECT_TRUE(loop_.run_until([&] { return row(1)["modules"] == 1 && row(1)["state"] == "ready"; }));
  }
  EXPECT_EQ(ask(*plain->parked)["imported_by"], "1");
  EXPECT_EQ(sandbox_->environment_templates().size(), 2U);
}

TEST_F(EnvironmentTemplatesTest, PackagesMaySetVariablesAndWriteToTmp) {
  module("heavy", "import os\nPID = os.getpid()\nos.environ['SET_BY'] = 'heavy'\nopen('/tmp/cache', 'w').write('c')\n");
  const char* code = R"(
import heavy, os
def handler(event, context):
    return {"by": heavy.PID != os.getppid(), "variable": os.environ["SET_BY"], "cache": open("/tmp/cache").read()}
)";
  start_shared(code);
  wait_until_learned(1);
  const auto second = start_shared(code);
  EXPECT_EQ(ask(*second->parked), Json({{"by", true}, {"variable", "heavy"}, {"cache", "c"}}));
}

TEST_F(EnvironmentTemplatesTest, OverTheBudgetTheLeastRecentlyUsedEndsAndItsFunctionsGoOn) {
  LocalSandboxOptions options;
  options.environment_budget_bytes = 1;
  open_sandbox(options);
  module("heavy", kHeavy);
  const auto first = start_shared(kWho, "a");
  const auto second = start_shared(kWho, "b");
  EXPECT_TRUE(loop_.run_until([&] { return row(0)["state"] == "ended"; }));
  EXPECT_NE(row(1)["state"], "ended") << "the one that was used last stays";
  EXPECT_TRUE(ask(*first->parked)["imported_by"].is_number());
  const auto third = start_shared(kWho, "a");
  EXPECT_TRUE(ask(*third->parked)["imported_by"].is_number());
}

TEST_F(EnvironmentTemplatesTest, WithoutFunctionsItEndsAfterItsTime) {
  LocalSandboxOptions options;
  options.environment_idle = Millis{1};
  open_sandbox(options);
  auto started = start_shared("def handler(event, context): return 1\n");
  EXPECT_EQ(ask(*started->parked), 1);
  EXPECT_NE(row()["state"], "ended");
  started->parked.reset();
  EXPECT_TRUE(loop_.run_until([&] { return row()["state"] == "ended"; }));
  EXPECT_EQ(sandbox_->shared_bytes(), 0);
}

TEST_F(EnvironmentTemplatesTest, WhatLivesInOneFunctionIsNotInTheNext) {
  // Unsafe to fork: each instance is a fork of the environment's template, and runs init itself.
  const char* code = R"(
import os, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
seen = os.listdir("/tmp")
open("/tmp/mark", "w").write("x")
def handler(event, context):
    if event == "exit": os._exit(9)
    return {"seen": seen, "threads": threading.active_count(), "parent": os.getppid()}
)";
  const auto started = start_shared(code);
  EXPECT_FALSE(started->ready.fork_safe);
  for (int i = 0; i < 2; ++i) {
    const auto answer = ask(*started->parked);
    EXPECT_EQ(answer["seen"], Json::array());
    EXPECT_EQ(answer["threads"], 2);
  }
  Witness witness;
  auto instance = fork(*started->parked, witness);
  const auto outcome = invoke(*instance, "\"exit\"");
  EXPECT_EQ(outcome.kind, Kind::exited);
  EXPECT_EQ(outcome.exit_status, 9);
}

// What a function tries against another one over the same environment, in init and in an instance.
const char* kAttacker = R"(
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def system_call(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_void_p(a) if isinstance(a, int) else a for a in arguments])
    return result if result >= 0 else -ctypes.get_errno()
SETATTR, MOVE_MOUNT, OPEN_TREE, MOUNT, UMOUNT, UNSHARE, SETNS, SHMGET = 442, 429, 428, 165, 166, 272, 308, 29
RDONLY, REMOUNT, BIND = 1, 32, 4096
NEWUSER, NEWNS, NEWNET = 0x10000000, 0x20000, 0x40000000
def try_to(what, target=None):
    try:
        return attempts[what](target)
    except OSError as error:
        return -error.errno
def connect(address, family=socket.AF_INET):
    with socket.socket(family) as s:
        s.settimeout(2)
        s.connect(address)
        return s.recv(10).decode()
def in_user_namespace(what):
    if os.fork() == 0:
        code = 0  # got through, unless a refusal says otherwise
        try:
            result = system_call(UNSHARE, NEWUSER | NEWNS)
            if result == 0:
                result = try_to(what)
            code = min(90, -result) if result < 0 else 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.wait()[1])
attempts = {
    "write": lambda _: open("/var/task/app.py", "a").write("x"),
    "create": lambda _: open("/var/task/new", "w").write("x"),
    "remount": lambda _: system_call(MOUNT, b"none", b"/var/task", None, REMOUNT | BIND, None),
    "remount_root": lambda _: system_call(MOUNT, b"none", b"/", None, REMOUNT | BIND, None),
    "set_attributes": lambda _: system_call(SETATTR, -100, b"/var/task", 0, (ctypes.c_uint64 * 4)(0, RDONLY, 0, 0), 32),
    "bind_over": lambda _: system_call(MOUNT, b"/tmp", b"/var/task", None, BIND, None),
    "tmpfs_over": lambda _: system_call(MOUNT, b"tmpfs", b"/var/task", b"tmpfs", 6, b"size=1m"),
    "tmpfs_large": lambda _: system_call(MOUNT, b"tmpfs", b"/tmp", b"tmpfs", 6, b"size=99g"),
    "unmount": lambda _: system_call(UMOUNT, b"/var/task", 2),
    "clone_mount": lambda _: system_call(OPEN_TREE, -100, b"/var/task", 1),
    "move_mount": lambda _: system_call(MOVE_MOUNT, 5, b"", -100, b"/var/task", 4),
    "new_network": lambda _: system_call(UNSHARE, NEWUSER | NEWNS | NEWNET),
    "new_network_and_ipc": lambda _: system_call(UNSHARE, NEWUSER | NEWNS | NEWNET | 0x8000000),
    "routing_socket": lambda _: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).fileno(),
    "packet_filter": lambda _: socket.socket().setsockopt(0, 64, bytes(96)) or 0,
    "signal": lambda pid: os.kill(pid, 0) or "sent",
    "see": lambda pid: os.path.exists(f"/proc/{pid}") or -2,
    "memory": lambda pid: open(f"/proc/{pid}/mem", "rb").fileno(),
    "variables": lambda pid: open(f"/proc/{pid}/environ").read(),
    "files": lambda pid: os.listdir(f"/proc/{pid}/root/tmp"),
    "loopback": lambda port: connect(("127.0.0.1", port)),
    "abstract": lambda name: connect("\0" + name, socket.AF_UNIX),
    "shared_memory": lambda key: system_call(SHMGET, key, 4096, 0),
}
ALONE = [name for name in attempts if name not in (
    "signal", "see", "memory", "variables", "files", "loopback", "abstract", "shared_memory")]
CROSSED = ["write", "create", "remount", "remount_root", "set_attributes", "bind_over", "tmpfs_over", "tmpfs_large", "unmount",
           "clone_mount", "move_mount"]
def all_alone():
    return {name: try_to(name) for name in ALONE} | {"crossed_" + name: -in_user_namespace(name) for name in CROSSED}
in_init = {name: try_to(name) for name in ALONE} | {"crossed_" + name: -in_user_namespace(name) for name in CROSSED}
def handler(event, context):
    if event["do"] == "init": return in_init
    if event["do"] == "alone": return all_alone()
    return try_to(event["do"], event.get("with"))
)";

// A negative errno; nlohmann finds null and true less than 0 too.
bool refused(const Json& got) {
  return got.is_number() && got < 0;
}

TEST_F(EnvironmentTemplatesTest, NeitherInitNorAnInstanceCanChangeTheCodeOrGetMoreRights) {
  auto spec = shared_spec(kAttacker);
  // Only the mount protects it, not its mode.
  std::filesystem::permissions(spec.code, std::filesystem::perms(0777));
  std::filesystem::permissions(spec.code / "app.py", std::filesystem::perms(0666));
  const Path code = spec.code;
  const auto started = start(std::move(spec));
  ASSERT_TRUE(started->parked) << started->failure.message << started->output;
  EXPECT_EQ(started->ready.why_own_tree, "");
  for (const char* where : {"init", "alone"}) {
    const auto got = ask(*started->parked, dump({{"do", where}}));
    EXPECT_GE(got.size(), 20U);
    for (const auto& [name, result] : got.items()) {
      EXPECT_TRUE(refused(result)) << where << " " << name << " got through: " << result;
    }
  }
  EXPECT_EQ(*read_file(code / "app.py"), kAttacker);
  EXPECT_FALSE(std::filesystem::exists(code / "new"));
}

// What is there to be attacked: a listener on loopback, an abstract socket, shared memory, a variable and a file.
const char* kVictim = R"(
import os, socket, threading
servers = [socket.socket(), socket.socket(socket.AF_UNIX)]
servers[0].bind(("127.0.0.1", 0))
servers[1].bind("\0victim")
def serve(server):
    server.listen()
    while True:
        with server.accept()[0] as peer: peer.send(b"secret")
import ctypes
libc = ctypes.CDLL(None)
if libc.shmget(4711, 4096, 0o1666) < 0: raise OSError("no shared memory to attack")
def handler(event, context):
    if not threading.active_count() > 1:
        for server in servers: threading.Thread(target=serve, args=(server,), daemon=True).start()
    open("/tmp/secret", "w").write("secret")
    return {"instance": os.getpid(), "template": os.getppid(), "port": servers[0].getsockname()[1]}
)";

// Leaves nothing of that, so that its instances are forks of a template of its own.
const char* kForkSafeVictim = R"(
import os
open("/tmp/secret", "w").write("secret")
def handler(event, context):
    return {"instance": os.getpid(), "template": os.getppid()}
)";

class TwoFunctionsTest : public EnvironmentTemplatesTest {
 protected:
  void start_both(LeftOut left_out, const char* victim = kVictim) {
    LocalSandboxOptions options;
    options.insecure_test = true;
    options.left_out = left_out;
    open_sandbox(options);
    auto spec = shared_spec(victim);
    spec.environment["SECRET"] = "secret";
    victim_ = start(std::move(spec));
    attacker_ = start_shared(kAttacker);
    ASSERT_TRUE(victim_->parked && attacker_->parked);
    EXPECT_EQ(victim_->ready.why_own_tree, "");
    EXPECT_EQ(victim_->ready.fork_safe, victim == kForkSafeVictim) << victim_->ready.reason;
    instance_ = fork(*victim_->parked, witness_);
    const auto answer = invoke(*instance_, "{}");
    ASSERT_EQ(answer.kind, Kind::ok) << answer.payload << witness_.output;
    pids_ = Json::parse(answer.payload);
    EXPECT_EQ(row()["functions"], 2);
  }
  void TearDown() override {
    instance_.reset();
    victim_.reset();
    attacker_.reset();
    EnvironmentTemplatesTest::TearDown();
  }
  Json attack(const std::string& what, const Json& with) {
    return ask(*attacker_->parked, dump({{"do", what}, {"with", with}}));
  }
  void reaches_nothing_of(const char* who) {
    for (const char* what : {"signal", "see", "memory", "variables", "files"}) {
      const auto got = attack(what, pids_[who]);
      EXPECT_TRUE(refused(got)) << what << " " << who << " " << got;
    }
  }
  std::shared_ptr<TemplateStart> victim_, attacker_;
  Witness witness_;
  std::unique_ptr<Instance> instance_;
  Json pids_;
};

TEST_F(TwoFunctionsTest, OneDoesNotReachTheOther) {
  start_both({});
  reaches_nothing_of("instance");
  EXPECT_TRUE(refused(attack("loopback", pids_["port"])));
  EXPECT_TRUE(refused(attack("abstract", "victim")));
  EXPECT_TRUE(refused(attack("shared_memory", 4711)));
}

TEST_F(TwoFunctionsTest, OneDoesNotReachTheTemplateOfTheOther) {
  start_both({}, kForkSafeVictim);
  reaches_nothing_of("instance");
  reaches_nothing_of("template");
}

TEST_F(TwoFunctionsTest, WithoutLandlockASignalGetsThrough) {
  start_both({.landlock = true});
  EXPECT_EQ(attack("signal", pids_["instance"]), "sent");
}

TEST_F(TwoFunctionsTest, WithoutLandlockASignalReachesTheTemplateToo) {
  start_both({.landlock = true}, kForkSafeVictim);
  EXPECT_EQ(attack("signal", pids_["instance"]), "sent");
  EXPECT_EQ(attack("signal", pids_["template"]), "sent");
}

TEST_F(TwoFunctionsTest, WithoutNetworksOfTheirOwnLoopbackIsOne) {
  start_both({.network = true});
  EXPECT_EQ(attack("loopback", pids_["port"]), "secret");
}

}  // namespace
}  // namespace sundog::sandbox
