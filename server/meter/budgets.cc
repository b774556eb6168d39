#include "meter/budgets.h"

#include <map>
#include <utility>

namespace sundog::meter {
namespace {

std::string month_name(WallTime begin) {
  return iso_day(begin).substr(0, 7);
}

void subtract(Quantity& from, const Quantity& what) {
  from.invocations -= what.invocations;
  from.billed_mb_ms -= what.billed_mb_ms;
  from.init_mb_ms -= what.init_mb_ms;
  from.restore_mb_ms -= what.restore_mb_ms;
}

std::string title(const Budget& budget) {
  return budget.function.empty() ? "The budget of tenant \"" + budget.tenant + "\""
                                 : "The budget of function \"" + budget.function + "\"";
}

}  // namespace

struct Budgets::Account {
  std::string tenant, function;
  Quantity spent, reserved;  // spent: this month
  std::optional<Budget> budget;
};

Json alarm_json(const Alarm& alarm, const PricePlan& plan) {
  return {{"tenant", alarm.budget.tenant},      {"function", alarm.budget.function}, {"month", alarm.month},
          {"limit", alarm.budget.limit.text()}, {"spent", alarm.spent.text()},       {"currency", plan.currency},
          {"alarm", alarm.budget.alarm}};
}

Budgets::Reservation& Budgets::Reservation::operator=(Reservation&& other) noexcept {
  if (this == &other) return *this;
  release();
  budgets_ = std::exchange(other.budgets_, nullptr);
  tenant_ = std::move(other.tenant_);
  function_ = std::move(other.function_);
  most_ = other.most_;
  return *this;
}

void Budgets::Reservation::release() {
  if (budgets_ == nullptr) return;
  const std::lock_guard lock(std::exchange(budgets_, nullptr)->mutex_);
  subtract(tenant_->reserved, most_);
  subtract(function_->reserved, most_);
}

void Budgets::Reservation::settle(const UsageRecord& record) {
  if (budgets_ == nullptr) return;
  Budgets& budgets = *std::exchange(budgets_, nullptr);
  std::vector<Alarm> alarms;
  {
    const std::lock_guard lock(budgets.mutex_);
    budgets.begin_month();
    for (const auto& account : {tenant_, function_}) {
      subtract(account->reserved, most_);
      if (record.ended < budgets.month_) continue;  // of the last month
      account->spent.add(record);
      budgets.collect_alarm(*account, alarms);
    }
  }
  budgets.tell(alarms);
}

// In whole milliseconds, as the ledger keeps when a record ended.
Budgets::Budgets(const PricePlans& plans, Clock& clock)
    : plans_(plans), clock_(clock), opened_(std::chrono::floor<Millis>(clock.wall())) {}
Budgets::~Budgets() = default;

WallTime Budgets::month_begin(WallTime now) {
  const std::chrono::year_month_day date{std::chrono::floor<std::chrono::days>(now)};
  return WallTime{std::chrono::sys_days(date.year() / date.month() / 1)};
}

WallTime Budgets::month_after(WallTime begin) {
  const std::chrono::year_month_day date{std::chrono::floor<std::chrono::days>(begin)};
  return WallTime{std::chrono::sys_days((date.year() / date.month() + std::chrono::months(1)) / 1)};
}

std::shared_ptr<Budgets::Account>& Budgets::account(const std::string& tenant, const std::string& function) const {
  auto& found = accounts_[function.empty() ? tenant : tenant + "/" + function];
  if (!found) {
    found = std::make_shared<Account>();
    found->tenant = tenant;
    found->function = function;
  }
  return found;
}

void Budgets::begin_month() const {
  const auto now = clock_.wall();
  if (now >= month_ && now < next_month_) return;
  month_ = month_begin(now);
  next_month_ = month_after(month_);
  for (auto& [key, account] : accounts_) account->spent = {};
}

Status Budgets::recall(const Ledger& ledger) {
  const std::lock_guard once(recall_mutex_);
  if (recalled_) return done;
  // What ended since is counted already.
  if (const auto begin = month_begin(clock_.wall()); begin < opened_) {
    SUNDOG_TRY(sums, ledger.sums({"", begin, opened_}));
    const std::lock_guard lock(mutex_);
    begin_month();
    for (const auto& sum : sums) {
      if (begin != month_) break;  // the month ended meanwhile
      account(sum.tenant, "")->spent.add(sum.quantity);
      account(sum.tenant, sum.function)->spent.add(sum.quantity);
    }
  }
  recalled_ = true;
  return done;
}

Status Budgets::restore(const std::vector<Budget>& budgets, const Ledger& ledger) {
  if (budgets.empty()) return done;
  if (const auto recalled = recall(ledger); !recalled.ok()) {
    const auto& why = recalled.error();
    return fail(
        why.code,
        "Budgets are set, and what of them is spent cannot be read, so that none could be kept to. " + why.message,
        why.hint);
  }
  std::vector<Alarm> alarms;
  {
    const std::lock_guard lock(mutex_);
    begin_month();
    for (const auto& budget : budgets) {
      auto& of = *account(budget.tenant, budget.function);
      of.budget = budget;
      collect_alarm(of, alarms);
    }
  }
  tell(alarms);
  return done;
}

void Budgets::put(const Budget& budget) {
  std::vector<Alarm> alarms;
  {
    const std::lock_guard lock(mutex_);
    begin_month();
    auto& of = *account(budget.tenant, budget.function);
    of.budget = budget;
    collect_alarm(of, alarms);
  }
  tell(alarms);
}

void Budgets::remove(const std::string& tenant, const std::string& function) {
  const std::lock_guard lock(mutex_);
  account(tenant, function)->budget.reset();
}

std::optional<Budget> Budgets::find(const std::string& tenant, const std::string& function) const {
  const std::lock_guard lock(mutex_);
  const auto found = accounts_.find(function.empty() ? tenant : tenant + "/" + function);
  return found == accounts_.end() ? std::nullopt : found->second->budget;
}

std::optional<Error> Budgets::refusal(const Account& of) const {
  if (!of.budget) return std::nullopt;
  const auto& plan = plans_.of(of.tenant);
  const auto& budget = *of.budget;
  const Money spent = cost_of(of.spent, plan).total();
  if (spent >= budget.limit) {
    return fail(Code::budget_exceeded,
                title(budget) + " for " + month_name(month_) + " is spent: " + spent.text() + " of " +
                    budget.limit.text() + " " + plan.currency + ".",
                "Raise it (sundog budget set), or wait for the next month; events wait in their queue.");
  }
  const Money reserved = cost_of(of.reserved, plan).total();
  if (spent + reserved < budget.limit) return std::nullopt;
  return fail(Code::resource_exhausted,
              title(budget) + " may be used up by what runs now: " + spent.text() + " of " + budget.limit.text() + " " +
                  plan.currency + " is spent, and running invocations can cost " + reserved.text() + " more.",
              "Retry after 1 s.");
}

Result<Budgets::Reservation> Budgets::reserve(const std::string& tenant, const std::string& function,
                                              const Quantity& most) {
  const std::lock_guard lock(mutex_);
  begin_month();
  Reservation held;
  held.tenant_ = account(tenant, "");
  held.function_ = account(tenant, function);
  for (const auto& of : {held.tenant_, held.function_}) {
    if (auto refused = refusal(*of)) return *std::move(refused);
  }
  held.budgets_ = this;
  held.most_ = most;
  held.tenant_->reserved.add(most);
  held.function_->reserved.add(most);
  return held;
}

bool Budgets::is_spent(const std::string& tenant, const std::string& function) const {
  const std::lock_guard lock(mutex_);
  begin_month();
  for (const auto& name : {std::string(), function}) {
    const auto found = accounts_.find(name.empty() ? tenant : tenant + "/" + name);
    if (found == accounts_.end() || !found->second->budget) continue;
    const auto& of = *found->second;
    if (cost_of(of.spent, plans_.of(tenant)).total() >= of.budget->limit) return true;
  }
  return false;
}

void Budgets::collect_alarm(Account& of, std::vector<Alarm>& alarms) const {
  if (!of.budget) return;
  auto& budget = *of.budget;
  const auto month = month_name(month_);
  if (budget.alarmed_month == month) return;
  const Money spent = cost_of(of.spent, plans_.of(of.tenant)).total();
  if (spent.number() < budget.limit.number() * budget.alarm) return;
  budget.alarmed_month = month;
  alarms.push_back({budget, month, spent});
}

void Budgets::tell(const std::vector<Alarm>& alarms) const {
  if (!on_alarm_) return;
  for (const auto& alarm : alarms) on_alarm_(alarm);
}

Json Budgets::describe(const std::string& tenant) const {
  const std::lock_guard lock(mutex_);
  begin_month();
  const auto& plan = plans_.of(tenant);
  std::map<std::string, Json> items;  // by function, the whole tenant's first
  for (const auto& [key, of] : accounts_) {
    if (of->tenant != tenant || !of->budget) continue;
    const auto& budget = *of->budget;
    const Money spent = cost_of(of->spent, plan).total();
    const double share = budget.limit > Money() ? spent.number() / budget.limit.number() : 1.0;
    items[of->function] = {{"function", of->function},
                           {"limit", budget.limit.text()},
                           {"spent", spent.text()},
                           {"reserved", cost_of(of->reserved, plan).total().text()},
                           {"share", share},
                           {"alarm", budget.alarm},
                           {"on_alarm", budget.on_alarm},
                           {"by_operator", budget.by_operator},
                           {"state", spent >= budget.limit   ? "spent"
                                     : share >= budget.alarm ? "alarm"
                                                             : "ok"}};
  }
  Json list = Json::array();
  for (auto& [function, item] : items) list.push_back(std::move(item));
  const auto whole = accounts_.find(tenant);
  const Money spent = whole == accounts_.end() ? Money() : cost_of(whole->second->spent, plan).total();
  return {
      {"month", month_name(month_)}, {"currency", plan.currency}, {"spent", spent.text()}, {"items", std::move(list)}};
}

}  // namespace sundog::meter
