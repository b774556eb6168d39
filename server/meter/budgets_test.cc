#include "meter/budgets.h"

#include <gmock/gmock.h>

#include "meter/budget_store.h"
#include "meter/fake_ledger.h"
#include "store/sqlite_catalog.h"
#include "store/test_folder.h"

namespace sundog::meter {
namespace {

using std::chrono::hours;
using testing::HasSubstr;

Money money(std::string_view text) {
  return *parse_money(text);
}

class BudgetsTest : public testing::Test {
 protected:
  BudgetsTest() {
    PricePlan plan;
    plan.per_million_requests = Money();
    plan.per_gb_second = plan.init_per_gb_second = money("1");
    plans_ = PricePlans(plan, {});
    budgets_.on_alarm([this](const Alarm& alarm) { alarms_.push_back(alarm); });
  }
  Budget limit(std::string_view text, const std::string& function = "") {
    Budget budget{.tenant = "acme", .function = function};
    budget.limit = money(text);
    return budget;
  }
  // 1 GB for so many milliseconds: a thousandth each.
  static Quantity most(int64_t ms) { return {1, 0, 1024 * ms, 0, 0, 0, 0}; }
  UsageRecord record(int64_t ms, const std::string& function = "f") const {
    UsageRecord out;
    out.tenant = "acme";
    out.function = function;
    out.memory_mb = 1024;
    out.billed_ms = ms;
    out.ended = clock_.wall();
    return out;
  }
  Result<Budgets::Reservation> reserve(int64_t ms = 1000, const std::string& function = "f") {
    return budgets_.reserve("acme", function, most(ms));
  }
  // Runs one that takes so long; false if it is refused.
  bool run(int64_t ms, const std::string& function = "f") {
    auto held = reserve(1000, function);
    if (!held.ok()) return false;
    held->settle(record(ms, function));
    return true;
  }
  std::string spent() { return budgets_.describe("acme")["spent"]; }
  Json item(size_t i = 0) { return budgets_.describe("acme")["items"][i]; }

  FakeClock clock_;
  PricePlans plans_;
  Budgets budgets_{plans_, clock_};
  std::vector<Alarm> alarms_;
};

TEST_F(BudgetsTest, WithoutOneEverythingRunsAndIsCounted) {
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(run(1000));
  EXPECT_EQ(spent(), "10.00");
  EXPECT_TRUE(budgets_.describe("acme")["items"].empty());
  EXPECT_FALSE(budgets_.is_spent("acme", "f"));
}

TEST_F(BudgetsTest, StopsWhenItIsSpent) {
  budgets_.put(limit("1.00"));
  int ran = 0;
  while (run(300)) ++ran;
  EXPECT_EQ(ran, 4);  // 0.3, 0.6, 0.9, and the one over
  EXPECT_TRUE(budgets_.is_spent("acme", "f"));
  EXPECT_EQ(item()["state"], "spent");
  const auto refused = reserve();
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::budget_exceeded);
  EXPECT_THAT(refused.error().text(), HasSubstr("\"acme\" for 2026-01 is spent: 1.20 of 1.00 USD"));
  EXPECT_TRUE(budgets_.reserve("other", "f", most(1)).ok());
}

// However many ask at once and however long they then take: at most one invocation over.
TEST_F(BudgetsTest, IsPassedByAtMostOneInvocation) {
  budgets_.put(limit("5.00"));
  std::vector<Budgets::Reservation> running;
  for (int round = 0; round < 100; ++round) {
    for (int i = 0; i < 10; ++i) {
      if (auto held = reserve(); held.ok()) running.push_back(*std::move(held));
    }
    ASSERT_LE(running.size(), 6U);
    if (running.empty()) break;
    running.back().settle(record(1000 - round));
    running.pop_back();
  }
  EXPECT_GE(money(spent()), money("5.00"));
  EXPECT_LT(money(spent()), money("6.00"));
  EXPECT_EQ(item()["reserved"], "0.00");
}

TEST_F(BudgetsTest, WhatRunsHoldsItsPlaceAndGivesItBack) {
  budgets_.put(limit("1.00"));
  auto first = reserve();
  ASSERT_TRUE(first.ok());
  const auto second = reserve();
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, Code::resource_exhausted);
  EXPECT_THAT(second.error().text(), HasSubstr("can cost 1.00 more"));
  EXPECT_FALSE(budgets_.is_spent("acme", "f")) << "events are tried again, not held";
  {
    const auto moved = *std::move(first);
  }
  EXPECT_TRUE(reserve().ok());
  EXPECT_EQ(spent(), "0.00");
}

