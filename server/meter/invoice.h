// Invoice: what one tenant owes for one span of time, line by line, and as a document: JSON, CSV or a page.
//
// Rounding    each line's amount is its quantity times its price, rounded half up to the 12th decimal; totals are the
//             exact sums of the lines' amounts.
// Threads     plain values; pure.
#pragma once

#include <string>
#include <vector>

#include "meter/price_plan.h"
#include "meter/usage.h"

namespace sundog::meter {

struct InvoiceLine {
  std::string function, kind;
  std::string position;     // requests, execution, init, restore
  int64_t quantity = 0;     // requests, or megabyte-milliseconds
  int64_t duration_ms = 0;  // billed; 0 for requests
  Money price;              // for a million requests, or for a GB-second
  Money amount;
};

struct Invoice {
  std::string tenant;
  WallTime from, to;  // [from, to)
  WallTime made;
  bool final = false;  // the span is over: no record can come any more
  std::string currency, plan;
  std::vector<InvoiceLine> lines;  // by function, kind and position; no line for what did not happen
  Cost totals;
};

Invoice make_invoice(const UsageQuery& query, const std::vector<UsageSum>& sums, const PricePlan& plan, WallTime now);

Json invoice_json(const Invoice& invoice);
std::string invoice_csv(const Invoice& invoice);   // RFC 4180, with a head; the last rows are the totals
std::string invoice_html(const Invoice& invoice);  // one page that needs nothing else

}  // namespace sundog::meter
