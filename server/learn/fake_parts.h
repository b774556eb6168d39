// What Runs, Registry and Endpoints work with, without processes: for the tests of learn/, models/ and api/.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "data/datasets.h"
#include "functions/functions.h"
#include "invoke/events.h"
#include "invoke/fake_invoker.h"
#include "invoke/invoker.h"
#include "meter/fake_ledger.h"

namespace sundog::testing {

// Keeps what was accepted; the test ends events.
class FakeEvents final : public invoke::Events {
 public:
  void accept(invoke::Invocation invocation, Callback<std::string> on_accepted) override {
    auto id = invocation.request_id;
    accepted.push_back(std::move(invocation));
    if (hold) return held.push_back([id, on_accepted] { on_accepted(id); });
    on_accepted(std::move(id));
  }
  void on_ended(EndedCallback callback) override { ended_ = std::move(callback); }
  void start() override {}
  void stop() override {}
  void end(const invoke::Invocation& event, const Result<invoke::InvokeResult>& result, bool dead = false) {
    ended_(event, result, dead);
  }

  std::vector<invoke::Invocation> accepted;
  bool hold = false;  // whether accept() answers only when the test calls what is in `held`
  std::vector<std::function<void()>> held;

 private:
  EndedCallback ended_;
};

using invoke::FakeInvoker;

class FakeDatasets final : public data::Datasets {
 public:
  Result<data::DatasetVersion> add_version(const std::string&, data::DatasetVersion draft,
                                           const std::string& token) override {
    if (const auto made = by_token.find(token); made != by_token.end()) return made->second;
    int64_t last = 0;
    for (const auto& version : versions) {
      if (version.dataset == draft.dataset) last = std::max(last, version.version);
    }
    draft.version = last + 1;
    versions.push_back(draft);
    by_token.emplace(token, draft);
    return draft;
  }
  Result<data::DatasetVersion> get(const std::string&, const std::string& dataset, int64_t version) const override {
    for (const auto& known : versions) {
      if (known.dataset == dataset && known.version == version) return known;
    }
    return fail(Code::not_found, "No dataset \"" + dataset + "\"");
  }
  Result<data::DatasetVersion> find(const std::string&, const std::string& reference) const override {
    const data::DatasetVersion* found = nullptr;
    for (const auto& known : versions) {
      if (known.reference() == reference || known.dataset == reference) found = &known;
    }
    if (found != nullptr) return *found;
    return fail(Code::not_found, "No dataset \"" + reference + "\"");
  }
  Result<Json> describe(const std::string&, const std::string&) const override { return Json::object(); }
  Result<Json> list(const std::string&, const std::string&, size_t) const override { return Json::object(); }
  Status remove(const std::string&, const std::string&) override { return done; }
  bool names_blob(const std::string&, const std::string&) const override { return false; }

  std::vector<data::DatasetVersion> versions;
  std::map<std::string, data::DatasetVersion> by_token;
};

}  // namespace sundog::testing
