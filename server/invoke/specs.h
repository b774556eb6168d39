// Specs: what the sandbox is told about a function version: interpreter, folders, variables, limits.
//
// Threads     any; looks up environments in memory.
// Failure     what is missing for it to run: its environment is not built, the machine lacks its Python.
#pragma once

#include "base/result.h"
#include "functions/environments.h"
#include "functions/function.h"
#include "sandbox/sandbox.h"

namespace sundog::invoke {

struct Machine {
  std::string region;
  int cores = 1;
  std::map<std::string, std::string> variables;
  Path runtime_api;  // the program sundog-runtime-api
};

// Started by exec rather than forked from a template.
bool is_native(const functions::Version& version);
sandbox::Limits limits_of(const functions::Config& config, int cores);
Result<sandbox::TemplateSpec> template_spec(const functions::Version& version,
                                            const functions::Environments& environments, const Machine& machine);
Result<sandbox::NativeSpec> native_spec(const functions::Version& version, const functions::Environments& environments,
                                        const Machine& machine);

}  // namespace sundog::invoke
