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

inline constexpr size_t kRecordsHeld = 250;  // records may be of many kilobytes: a page is what is held at a time

// In key order, those with a key > `after`. `act` may write to the catalog, and says whether it wants another record.
// Who wants few of them says how many, and no more than those are read: `held`, of which kRecordsHeld are the most.
Status each_record(const Catalog& catalog, std::string_view prefix, const std::function<Result<bool>(Record&)>& act,
                   std::string after = {}, size_t held = kRecordsHeld);

}  // namespace sundog::store
