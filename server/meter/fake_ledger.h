// FakeLedger: a ledger in memory, for tests of what uses one.
//
// Threads     one at a time.
#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "meter/roll_up.h"
#include "meter/usage.h"

namespace sundog::meter {

class FakeLedger final : public Ledger {
 public:
  std::vector<UsageRecord> records;
  std::optional<Error> refusal;  // of ready()
  std::optional<Error> damage;   // of sums()

  Status append(const UsageRecord& record) override {
    records.push_back(record);
    return done;
  }
  Status ready() override { return refusal ? Status(*refusal) : Status(done); }
  Status read(const std::string& tenant, WallTime from, WallTime to,
              const std::function<bool(const UsageRecord&)>& each) const override {
    for (const auto& record : records) {
      if (record.tenant == tenant && record.ended >= from && record.ended < to && !each(record)) break;
    }
    return done;
  }
  Result<std::vector<UsageSum>> sums(const UsageQuery& query) const override {
    if (damage) return *damage;
    Adder adder;
    for (const auto& record : records) {
      const bool wanted = query.tenant.empty() || record.tenant == query.tenant;
      if (wanted && record.ended >= query.from && record.ended < query.to) adder.add(iso_day(record.ended), record);
    }
    return adder.sums();
  }
  Result<Json> verify(const UsageQuery&) const override { return Json{{"ok", true}, {"days", Json::array()}}; }
  Status sync() override { return done; }
};

}  // namespace sundog::meter
