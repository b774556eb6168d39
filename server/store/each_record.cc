#include "store/each_record.h"

namespace sundog::store {
namespace {

constexpr size_t kPage = 250;  // records may be of many kilobytes: a page is what is held at a time

}  // namespace

Status each_record(const Catalog& catalog, std::string_view prefix, const std::function<Result<bool>(Record&)>& act,
                   std::string after) {
  while (true) {
    SUNDOG_TRY(page, catalog.scan(prefix, after, kPage));
    for (auto& record : page) {
      after = record.key;
      SUNDOG_TRY(more, act(record));
      if (!more) return done;
    }
    if (page.size() < kPage) return done;
  }
}

}  // namespace sundog::store
