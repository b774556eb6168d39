#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>

#include <csignal>
#include <thread>

#include "sandbox/sandbox_fixture.h"

namespace sundog::sandbox {
namespace {

using Kind = Outcome::Kind;
using ::testing::HasSubstr;

TEST_F(SandboxTest, AnswersAndKeepsItsState) {
  const auto started = start(R"(
print("init runs")
calls = 0
def handler(event, context):
    global calls
    calls += 1
    print("hello", event["who"])
    return {"calls": calls, "id": context.aws_request_id, "left": context.get_remaining_time_in_millis() > 1000}
)");
  ASSERT_TRUE(started->parked);
  EXPECT_THAT(started->output, HasSubstr("init runs"));
  EXPECT_TRUE(started->ready.fork_safe) << started->ready.reason;
  EXPECT_GT(started->ready.memory_bytes, 1 << 20);
  Witness witness;
  auto instance = fork(*started->parked, witness);
  ASSERT_TRUE(instance);
  EXPECT_GT(instance->pid(), 1);
  // Whole pages: a number of another file of the cgroup would hardly be.
  EXPECT_EQ(instance->memory_bytes() % 4096, 0);
  EXPECT_EQ(started->parked->memory_bytes() % 4096, 0);
  EXPECT_GT(started->parked->memory_bytes(), 1 << 20);
  const auto first = invoke(*instance, R"({"who":"Ada"})");
  ASSERT_EQ(first.kind, Kind::ok) << first.payload << first.detail << witness.output;
  EXPECT_EQ(Json::parse(first.payload)["calls"], 1);
  EXPECT_EQ(Json::parse(first.payload)["left"], true);
  EXPECT_EQ(witness.output, "hello Ada\n");
  EXPECT_GT(first.consumption.handler.count(), 0);
  EXPECT_GT(first.consumption.peak_memory_bytes, 0);
  EXPECT_EQ(Json::parse(invoke(*instance, R"({"who":"Bob"})").payload)["calls"], 2);
  Witness other;
  auto second = fork(*started->parked, other);
  EXPECT_EQ(Json::parse(invoke(*second, R"({"who":"Eve"})").payload)["calls"], 1);
}

const char* kTricks = R"(
import ctypes, os, subprocess, sys, time
def handler(event, context):
    trick = event["do"]
    if trick == "raise": raise ValueError("bad income")
    if trick == "exit": sys.exit(3)
    if trick == "hard_exit": os._exit(4)
    if trick == "segfault": ctypes.string_at(0)
    if trick == "sleep": print("sleeping", flush=True), time.sleep(600)
    if trick == "unserialisable": return object()
    if trick == "large": return "x" * (6 << 20) + "y" * 200
    if trick == "memory":
        held = []
        while True: held.append(bytearray(8 << 20))
    if trick == "tmp_memory":
        with open("/tmp/big", "wb") as file:
            while True: file.write(bytes(8 << 20))
    if trick == "output":
        for _ in range(1000): print("x" * 100_000)
    if trick == "forks":
        made = 0
        try:
            while made < 5000:
                if os.fork() == 0:
                    time.sleep(600)
                made += 1
        except OSError as error:
            return {"made": made, "errno": error.errno}
        return {"made": made}
    if trick == "stream": return (piece for piece in ["one ", b"two ", "three"])
    return event
)";

TEST_F(SandboxTest, HandlerErrorsHaveLambdasShape) {
  const auto started = start(kTricks);
  ASSERT_TRUE(started->parked);
  Witness witness;
  auto instance = fork(*started->parked, witness);
  const auto raised = invoke(*instance, R"({"do":"raise"})");
  ASSERT_EQ(raised.kind, Kind::handler_error);
  const auto error = Json::parse(raised.payload);
  EXPECT_EQ(error["errorType"], "ValueError");
  EXPECT_EQ(error["errorMessage"], "bad income");
  ASSERT_EQ(error["stackTrace"].size(), 1U) << error.dump(2);
  EXPECT_THAT(error["stackTrace"][0].get<std::string>(), HasSubstr("File \"/var/task/app.py\", line 5, in handler"));
  const auto odd = invoke(*instance, R"({"do":"unserialisable"})");
  ASSERT_EQ(odd.kind, Kind::handler_error);
  EXPECT_EQ(Json::parse(odd.payload)["errorType"], "Runtime.MarshalError");
  const auto large = invoke(*instance, R"({"do":"large"})");
  ASSERT_EQ(large.kind, Kind::handler_error);
  EXPECT_EQ(Json::parse(large.payload)["errorType"], "Function.ResponseSizeTooLarge");
  const auto broken = invoke(*instance, "{nonsense");
  EXPECT_EQ(Json::parse(broken.payload)["errorType"], "Runtime.UnmarshalError");
  EXPECT_EQ(invoke(*instance, R"({"do":"echo"})").payload, R"({"do": "echo"})");
}

TEST_F(SandboxTest, ASixMegabyteEventComesBackAsItWent) {
  const auto started = start(kTricks, 512);
  Witness witness;
  auto instance = fork(*started->parked, witness);
  const std::string event = R"({"do": "echo", "x": ")" + std::string((6 << 20) - 64, 'a') + "\"}";
  const auto outcome = invoke(*instance, event);
  ASSERT_EQ(outcome.kind, Kind::ok) << outcome.detail;
  EXPECT_EQ(outcome.payload, event);
}

