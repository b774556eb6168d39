// Sandbox: starts, feeds and ends confined processes. What an instance is, without knowing why it runs.
//
// A Template is a parked Python process that has imported an environment and run a function's init; fork() makes an
// Instance from it copy-on-write. A native Instance (no template) is started by exec. Both speak the same framed
// socket.
//
// Ownership   one Sandbox per server, created in app/ over the Launcher's socket. Template and Instance are owned by
// the
//             caller; destroying one kills everything in it.
// Threads     everything on the loop thread; callbacks come on the loop thread, never from inside the call that took
// them. Failure     unavailable (launcher gone, no cgroup, no memory) · deadline_exceeded · and what the user's code
// did, as
//             an Outcome or an InitFailure: that is no error of ours.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/json.h"
#include "base/result.h"

namespace sundog::sandbox {

enum class Network { none, egress, host };

struct Mount {
  Path source;        // on the host; a folder or a file
  std::string where;  // inside, absolute
  bool writable = false;
};

struct Limits {
  int64_t memory_bytes = 128LL << 20;
  int64_t tmp_bytes = 512LL << 20;
  int cpu_millis = 1000;  // thousandths of a core, in proportion to memory (1,769 MB is one core), at most all cores
  int max_pids = 1024;
};

struct TemplateSpec {
  std::string name;                 // for logs: "default/clients-risk:3"
  std::string tenant;               // functions of different tenants share nothing
  Path python;                      // interpreter on the host, e.g. /usr/bin/python3.11
  Path code;                        // extracted package, read-only at /var/task
  std::vector<Path> site_packages;  // environment folders, read-only at /opt/sundog/env/<n>, on sys.path in order
  std::string handler;              // "module.function"
  std::map<std::string, std::string> environment;  // Lambda's variables and the user's
  Limits limits;                                   // those of one instance; the template gets the same memory limit
  Network network = Network::none;
  std::vector<std::string> allow;  // with egress: what may be reached, as egress_policy.h has it
  Millis init_timeout{10'000};
};

// With the network egress the command hands over its way out (native_instance.h) before anything of the user's runs in
// its tree, and nothing of the user's may change how it begins: not LD_PRELOAD, and no library of the user's.
struct NativeSpec {
  std::string name;
  std::string tenant;
  std::vector<std::string> command;  // argv; command[0] is a path inside
  std::vector<Mount> mounts;
  std::map<std::string, std::string> environment;
  Limits limits;
  Network network = Network::none;
  std::vector<std::string> allow;  // as a template's
};

// The user's init code failed: Lambda's shape of it.
struct InitFailure {
  std::string
      type;  // "Runtime.ImportModuleError", "Runtime.HandlerNotFound", "Runtime.ExitError", "Sandbox.Timedout", …
  std::string message;
  std::vector<std::string> stack;
};

struct TemplateReady {
  Duration init{};           // wall time of import and init
  int64_t memory_bytes = 0;  // resident when parked
  bool fork_safe = true;
  std::string reason;        // why not fork-safe: "2 threads were left running by init"
  std::string why_own_tree;  // why it does not share its environment's template; empty if it does
};

struct InvokeRequest {
  std::string request_id;
  std::string payload;  // raw bytes of the event, at most 6 MB
  WallTime deadline;    // what context.get_remaining_time_in_millis() counts down to
  std::string function_arn, function_name, version;
  int memory_mb = 128;
  std::string client_context;  // JSON or empty
  Json meta;                   // for Sundog's own handlers: {"content_type":…, "run":…}; null otherwise
};

// What one invocation took, measured by the instance and by the kernel.
struct Consumption {
  Duration handler{};  // wall
  Duration cpu{};      // user + system, of the whole instance, during the invocation
  int64_t peak_memory_bytes = 0;
};

struct Outcome {
  enum class Kind {
    ok,             // payload is the handler's answer
    handler_error,  // payload is {"errorMessage","errorType","requestId","stackTrace"}
    exited,         // the process ended: exit_status or signal
    out_of_memory,  // the kernel ended it at its memory limit
    killed,         // by kill(), e.g. at its deadline
    broken,         // it broke the protocol, or its answer was over the size limit (detail says which)
  };
  Kind kind = Kind::ok;
  std::string payload;
  std::string detail;
  // The process ended before it had read the invocation: nobody has begun it, and `payload` is the request's own.
  bool unread = false;
  int exit_status = -1;  // or -1
  int signal = 0;
  Consumption consumption;
};

// A request the running code makes of its host ("blob.open", "run.metrics", "invoke", …); see docs/formats/instance.md.
struct HostCall {
  std::string name;
  Json arguments;
  std::vector<UniqueFd> fds;
};
struct HostReply {
  Json result;
  std::vector<UniqueFd> fds;
};

class InstanceEvents {
 public:
  virtual ~InstanceEvents() = default;
  // Bytes that the process wrote to stdout or stderr, as they come.
  virtual void on_output(std::string_view text) = 0;
  virtual void on_host_call(HostCall call, Callback<HostReply> reply) = 0;
  // The user's init code failed in this very instance: comes before the Error of whoever waits for it to be ready.
  virtual void on_init_failure(InitFailure failure) = 0;
  // A piece of a streamed answer, before the outcome.
  virtual void on_stream(std::string_view piece) = 0;
  // The process is gone without being asked to answer (idle crash). After an Outcome of exited/oom/killed it is not
  // called.
  virtual void on_end() = 0;
};

class Instance {
 public:
  virtual ~Instance() = default;  // kills what is left
  // One at a time. `on_done` is called exactly once; after any kind but ok and handler_error the instance is dead.
  virtual void invoke(InvokeRequest request, std::function<void(Outcome)> on_done) = 0;
  // While it is held nothing of what it streams or answers is read: it has to wait. Its deadline goes on.
  virtual void hold(bool held) = 0;
  // Ends the whole process tree; the running invocation's Outcome is `killed`.
  virtual void kill() = 0;
  virtual bool alive() const = 0;
  // Whether somebody is there to take an invocation: false as soon as the kernel knows that the process has ended,
  // which is before its end is told (on_end()), and long before where its parent has no time to tell it.
  virtual bool reachable() const = 0;
  virtual int64_t pid() const = 0;           // on the host, 0 if unknown
  virtual int64_t memory_bytes() const = 0;  // its own copies now, by its cgroup; 0 if unknown
  virtual Duration start_time() const = 0;   // from fork()/start_native() to ready
};

class Template {
 public:
  virtual ~Template() = default;  // kills it; its instances go on until they end
  virtual void fork(InstanceEvents& events, Callback<std::unique_ptr<Instance>> on_ready) = 0;
  virtual bool alive() const = 0;
  virtual int64_t memory_bytes() const = 0;
  // Called once if it dies unasked.
  virtual void on_death(std::function<void(std::string reason)> callback) = 0;
};

// A template of an environment, which functions' templates are forked from.
struct SharedTemplate {
  std::string id, tenant;
  int64_t bytes = 0;  // that are counted for it, and for none of its functions
  int functions = 0;  // forked from it and alive
  MonoTime used{};    // a function was last started from it
};

// Either a parked template, or what the user's init code did wrong, or an Error of ours.
struct TemplateStart {
  std::unique_ptr<Template> parked;  // null if `failure`
  TemplateReady ready;
  InitFailure failure;
  std::string output;  // what init printed, at most 64 KB
};

class Sandbox {
 public:
  virtual ~Sandbox() = default;
  virtual void start_template(TemplateSpec spec, Callback<std::shared_ptr<TemplateStart>> on_started) = 0;
  virtual void start_native(NativeSpec spec, InstanceEvents& events, Callback<std::unique_ptr<Instance>> on_ready) = 0;
  // Which template of an environment functions of this spec share; empty if they share none.
  virtual std::string shared_by(const TemplateSpec&) const { return {}; }
  // Those that run now. What each takes was measured when it had imported something or a function came or went; until
  // then it is what it took the last time.
  virtual std::vector<SharedTemplate> shared() const { return {}; }
  virtual int64_t shared_bytes() const { return 0; }  // of all of them
  // What starting this one would add to shared_bytes(): 0 while it runs, or if it never did.
  virtual int64_t shared_to_come(const std::string& /*id*/) const { return 0; }
  virtual void end_shared(const std::string& /*id*/) {}
  // Called in a turn of its own when one of them came, grew, lost a function or ended.
  virtual void on_shared_change(std::function<void()>) {}  // NOLINT(performance-unnecessary-value-param): kept
  // For people: {"tenant","packages","network","state","memory_mb","functions","modules","reason"} of each.
  virtual Json environment_templates() const { return Json::array(); }
  // What this machine offers and what is missing, for `sundog doctor`: [{"check","ok","detail","without"}].
  virtual Json doctor() const = 0;
};

}  // namespace sundog::sandbox
