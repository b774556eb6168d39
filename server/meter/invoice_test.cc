#include "meter/invoice.h"

#include <gmock/gmock.h>

#include <sstream>

namespace sundog::meter {
namespace {

using testing::HasSubstr;
using testing::Not;

const WallTime kJanuary = FakeClock().wall();
const WallTime kFebruary = kJanuary + std::chrono::days(31);

UsageSum sum(const std::string& day, const std::string& function, const std::string& kind, Quantity quantity) {
  return {"acme", day, function, kind, quantity, 128, kJanuary};
}

std::vector<UsageSum> some() {
  return {sum("2026-01-01", "risk", "prediction", {1'000'000, 1'500'000, 192'000'000, 250, 32'000, 9, 1'152}),
          sum("2026-01-02", "risk", "prediction", {1, 3, 384, 0, 0, 0, 0}),
          sum("2026-01-02", "a<b>, \"c\"", "training", {2, 60'000, 61'440'000, 0, 0, 0, 0})};
}

Invoice made(WallTime now = kFebruary) {
  return make_invoice({"acme", kJanuary, kFebruary}, some(), PricePlan{}, now);
}

TEST(InvoiceTest, HasALineForWhatHappened) {
  const auto invoice = made();
  EXPECT_TRUE(invoice.final);
  ASSERT_EQ(invoice.lines.size(), 6U);
  EXPECT_EQ(invoice.lines[0].position, "requests");
  EXPECT_EQ(invoice.lines[1].position, "execution");
  EXPECT_EQ(invoice.lines[1].amount.text(), "0.001000002");  // 60 GB-s
  const auto& requests = invoice.lines[2];
  EXPECT_EQ(requests.function, "risk");
  EXPECT_EQ(requests.quantity, 1'000'001);
  EXPECT_EQ(requests.amount.text(), "0.2000002");
  const auto& execution = invoice.lines[3];
  EXPECT_EQ(execution.duration_ms, 1'500'003);
  // 187.500375 GB-s at 0.0000166667.
  EXPECT_EQ(execution.amount.text(), "0.0031250125");
  EXPECT_EQ(invoice.lines[4].position, "init");
  EXPECT_EQ(invoice.lines[5].position, "restore");
  EXPECT_EQ(invoice.lines[5].amount.text(), "0.00");
}

TEST(InvoiceTest, TotalsAreTheSumsOfTheLines) {
  const auto invoice = made();
  Money total;
  for (const auto& line : invoice.lines) total += line.amount;
  EXPECT_EQ(total, invoice.totals.total());
  EXPECT_EQ(invoice_json(invoice)["totals"]["total"], total.text());
}

TEST(InvoiceTest, IsProvisionalUntilTheSpanIsOver) {
  EXPECT_FALSE(made(kFebruary - Millis{1}).final);
  EXPECT_THAT(invoice_html(made(kJanuary)), HasSubstr("provisional"));
  EXPECT_THAT(invoice_html(made()), Not(HasSubstr("provisional</span>")));
}

TEST(InvoiceTest, TheCsvSumsUpAndQuotes) {
  const auto csv = invoice_csv(made());
  EXPECT_THAT(
      csv,
      HasSubstr("\"a<b>, \"\"c\"\"\",training,requests,2,requests,0,0.20,\"1,000,000 requests\",0.0000004,USD\r\n"));
  EXPECT_THAT(csv,
              HasSubstr("risk,prediction,execution,187.500375,GB-s,1500003,0.0000166667,GB-s,0.0031250125,USD\r\n"));
  std::istringstream lines(csv);
  std::string line;
  int count = 0;
  while (std::getline(lines, line)) ++count;
  EXPECT_EQ(count, 1 + 6 + 5);
  EXPECT_THAT(csv, testing::EndsWith("Total,,,,,," + made().totals.total().text() + ",USD\r\n"));
}

TEST(InvoiceTest, ThePageNeedsNothingElseAndEscapes) {
  const auto page = invoice_html(made());
  EXPECT_THAT(page, testing::StartsWith("<!doctype html>"));
  EXPECT_THAT(page, HasSubstr("a&lt;b&gt;, &quot;c&quot;"));
  for (const char* outside : {"http://", "https://", "<script", "src="}) EXPECT_THAT(page, Not(HasSubstr(outside)));
}

TEST(InvoiceTest, OfNothingHasTotalsOfNothing) {
  const auto invoice = make_invoice({"acme", kJanuary, kFebruary}, {}, PricePlan{}, kFebruary);
  EXPECT_TRUE(invoice.lines.empty());
  EXPECT_EQ(invoice_json(invoice)["totals"]["total"], "0.00");
}

}  // namespace
}  // namespace sundog::meter
