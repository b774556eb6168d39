// /v1/bill, /v1/invoice, /v1/usage, /v1/budgets: see protocol/api.md.
#pragma once

#include <string_view>

#include "api/router.h"
#include "base/clock.h"
#include "functions/functions.h"
#include "invoke/invoker.h"
#include "meter/budgets.h"
#include "meter/price_plan.h"
#include "meter/usage.h"
#include "store/catalog.h"

namespace sundog::api {

struct Billing {
  Clock& clock;
  const meter::Ledger& ledger;
  const meter::PricePlans& plans;
  meter::Budgets& budgets;
  store::Catalog& catalog;  // where budgets are kept
  const functions::Functions& functions;
  const invoke::Invoker& invoker;
};

// Everything in `billing` outlives the handlers.
void add_bill_routes(Router& router, const Billing& billing);

}  // namespace sundog::api
