// /v1/blobs: see protocol/api.md. A blob belongs to every tenant that put it: "blob-owners/<tenant>/<id>" in the
// Catalog.
#pragma once

#include <functional>
#include <string>

#include "api/router.h"
#include "store/blobs.h"
#include "store/catalog.h"

namespace sundog::api {

// Whether a dataset, run or model of the tenant names the blob, so that the tenant may read it. Called on the api pool.
using NamesBlob = std::function<bool(const std::string& tenant, const std::string& blob)>;

void add_blob_routes(Router& router, store::Blobs& blobs, store::Catalog& catalog, Clock& clock, NamesBlob names_blob);

// What a Range header asks of `size` bytes. Absent, malformed or of several ranges: all of it, as RFC 9110 allows.
struct Span {
  enum class Kind { whole, part, unsatisfiable };
  Kind kind = Kind::whole;
  int64_t offset = 0;
  int64_t length = 0;
};
Span span_of(std::string_view range_header, int64_t size);

}  // namespace sundog::api
