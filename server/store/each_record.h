// each_record: every record under a prefix, page by page, so that no caller counts pages itself.
//
// Threads     as Catalog::scan: any but the loop's.
// Failure     the catalog's, or what `act` returned; the records before it have been acted on.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "store/catalog.h"

namespace sundog::store {

// In key order, those with a key > `after`. `act` may write to the catalog, and says whether it wants another record.
Status each_record(const Catalog& catalog, std::string_view prefix, const std::function<Result<bool>(Record&)>& act,
                   std::string after = {});

}  // namespace sundog::store
