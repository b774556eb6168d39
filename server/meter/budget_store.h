// Budgets in the catalog: "budgets/<tenant>" and "budgets/<tenant>/<function>".
//
// Threads     a pool thread: the catalog may block on the disk.
// Durability  and Failure as the catalog's.
#pragma once

#include <vector>

#include "meter/budgets.h"
#include "store/catalog.h"

namespace sundog::meter {

Result<std::vector<Budget>> read_budgets(const store::Catalog& catalog);
Status write_budget(store::Catalog& catalog, const Budget& budget);
Status remove_budget(store::Catalog& catalog, const std::string& tenant, const std::string& function);
// That its alarm was told, unless it was changed meanwhile.
Status mark_alarmed(store::Catalog& catalog, const Alarm& alarm);

}  // namespace sundog::meter
