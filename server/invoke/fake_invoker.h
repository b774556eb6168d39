// FakeInvoker: an Invoker that runs nothing, for the tests of whoever calls one.
//
// Threads     those that call it, one at a time.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "invoke/invoker.h"

namespace sundog::invoke {

// Answers by a function of the test's; keeps what it was asked.
class FakeInvoker : public Invoker {
 public:
  void invoke(Invocation invocation, InvokeCallback on_done) override {
    invoked.push_back(invocation);
    on_done(answer(invocation));
  }
  void invoke_streaming(Invocation invocation, PieceSink, InvokeCallback on_done) override {
    invoke(std::move(invocation), std::move(on_done));
  }
  void kill(const std::string&, const std::string& request_id) override { killed.push_back(request_id); }
  void add_host_call(std::string name, HostCallHandler handler) override {
    host_calls[std::move(name)] = std::move(handler);
  }
  void drain(Millis, std::function<void()> on_drained) override { on_drained(); }
  Json fleet() const override { return Json::object(); }

  std::function<Result<InvokeResult>(const Invocation&)> answer = [](const Invocation&) {
    return Result<InvokeResult>(fail(Code::unavailable, "No answer was set"));
  };
  std::vector<Invocation> invoked;
  std::vector<std::string> killed;  // request ids
  std::map<std::string, HostCallHandler> host_calls;
};

}  // namespace sundog::invoke
