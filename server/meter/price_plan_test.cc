#include "meter/price_plan.h"

#include <gmock/gmock.h>

#include "store/test_folder.h"

namespace sundog::meter {
namespace {

using testing::HasSubstr;

Money money(std::string_view text) {
  auto parsed = parse_money(text);
  EXPECT_TRUE(parsed.ok()) << text;
  return *parsed;
}

TEST(MoneyTest, KeepsEveryDigit) {
  for (const char* text : {"0.00", "5.00", "0.0000166667", "0.000000000001", "1000000.00", "123456.789012345678"}) {
    EXPECT_EQ(money(text).text(), text);
  }
  EXPECT_EQ(money("5").text(), "5.00");
  EXPECT_EQ(money("0.5").text(), "0.50");
  EXPECT_EQ((money("1") - money("2.5")).text(), "-1.50");
  EXPECT_EQ(money_of(0.0000166667)->text(), "0.0000166667");
  EXPECT_EQ(money_of(0.1)->text(), "0.10");
  EXPECT_EQ(money_of(5)->text(), "5.00");
}

TEST(MoneyTest, RefusesWhatIsNoAmount) {
  for (const char* text :
       {"", "x", "-1", "1.", ".5", "1e3", "1,5", "1.0000000000001", "1000000.1", "12345678", "1.5 "}) {
    EXPECT_FALSE(parse_money(text).ok()) << text;
  }
  EXPECT_FALSE(money_of(-0.5).ok());
  EXPECT_FALSE(money_of(1e300).ok());
  EXPECT_FALSE(money_of(1e-300).ok());
}

TEST(MoneyTest, RoundsHalfUpOnce) {
  EXPECT_EQ(price_of(money("0.000000000001"), 1, 2).text(), "0.000000000001");
  EXPECT_EQ(price_of(money("0.000000000001"), 1, 3).text(), "0.00");
  // No drift: a billion of what a single one rounds away.
  EXPECT_EQ(price_of(money("0.000000000001"), 1'000'000'000, 3).text(), "0.000333333333");
  EXPECT_EQ(price_of(money("0.20"), 10'000'000'000, 1'000'000).text(), "2000.00");
  EXPECT_EQ(price_of(money("1000000"), INT64_MAX, 1).pico(), Money::Pico{INT64_MAX} * 1'000'000'000'000'000'000);
}

TEST(CostOf, EachPartOnALineOfItsOwn) {
  UsageRecord record;
  record.memory_mb = 2048;
  record.billed_ms = 1;
  record.billed_init_ms = 3;
  record.billed_restore_ms = 10;
  PricePlan plan;
  plan.per_gb_second = money("1");
  plan.init_per_gb_second = money("10");
  plan.restore_per_gb_second = money("100");
  plan.per_million_requests = money("1000000");
  const auto cost = cost_of(record, plan);
  EXPECT_EQ(cost.execution.text(), "0.002");
  EXPECT_EQ(cost.init.text(), "0.06");
  EXPECT_EQ(cost.restore.text(), "2.00");
  EXPECT_EQ(cost.requests.text(), "1.00");
  EXPECT_EQ(cost.total().text(), "3.062");
}

class PricePlanTest : public testing::Test {
 protected:
  Result<PricePlans> load(const std::string& text) {
    EXPECT_TRUE(write_file_durably(folder_.path() / "prices.json", text).ok());
    return load_price_plans(folder_.path() / "prices.json");
  }
  std::string refusal(const std::string& text) {
    const auto loaded = load(text);
    return loaded.ok() ? "" : loaded.error().text();
  }

  store::TestFolder folder_;
};

TEST_F(PricePlanTest, WritesTheDefaultOnceAndReadsItBack) {
  const auto file = folder_.path() / "config" / "prices.json";
  ASSERT_TRUE(write_default_price_plan(file).ok());
  const auto plans = load_price_plans(file);
  ASSERT_TRUE(plans.ok()) << plans.error().text();
  EXPECT_EQ(plans->of("any").per_gb_second, PricePlan{}.per_gb_second);
  EXPECT_EQ(plans->of("any").per_gb_second.text(), "0.0000166667");
  EXPECT_EQ(plans->of("any").always_on_gb_hour, PricePlan{}.always_on_gb_hour);
  ASSERT_TRUE(write_file_durably(file, R"({"name":"mine"})").ok());
  ASSERT_TRUE(write_default_price_plan(file).ok());
  EXPECT_EQ(load_price_plans(file)->of("any").name, "mine");
}

TEST_F(PricePlanTest, AbsentFieldsKeepTheirDefault) {
  const auto plans = load(R"({"currency":"EUR","per_gb_second":0.5})");
  ASSERT_TRUE(plans.ok());
  const auto& plan = plans->of("any");
  EXPECT_EQ(plan.currency, "EUR");
  EXPECT_EQ(plan.per_gb_second.text(), "0.50");
  EXPECT_EQ(plan.per_million_requests.text(), "0.20");
}

TEST_F(PricePlanTest, ATenantMayHaveItsOwn) {
  const auto plans = load(
      R"({"currency":"EUR","per_million_requests":"0.30","tenants":{"acme":{"name":"friends","per_gb_second":"0.00001"}}})");
  ASSERT_TRUE(plans.ok()) << plans.error().text();
  const auto& acme = plans->of("acme");
  EXPECT_EQ(acme.name, "friends");
  EXPECT_EQ(acme.currency, "EUR");
  EXPECT_EQ(acme.per_gb_second.text(), "0.00001");
  EXPECT_EQ(acme.per_million_requests.text(), "0.30");
  EXPECT_EQ(plans->of("default").per_gb_second.text(), "0.0000166667");
}

TEST_F(PricePlanTest, SaysWhatIsWrong) {
  EXPECT_THAT(refusal("{"), HasSubstr("prices.json"));
  EXPECT_THAT(refusal("[]"), HasSubstr("not a JSON object"));
  EXPECT_THAT(refusal(R"({"per_gb_second":-1})"), HasSubstr("\"per_gb_second\" is -1; a price is 0 to"));
  EXPECT_THAT(refusal(R"({"per_gb_second":"x"})"), HasSubstr("\"per_gb_second\" is \"x\"; a price is 0 to"));
  EXPECT_THAT(refusal(R"({"per_gb_second":true})"), HasSubstr("must be a number"));
  EXPECT_THAT(refusal(R"({"per_gb_second":0.00000000000001})"), HasSubstr("at most 12 decimals"));
  EXPECT_THAT(refusal(R"({"per_gb_secnod":1})"), HasSubstr("unknown field \"per_gb_secnod\""));
  EXPECT_THAT(refusal(R"({"currency":1})"), HasSubstr("\"currency\" must be a string"));
  EXPECT_THAT(refusal(R"({"tenants":[]})"), HasSubstr("\"tenants\" is not an object"));
  EXPECT_THAT(refusal(R"({"tenants":{"acme":{"price":1}}})"),
              HasSubstr("tenant \"acme\" has the unknown field \"price\""));
  EXPECT_THAT(refusal(R"({"tenants":{"acme":{"tenants":{}}}})"), HasSubstr("unknown field \"tenants\""));
  EXPECT_FALSE(load_price_plans(folder_.path() / "nowhere.json").ok());
}

}  // namespace
}  // namespace sundog::meter
