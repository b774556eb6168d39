// What a function is: the values that functions/ stores and invoke/ runs. Immutable snapshots, shared freely.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "sandbox/sandbox.h"

namespace sundog::functions {

// What its usage is booked under in the bill.
enum class Kind { function, data, training, prediction };
std::string_view name(Kind kind);
Result<Kind> kind_from(std::string_view text);

struct Config {
  std::string name;  // 1–64 of [A-Za-z0-9-_]
  std::string description;
  std::string runtime = "python3.11";  // "python3.N", "provided.al2023", or "native" for Sundog's own data functions
  std::string handler;                 // "module.function"
  std::string role;                    // kept and shown, not used
  int memory_mb = 128;                 // 128–10,240
  int timeout_s = 3;                   // 1–900
  int ephemeral_mb = 512;              // 512–10,240
  std::map<std::string, std::string> variables;  // at most 4 KB
  std::string environment_id;                    // "" or the digest of an Environment
  sandbox::Network network = sandbox::Network::none;
  std::vector<std::string> allow;  // with the network egress: what may be reached, as sandbox/egress_policy.h has it
  Kind kind = Kind::function;
  std::map<std::string, std::string> tags;
};

// A custom runtime: "provided.al2023"; each instance runs the package's own `bootstrap`, init and all.
bool is_custom(const Config& config);

enum class State { pending, active, failed };

// How the last change of $LATEST went; until it is successful the version before it runs.
enum class UpdateStatus { successful, in_progress, failed };
std::string_view name(UpdateStatus status);  // as Lambda writes it: "InProgress"

// One version ("1", "2", …) or "$LATEST" at one moment.
struct Version {
  std::string tenant;
  Config config;
  std::string version = "$LATEST";
  std::string code_blob;    // the zip
  std::string code_sha256;  // base64, as Lambda shows it
  int64_t code_bytes = 0;
  Path code_folder;                         // extracted
  std::vector<std::string> native_command;  // for runtime "native"
  std::vector<sandbox::Mount> native_mounts;
  State state = State::pending;
  std::string state_reason, state_reason_code;
  // Why each instance runs init itself, in place of being forked from what has run it; empty: it is, or nobody knows.
  std::string start_reason;
  UpdateStatus update = UpdateStatus::successful;
  std::string update_reason, update_reason_code;
  WallTime last_modified;
  std::string revision_id;  // changes with every change of code or settings
  std::string arn() const;  // arn:aws:lambda:local:000000000000:function:NAME[:VERSION]
  // Names the exact bytes and settings that run: instances of one identity are interchangeable.
  std::string identity() const;  // tenant/name/version@revision
  // The user's init code failed when it was tried last; it is tried again, and may work then.
  bool failed_at_init() const { return state == State::failed && state_reason_code.starts_with("FunctionError."); }
};
using VersionPtr = std::shared_ptr<const Version>;

struct Alias {
  std::string name, version, description;
  std::map<std::string, double> weights;  // additional version → share of the traffic
  std::string revision_id;
};

}  // namespace sundog::functions
