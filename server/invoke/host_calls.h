// HostCalls: what running code may ask of its host: the built-in calls, and those that app/ registers.
//
// Ownership   by the invoker.
// Threads     loop thread; the blob store is used on the pool.
// Failure     not_found (no such call, handle) · permission_denied (a blob that was not granted) · what the stores say
#pragma once

#include <map>
#include <string>

#include "invoke/run.h"

namespace sundog::invoke {

class HostCalls {
 public:
  // `invoke` starts an invocation made by running code.
  using Invoke = std::function<void(Invocation, InvokeCallback)>;
  HostCalls(Context& context, Invoke invoke) : context_(context), invoke_(std::move(invoke)) {}

  void add(std::string name, HostCallHandler handler) { handlers_[std::move(name)] = std::move(handler); }
  void call(const RunPtr& run, sandbox::HostCall call, Callback<sandbox::HostReply> reply);

 private:
  using Reply = Callback<sandbox::HostReply>;
  void open_blob(const RunPtr& run, const sandbox::HostCall& call, Reply reply);
  void create_file(const RunPtr& run, Reply reply);
  void commit_file(const RunPtr& run, const sandbox::HostCall& call, Reply reply);
  void invoke_function(const RunPtr& run, const sandbox::HostCall& call, const Reply& reply);
  template <class T>
  void on_pool(std::function<Result<T>()> work, std::function<void(Result<T>)> then);

  Context& context_;
  Invoke invoke_;
  std::map<std::string, HostCallHandler, std::less<>> handlers_;
};

}  // namespace sundog::invoke
