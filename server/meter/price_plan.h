// Price plans: what a quantity costs. One for all tenants, and one of its own for a tenant that has it.
//
// Ownership   loaded once in app/ from a file that the operator edits; constant from then on.
// Threads     plain values.
// Failure     invalid_argument: the message names the file, the field and what is wrong with it.
#pragma once

#include <map>
#include <string>

#include "base/file.h"
#include "base/json.h"
#include "base/result.h"
#include "meter/money.h"
#include "meter/usage.h"

namespace sundog::meter {

// Prices as on AWS Lambda, x86, us-east-1, unless the operator's file says otherwise.
struct PricePlan {
  std::string name = "aws-lambda-x86-us-east-1";
  std::string currency = "USD";
  Money per_gb_second = Money::of_pico(16'666'700);              // 0.0000166667
  Money per_million_requests = Money::of_pico(200'000'000'000);  // 0.20
  Money init_per_gb_second = Money::of_pico(16'666'700);
  Money restore_per_gb_second;
  // An always-on server to compare with: the price of one GB of memory for an hour.
  Money always_on_gb_hour = Money::of_pico(60'000'120'000);  // 3,600 times that
};

class PricePlans {
 public:
  PricePlans() = default;
  PricePlans(PricePlan common, std::map<std::string, PricePlan> of_tenant)
      : common_(std::move(common)), of_tenant_(std::move(of_tenant)) {}
  const PricePlan& of(const std::string& tenant) const {
    const auto found = of_tenant_.find(tenant);
    return found == of_tenant_.end() ? common_ : found->second;
  }

 private:
  PricePlan common_;
  std::map<std::string, PricePlan> of_tenant_;
};

// JSON with the names above; absent fields keep their default. "tenants": {"acme": {…}} gives a tenant its own, whose
// absent fields are the file's.
Result<PricePlans> load_price_plans(const Path& file);
Status write_default_price_plan(const Path& file);  // if it does not exist

struct Cost {
  Money requests, execution, init, restore;
  Money total() const { return requests + execution + init + restore; }
};
Cost cost_of(const Quantity& quantity, const PricePlan& plan);
Cost cost_of(const UsageRecord& record, const PricePlan& plan);

}  // namespace sundog::meter
