// Budgets: what a tenant, or one of its functions, may spend in a month (UTC). Told at a share of it, stopped at all of
// it.
//
// Promise     An invocation begins only while what was spent this month and the most that those in flight can still
// cost
//             (their timeout at their memory size, a request, an init) are below the limit: so the limit is passed by
//             at most one invocation, however many ask at once.
// Ownership   one per server, created in app/ before anything runs; outlives the invoker. What is set is kept by
//             budget_store.h; what was spent before is read from the ledger once it matters: restore() and recall().
// Threads     every function may be called from any thread; a short lock, no I/O, but for recall() and restore(), which
//             read the ledger.
// Failure     reserve(): budget_exceeded (402: spent; stays so until the limit is raised or the month ends) ·
//             resource_exhausted (429: what runs now may take the rest; try again).
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "base/result.h"
#include "meter/price_plan.h"
#include "meter/usage.h"

namespace sundog::meter {

struct Budget {
  std::string tenant;
  std::string function;  // empty: of all that the tenant does
  Money limit;
  double alarm = 0.8;         // the share of the limit at which to tell
  std::string on_alarm;       // a function of the tenant that is invoked with the alarm as its event; may be empty
  bool by_operator = false;   // set by the operator: the tenant cannot change it
  std::string alarmed_month;  // "2026-01": told already in that month
};

struct Alarm {
  Budget budget;
  std::string month;
  Money spent;
};
// {"tenant","function","month","limit","spent","currency","alarm"}: the event of an on_alarm function.
Json alarm_json(const Alarm& alarm, const PricePlan& plan);

class Budgets {
 public:
  struct Account;
  // What one invocation may cost at most, held until it has ended. Gives back what it holds when dropped.
  class Reservation {
   public:
    Reservation() = default;
    Reservation(Reservation&& other) noexcept { *this = std::move(other); }
    Reservation& operator=(Reservation&& other) noexcept;
    ~Reservation() { release(); }
    // It has ended: its record counts instead.
    void settle(const UsageRecord& record);
    void release();

   private:
    friend class Budgets;
    Budgets* budgets_ = nullptr;
    std::shared_ptr<Account> tenant_, function_;
    Quantity most_;
  };

  // Called once a month and budget, when the share is reached, on the thread that reached it.
  using AlarmCallback = std::function<void(const Alarm&)>;

  Budgets(const PricePlans& plans, Clock& clock);
  ~Budgets();
  void on_alarm(AlarmCallback callback) { on_alarm_ = std::move(callback); }

  // At the start, before anything runs: what is set; recall() if that is anything.
  Status restore(const std::vector<Budget>& budgets, const Ledger& ledger);
  // Adds what was spent this month before the start, once; before it, put() and describe() do not know that.
  Status recall(const Ledger& ledger);
  void put(const Budget& budget);
  void remove(const std::string& tenant, const std::string& function);
  std::optional<Budget> find(const std::string& tenant, const std::string& function) const;

  Result<Reservation> reserve(const std::string& tenant, const std::string& function, const Quantity& most);
  // Whether its limit, or its tenant's, is spent: reserve() would say budget_exceeded.
  bool is_spent(const std::string& tenant, const std::string& function) const;

  // {"month","currency","spent","items":[{"function","limit","spent","reserved","share","alarm","on_alarm","by_operator",
  //  "state":"ok|alarm|spent"}]}
  Json describe(const std::string& tenant) const;

  static WallTime month_begin(WallTime now);
  static WallTime month_after(WallTime begin);  // when the month of `begin` is over

 private:
  std::shared_ptr<Account>& account(const std::string& tenant, const std::string& function) const;
  void begin_month() const;  // this and the next two with mutex_ held
  std::optional<Error> refusal(const Account& account) const;
  void collect_alarm(Account& account, std::vector<Alarm>& alarms) const;
  void tell(const std::vector<Alarm>& alarms) const;

  const PricePlans& plans_;
  Clock& clock_;
  const WallTime opened_;
  AlarmCallback on_alarm_;
  std::mutex recall_mutex_;  // before mutex_
  bool recalled_ = false;
  mutable std::mutex mutex_;
  // By tenant, and by tenant and function. A new month sets what is spent to nothing; the rest stays.
  mutable std::unordered_map<std::string, std::shared_ptr<Account>> accounts_;
  mutable WallTime month_, next_month_;
};

}  // namespace sundog::meter