TEST_F(BudgetsTest, AFunctionMayHaveItsOwn) {
  budgets_.put(limit("0.50", "f"));
  EXPECT_TRUE(run(600, "f"));
  EXPECT_FALSE(run(1, "f"));
  EXPECT_TRUE(run(5000, "g"));
  EXPECT_TRUE(budgets_.is_spent("acme", "f"));
  EXPECT_FALSE(budgets_.is_spent("acme", "g"));
  EXPECT_THAT(reserve(1, "f").error().text(), HasSubstr("function \"f\""));
  budgets_.put(limit("1.00"));
  EXPECT_TRUE(budgets_.is_spent("acme", "g"));
  EXPECT_EQ(item(1)["function"], "f");
  budgets_.remove("acme", "");
  budgets_.remove("acme", "f");
  EXPECT_TRUE(run(1, "f"));
}

TEST_F(BudgetsTest, TellsOnceAMonthAtItsShare) {
  auto budget = limit("1.00");
  budget.alarm = 0.5;
  budgets_.put(budget);
  EXPECT_TRUE(run(499));
  EXPECT_TRUE(alarms_.empty());
  EXPECT_TRUE(run(1));
  ASSERT_EQ(alarms_.size(), 1U);
  EXPECT_EQ(alarms_[0].spent.text(), "0.50");
  EXPECT_EQ(alarms_[0].month, "2026-01");
  EXPECT_EQ(item()["state"], "alarm");
  EXPECT_TRUE(run(100));
  EXPECT_EQ(alarms_.size(), 1U);
  EXPECT_EQ(alarm_json(alarms_[0], plans_.of("acme"))["limit"], "1.00");
}

TEST_F(BudgetsTest, ANewMonthBeginsAtMidnightUtc) {
  budgets_.put(limit("1.00"));
  EXPECT_TRUE(run(1000));
  clock_.advance(hours{31 * 24} - Millis{1});
  EXPECT_FALSE(run(1));
  EXPECT_EQ(alarms_.size(), 1U);
  clock_.advance(Millis{1});
  EXPECT_FALSE(budgets_.is_spent("acme", "f"));
  EXPECT_EQ(spent(), "0.00");
  EXPECT_TRUE(run(1000));
  EXPECT_FALSE(run(1));
  EXPECT_EQ(budgets_.describe("acme")["month"], "2026-02");
  EXPECT_EQ(alarms_.size(), 2U);
}

TEST_F(BudgetsTest, WhatRunsOverTheMonthsEndIsOfTheNewOne) {
  budgets_.put(limit("1.00"));
  auto held = reserve();
  ASSERT_TRUE(held.ok());
  const auto ended_before = record(700);
  clock_.advance(hours{31 * 24});
  held->settle(record(600));
  EXPECT_EQ(spent(), "0.60");
  EXPECT_EQ(item()["reserved"], "0.00");
  auto late = reserve();
  ASSERT_TRUE(late.ok());
  late->settle(ended_before);  // told late, but of January
  EXPECT_EQ(spent(), "0.60");
}

TEST_F(BudgetsTest, AfterARestartItGoesOnWhereItWas) {
  auto budget = limit("1.00");
  FakeLedger ledger;
  ASSERT_TRUE(ledger.append(record(900)).ok());
  clock_.advance(Millis{1});
  Budgets restarted(plans_, clock_);
  restarted.on_alarm([this](const Alarm& alarm) { alarms_.push_back(alarm); });
  ASSERT_TRUE(restarted.restore({budget}, ledger).ok());
  EXPECT_EQ(restarted.describe("acme")["spent"], "0.90");
  EXPECT_EQ(alarms_.size(), 1U) << "the server died before it could tell";
  auto held = restarted.reserve("acme", "f", most(100));
  ASSERT_TRUE(held.ok());
  held->settle(record(100));
  EXPECT_EQ(restarted.reserve("acme", "f", most(1)).error().code, Code::budget_exceeded);
  Budgets again(plans_, clock_);
  again.on_alarm([this](const Alarm& alarm) { alarms_.push_back(alarm); });
  budget.alarmed_month = "2026-01";
  ASSERT_TRUE(again.restore({budget}, ledger).ok());
  EXPECT_EQ(alarms_.size(), 1U) << "told already";
}

