// Routes of datasets and jobs, protocol/api.md. No logic of their own.
#pragma once

#include <functional>
#include <string>

#include "api/router.h"
#include "data/datasets.h"
#include "data/jobs.h"
#include "invoke/invoker.h"
#include "net/loop.h"
#include "store/blobs.h"

namespace sundog::api {

// Whether the tenant put the blob or something of its own names it.
using MayUseBlob = std::function<bool(const std::string& tenant, const std::string& blob)>;

// What is passed outlives `router`.
void add_data_routes(Router& router, data::Datasets& datasets, data::Jobs& jobs, store::Blobs& blobs,
                     invoke::Invoker& invoker, net::Loop& loop, MayUseBlob may_use);

}  // namespace sundog::api