TEST_F(SandboxTest, AStreamedAnswerComesInPieces) {
  const auto started = start(kTricks);
  Witness witness;
  auto instance = fork(*started->parked, witness);
  const auto outcome = invoke(*instance, R"({"do":"stream"})");
  ASSERT_EQ(outcome.kind, Kind::ok) << outcome.payload;
  EXPECT_EQ(witness.streamed, "one two three");
  EXPECT_EQ(outcome.payload, "");
}

TEST_F(SandboxTest, DeathsAreToldApart) {
  const auto started = start(kTricks);
  struct Case {
    const char* trick;
    Kind kind;
    int exit_status, signal;
  };
  for (const auto& one :
       {Case{"exit", Kind::exited, 3, 0}, Case{"hard_exit", Kind::exited, 4, 0}, Case{"segfault", Kind::exited, -1, 11},
        Case{"memory", Kind::out_of_memory, -1, 9}, Case{"tmp_memory", Kind::out_of_memory, -1, 9}}) {
    Witness witness;
    auto instance = fork(*started->parked, witness);
    const auto outcome = invoke(*instance, std::string(R"({"do":")") + one.trick + "\"}");
    EXPECT_EQ(outcome.kind, one.kind) << one.trick << " " << outcome.payload << outcome.detail << witness.output;
    EXPECT_EQ(outcome.exit_status, one.exit_status) << one.trick;
    EXPECT_EQ(outcome.signal, one.signal) << one.trick;
    EXPECT_FALSE(instance->alive());
    if (one.kind == Kind::out_of_memory) {
      EXPECT_GT(outcome.consumption.peak_memory_bytes, 250 << 20) << one.trick;
    }
    EXPECT_EQ(witness.ends, 0);
  }
  EXPECT_TRUE(started->parked->alive());
}

TEST_F(SandboxTest, AKilledInvocationSaysSoAtOnce) {
  const auto started = start(kTricks);
  Witness witness;
  auto instance = fork(*started->parked, witness);
  std::optional<Outcome> outcome;
  begin(*instance, R"({"do":"sleep"})", outcome);
  instance->kill();
  EXPECT_FALSE(outcome.has_value()) << "called from inside kill()";
  ASSERT_TRUE(loop_.run_until([&] { return outcome.has_value(); }));
  EXPECT_EQ(outcome->kind, Kind::killed);
}

TEST_F(SandboxTest, ADroppedInstanceStillAnswersItsCaller) {
  const auto started = start(kTricks);
  Witness witness;
  auto instance = fork(*started->parked, witness);
  std::optional<Outcome> outcome;
  begin(*instance, R"({"do":"sleep"})", outcome);
  instance.reset();
  ASSERT_TRUE(loop_.run_until([&] { return outcome.has_value(); }));
  EXPECT_EQ(outcome->kind, Kind::killed);
}