// Where nothing is limited a start neither waits for the ledger nor fails by it.
TEST_F(BudgetsTest, WithoutOneTheLedgerIsReadWhenTheFirstIsSet) {
  FakeLedger ledger;
  ASSERT_TRUE(ledger.append(record(900)).ok());
  clock_.advance(Millis{1});
  ledger.damage = fail(Code::data_loss, "It is damaged at byte 7.", "Restore it.");
  Budgets restarted(plans_, clock_);
  EXPECT_TRUE(restarted.restore({}, ledger).ok());
  const auto refused = restarted.restore({limit("1.00")}, ledger);
  ASSERT_FALSE(refused.ok()) << "no budget could be kept to";
  EXPECT_EQ(refused.error().code, Code::data_loss);
  EXPECT_THAT(refused.error().text(), HasSubstr("Budgets are set, and what of them is spent cannot be read"));
  EXPECT_THAT(refused.error().text(), HasSubstr("byte 7"));

  auto held = restarted.reserve("acme", "f", most(100));
  ASSERT_TRUE(held.ok());
  ASSERT_TRUE(ledger.append(record(50)).ok());
  held->settle(record(50));
  EXPECT_FALSE(restarted.recall(ledger).ok());
  ledger.damage.reset();
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(restarted.recall(ledger).ok());
    EXPECT_EQ(restarted.describe("acme")["spent"], "0.95") << "each record once";
  }
}

TEST_F(BudgetsTest, AMonthEndsWhereTheNextBegins) {
  const auto december = *day_begin("2026-12-31") + hours{23};
  EXPECT_EQ(Budgets::month_begin(december), *day_begin("2026-12-01"));
  EXPECT_EQ(Budgets::month_after(december), *day_begin("2027-01-01"));
  EXPECT_EQ(Budgets::month_after(*day_begin("2024-02-01")), *day_begin("2024-03-01"));
}

TEST_F(BudgetsTest, TheCatalogKeepsThem) {
  const store::TestFolder folder;
  {
    auto catalog = *store::open_sqlite_catalog(folder.path() / "catalog.db");
    auto whole = limit("5.00");
    whole.alarm = 0.25;
    whole.on_alarm = "tell";
    whole.by_operator = true;
    ASSERT_TRUE(write_budget(*catalog, whole).ok());
    ASSERT_TRUE(write_budget(*catalog, limit("1.00", "f")).ok());
    ASSERT_TRUE(write_budget(*catalog, limit("2.00", "g")).ok());
    ASSERT_TRUE(remove_budget(*catalog, "acme", "g").ok());
    ASSERT_TRUE(mark_alarmed(*catalog, {whole, "2026-01", money("4")}).ok());
    ASSERT_TRUE(mark_alarmed(*catalog, {limit("9.00", "f"), "2026-01", money("4")}).ok());
    ASSERT_TRUE(mark_alarmed(*catalog, {limit("9.00", "gone"), "2026-01", money("4")}).ok());
  }
  auto catalog = *store::open_sqlite_catalog(folder.path() / "catalog.db");
  const auto kept = read_budgets(*catalog);
  ASSERT_TRUE(kept.ok()) << kept.error().text();
  ASSERT_EQ(kept->size(), 2U);
  EXPECT_EQ(kept->at(0).limit.text(), "5.00");
  EXPECT_EQ(kept->at(0).alarm, 0.25);
  EXPECT_EQ(kept->at(0).on_alarm, "tell");
  EXPECT_TRUE(kept->at(0).by_operator);
  EXPECT_EQ(kept->at(0).alarmed_month, "2026-01");
  EXPECT_EQ(kept->at(1).function, "f");
  EXPECT_EQ(kept->at(1).alarmed_month, "") << "it was changed after the alarm";
}

}  // namespace
}  // namespace sundog::meter
