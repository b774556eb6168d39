// What the seal's suites share: instances that run attempts.py, and sandboxes that leave rules out.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "sandbox/sandbox_fixture.h"

namespace sundog::sandbox {

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
  // One attempt in an instance of its own, in a sandbox that leaves these rules out.
  bool gets_through(LeftOut left_out, const std::string& what, const Json& with = nullptr) {
    open_without(left_out);
    const auto parked = start(attempts());
    if (!parked->parked) return false;
    Witness witness;
    const auto instance = fork(*parked->parked, witness);
    return through(attempt(*instance, what, with));
  }
  std::string last_;
};

}  // namespace sundog::sandbox