TEST_F(SandboxTest, AForkBombStopsAtItsLimit) {
  auto spec = spec_of(kTricks);
  spec.limits.max_pids = 40;
  const auto started = start(std::move(spec));
  ASSERT_TRUE(started->parked);
  Witness witness, neighbour_witness;
  auto instance = fork(*started->parked, witness);
  auto neighbour = fork(*started->parked, neighbour_witness);
  const auto outcome = invoke(*instance, R"({"do":"forks"})");
  ASSERT_EQ(outcome.kind, Kind::ok) << outcome.detail << witness.output;
  EXPECT_EQ(Json::parse(outcome.payload)["errno"], 11) << outcome.payload;
  EXPECT_LT(Json::parse(outcome.payload)["made"], 40);
  EXPECT_EQ(invoke(*neighbour, R"({"do":"echo"})").kind, Kind::ok);
}

TEST_F(SandboxTest, WhoHasEndedIsUnreachableBeforeItsEndIsTold) {
  const auto started = start(kTricks);
  Witness witness;
  auto instance = fork(*started->parked, witness);
  EXPECT_TRUE(instance->reachable());
  EXPECT_EQ(invoke(*instance, R"({"do":"echo"})").kind, Kind::ok);
  EXPECT_TRUE(instance->reachable());
  ASSERT_EQ(::kill(static_cast<pid_t>(instance->pid()), SIGKILL), 0);
  while (instance->reachable()) std::this_thread::yield();  // the loop does not turn
  EXPECT_TRUE(instance->alive());
  EXPECT_EQ(witness.ends, 0);
  EXPECT_TRUE(loop_.run_until([&] { return witness.ends == 1; }));
}

TEST_F(SandboxTest, AnInvocationThatNobodyReadIsGivenBack) {
  const auto started = start(kTricks);
  for (const bool stopped : {true, false}) {
    Witness witness;
    auto instance = fork(*started->parked, witness);
    const auto pid = static_cast<pid_t>(instance->pid());
    const std::string payload = stopped ? R"({"do":"echo"})" : R"({"do":"sleep"})";
    if (stopped) ASSERT_EQ(::kill(pid, SIGSTOP), 0);
    std::optional<Outcome> outcome;
    begin(*instance, payload, outcome);
    if (!stopped) EXPECT_TRUE(loop_.run_until([&] { return witness.output.find("sleeping") != std::string::npos; }));
    ASSERT_EQ(::kill(pid, SIGKILL), 0);
    EXPECT_TRUE(loop_.run_until([&] { return outcome.has_value(); }));
    ASSERT_TRUE(outcome);
    EXPECT_EQ(outcome->kind, Kind::exited);
    EXPECT_EQ(outcome->unread, stopped);
    EXPECT_EQ(outcome->payload, stopped ? payload : "");
  }
}

