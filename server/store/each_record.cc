#include "store/each_record.h"

#include <algorithm>

namespace sundog::store {
Status each_record(const Catalog& catalog, std::string_view prefix, const std::function<Result<bool>(Record&)>& act,
                   std::string after, size_t held) {
  const size_t most = std::clamp<size_t>(held, 1, kRecordsHeld);
  while (true) {
    SUNDOG_TRY(page, catalog.scan(prefix, after, most));
    for (auto& record : page) {
      after = record.key;
      SUNDOG_TRY(more, act(record));
      if (!more) return done;
    }
    if (page.size() < most) return done;
  }
}

}  // namespace sundog::store