TEST_F(SandboxTest, AnOutputFloodIsDeliveredAndBounded) {
  const auto started = start(kTricks);
  Witness witness;
  auto instance = fork(*started->parked, witness);
  const auto outcome = invoke(*instance, R"({"do":"output"})");
  EXPECT_EQ(outcome.kind, Kind::ok) << outcome.detail;
  EXPECT_EQ(witness.output.size(), 1000U * 100'001U);
}

TEST_F(SandboxTest, InitFailuresHaveLambdasNames) {
  struct Case {
    const char *code, *handler, *type, *message;
  };
  for (const auto& one : {
           Case{"import nothing_there\n", "app.handler", "Runtime.ImportModuleError",
                "Unable to import module 'app': No module named 'nothing_there'"},
           Case{"x = 1\n", "missing.handler", "Runtime.ImportModuleError",
                "Unable to import module 'missing': No module named 'missing'"},
           Case{"x = 1\n", "app.handler", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'"},
           Case{"def handler(:\n", "app.handler", "Runtime.UserCodeSyntaxError", "Syntax error in module 'app'"},
           Case{"x = 1\n", "handler", "Runtime.MalformedHandlerName", "Bad handler 'handler'"},
           Case{"def f():\n    return 1 / 0\nf()\n", "app.handler", "ZeroDivisionError", "division by zero"},
           Case{"import sys\nsys.exit(5)\n", "app.handler", "Runtime.ExitError", "exit status 5"},
           Case{"import os\nos._exit(6)\n", "app.handler", "Runtime.ExitError", "exit status 6"},
           Case{"import os, signal\nos.kill(os.getpid(), 9)\n", "app.handler", "Runtime.ExitError", "signal: killed"},
           Case{"x = [bytearray(8 << 20) for _ in range(1000)]\n", "app.handler", "Runtime.OutOfMemory", "256 MB"},
       }) {
    auto spec = spec_of(one.code);
    spec.handler = one.handler;
    const auto started = start(std::move(spec));
    EXPECT_FALSE(started->parked);
    EXPECT_EQ(started->failure.type, one.type) << one.code << started->failure.message << started->output;
    EXPECT_THAT(started->failure.message, HasSubstr(one.message)) << one.code;
    if (std::string(one.type) == "ZeroDivisionError") {
      ASSERT_EQ(started->failure.stack.size(), 2U);
      EXPECT_THAT(started->failure.stack[1], HasSubstr("app.py\", line 2, in f"));
    }
  }
}

TEST_F(SandboxTest, InitThatNeverEndsIsTimedOut) {
  auto spec = spec_of("import time\nprint('slow')\ntime.sleep(600)\n");
  spec.init_timeout = Millis{300};
  const auto started = start(std::move(spec));
  EXPECT_FALSE(started->parked);
  EXPECT_EQ(started->failure.type, "Sandbox.Timedout");
  EXPECT_EQ(started->output, "slow\n");
}

TEST_F(SandboxTest, InitThatLeavesAThreadIsRunInEachInstance) {
  const auto started = start(R"(
import os, queue, threading
asked, answers = queue.Queue(), queue.Queue()
def work():
    while True: answers.put(asked.get() * 2)
threading.Thread(target=work, daemon=True).start()
def handler(event, context):
    asked.put(event)
    return answers.get(timeout=10)
)");
  ASSERT_TRUE(started->parked);
  EXPECT_FALSE(started->ready.fork_safe);
  EXPECT_EQ(started->ready.reason, "1 thread was left running by init");
  Witness first_witness, second_witness;
  auto first = fork(*started->parked, first_witness);
  auto second = fork(*started->parked, second_witness);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(invoke(*first, "21").payload, "42") << first_witness.output;
  EXPECT_EQ(invoke(*second, "4").payload, "8");
}

TEST_F(SandboxTest, InstancesDifferInWhatMustDiffer) {
  const auto started = start(R"(
import os, random, uuid
open("/tmp/from_init", "w").write("model")
open("/tmp/mine", "w").write("init")
def handler(event, context):
    seen = open("/tmp/mine").read()
    open("/tmp/mine", "w").write(event)
    return [random.random(), str(uuid.uuid4()), seen, open("/tmp/from_init").read(), os.listdir("/tmp")]
)");
  Witness first_witness, second_witness;
  auto first = fork(*started->parked, first_witness);
  auto second = fork(*started->parked, second_witness);
  const auto a = Json::parse(invoke(*first, "\"a\"").payload);
  const auto b = Json::parse(invoke(*second, "\"b\"").payload);
  EXPECT_NE(a[0], b[0]);
  EXPECT_NE(a[1], b[1]);
  EXPECT_EQ(a[2], "init");
  EXPECT_EQ(b[2], "init") << "it saw its sibling's /tmp";
  EXPECT_EQ(a[3], "model");
  EXPECT_EQ(Json::parse(invoke(*first, "\"c\"").payload)[2], "a") << "its own /tmp stays";
}

TEST_F(SandboxTest, TheHostAnswersCallsWithDescriptors) {
  const auto started = start(R"(
from sundog.runtime import host
def handler(event, context):
    with host.open_blob("b1") as blob: text = blob.read().decode()
    with host.create_file() as file:
        file.write(b"made inside")
        made = file.commit()
    try:
        host.call("forbidden", {})
    except host.HostError as error:
        refused = [error.code, error.message]
    return {"text": text, "made": made, "refused": refused, "other": host.invoke("square", 3), "meta": context.meta}
handler.__sundog_raw__ = False
)");
  ASSERT_TRUE(started->parked);
  const Path file = folder_ / "blob";
  std::ofstream(file) << "from the host";
  const Path made = folder_ / "made";
  Witness witness;
  witness.host = [&](HostCall call, const Callback<HostReply>& reply) {
    HostReply answer;
    if (call.name == "blob.open") {
      answer.fds.emplace_back(open(file.c_str(), O_RDONLY | O_CLOEXEC));
      answer.result = {{"bytes", 13}};
    } else if (call.name == "file.create") {
      answer.fds.emplace_back(open(made.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
      answer.result = {{"handle", 1}};
    } else if (call.name == "file.commit") {
      answer.result = {{"blob", "b2"}, {"bytes", 11}};
    } else if (call.name == "invoke") {
      answer.result = {{"payload", call.arguments["payload"].get<int>() * 3}, {"function_error", ""}};
    } else {
      return reply(fail(Code::permission_denied, "Not yours."));
    }
    loop_.post([reply, shared = std::make_shared<HostReply>(std::move(answer))] { reply(std::move(*shared)); });
  };
  auto instance = fork(*started->parked, witness);
  const auto outcome = invoke(*instance, "{}", {{"run", "run-1"}});
  ASSERT_EQ(outcome.kind, Kind::ok) << outcome.payload << outcome.detail << witness.output;
  const auto answer = Json::parse(outcome.payload);
  EXPECT_EQ(answer["text"], "from the host");
  EXPECT_EQ(answer["made"], "b2");
  EXPECT_EQ(answer["refused"], Json({"permission_denied", "Not yours."}));
  EXPECT_EQ(answer["other"], 9);
  EXPECT_EQ(answer["meta"], Json({{"run", "run-1"}}));
  EXPECT_EQ(*read_file(made), "made inside");
}

TEST_F(SandboxTest, WhatIsHeldWaitsInItsSending) {
  const auto started = start(R"(
def handler(event, context):
    print("its first piece is next", flush=True)
    for number in range(64):
        yield b"x" * 65536
)");
  Witness witness;
  auto instance = fork(*started->parked, witness);
  std::optional<Outcome> outcome;
  instance->hold(true);
  begin(*instance, "{}", outcome);
  ASSERT_TRUE(loop_.run_until([&] { return witness.output.find("its first piece is next") != std::string::npos; }));
  // Its pieces come to 4 MB; a socket takes a part of one.
  EXPECT_FALSE(loop_.run_until([&] { return outcome.has_value() || !witness.streamed.empty(); }, Millis(200)));
  instance->hold(false);
  EXPECT_TRUE(loop_.run_until([&] { return witness.streamed.size() >= 1 << 20; }));
  instance->hold(true);
  const size_t held = witness.streamed.size();
  EXPECT_FALSE(loop_.run_until([&] { return witness.streamed.size() > held; }, Millis(50)));
  EXPECT_FALSE(outcome);
  instance->hold(false);
  EXPECT_TRUE(loop_.run_until([&] { return outcome.has_value(); }));
  EXPECT_EQ(outcome->kind, Kind::ok);
  EXPECT_EQ(witness.streamed.size(), 64U * 65536);
  instance->hold(true);
  instance->kill();  // a deadline ends it all the same
  EXPECT_FALSE(instance->alive());
}

class NativeEchoTest : public SandboxTest {
 protected:
  std::unique_ptr<Instance> start_one(InstanceEvents& events) {
    NativeSpec spec;
    spec.name = "echo";
    spec.command = {"/opt/echo"};
    spec.mounts = {{SUNDOG_TEST_ECHO, "/opt/echo", false}};
    std::unique_ptr<Instance> instance;
    bool done = false;
    sandbox_->start_native(spec, events, [&](Result<std::unique_ptr<Instance>> result) {
      done = true;
      if (result.ok()) {
        instance = std::move(*result);
      } else {
        ADD_FAILURE() << result.error().text();
      }
    });
    EXPECT_TRUE(loop_.run_until([&] { return done; }));
    return instance;
  }
};

TEST_F(NativeEchoTest, WhatWasStreamedBeforeTheEndReachesASlowReader) {
  struct SlowReader final : Witness {
    Instance* instance = nullptr;
    void on_stream(std::string_view piece) override {
      Witness::on_stream(piece);
      instance->hold(true);
    }
  } slow;
  auto instance = start_one(slow);
  ASSERT_TRUE(instance);
  slow.instance = instance.get();
  instance->hold(true);
  std::optional<Outcome> outcome;
  begin(*instance, "stream and exit", outcome);
  ASSERT_TRUE(loop_.run_until([&] { return outcome.has_value(); }));
  EXPECT_EQ(outcome->kind, Kind::ok) << outcome->detail;
  EXPECT_EQ(slow.streamed, "one two three");
}

TEST_F(NativeEchoTest, SpeaksTheSameProtocol) {
  const Path file = folder_ / "blob";
  std::ofstream(file) << "a shard";
  Witness witness;
  witness.host = [&](const HostCall&, const Callback<HostReply>& reply) {
    HostReply answer;
    answer.fds.emplace_back(open(file.c_str(), O_RDONLY | O_CLOEXEC));
    reply(std::move(answer));
  };
  auto instance = start_one(witness);
  ASSERT_TRUE(instance);
  EXPECT_EQ(invoke(*instance, "hello").payload, "hello");
  EXPECT_EQ(invoke(*instance, "blob").payload, "a shard");
  EXPECT_EQ(invoke(*instance, "fail").kind, Kind::handler_error);
  const auto exited = invoke(*instance, "exit");
  EXPECT_EQ(exited.kind, Kind::exited);
  EXPECT_EQ(exited.exit_status, 7);
  instance = start_one(witness);
  EXPECT_EQ(invoke(*instance, "abort").signal, 6);
}

TEST_F(SandboxTest, ANativeProgramThatIsNotThereSaysSo) {
  NativeSpec spec;
  spec.name = "nothing";
  spec.command = {"/opt/nothing"};
  Witness witness;
  std::optional<Error> error;
  sandbox_->start_native(spec, witness, [&](Result<std::unique_ptr<Instance>> result) {
    ASSERT_FALSE(result.ok());
    error = result.error();
  });
  ASSERT_TRUE(loop_.run_until([&] { return error.has_value(); }));
  EXPECT_THAT(error->message, HasSubstr("cannot execute the command: No such file or directory"));
}

TEST_F(SandboxTest, InstancesOutliveTheirTemplate) {
  const auto started = start(kTricks);
  Witness witness;
  auto instance = fork(*started->parked, witness);
  started->parked.reset();
  EXPECT_EQ(invoke(*instance, R"({"do":"echo"})").kind, Kind::ok);
  EXPECT_EQ(invoke(*instance, R"({"do":"hard_exit"})").kind, Kind::exited);
}

TEST_F(SandboxTest, AnIdleCrashIsTold) {
  const auto started = start(R"(
import os, threading
def handler(event, context): threading.Timer(0.05, os._exit, [1]).start()
)");
  Witness witness;
  auto instance = fork(*started->parked, witness);
  ASSERT_EQ(invoke(*instance, "{}").kind, Kind::ok);
  EXPECT_TRUE(loop_.run_until([&] { return witness.ends == 1; }));
  EXPECT_FALSE(instance->alive());
}

TEST_F(SandboxTest, DoctorSaysWhatIsThere) {
  const auto rows = sandbox_->doctor();
  std::set<std::string> checks;
  for (const auto& row : rows) checks.insert(row["check"]);
  for (const char* check : {"user namespaces", "seccomp", "Landlock scopes", "cgroup memory, cpu, pids", "disk"}) {
    EXPECT_TRUE(checks.contains(check)) << check;
  }
}

}  // namespace
}  // namespace sundog::sandbox
