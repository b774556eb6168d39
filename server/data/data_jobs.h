// The kinds of job that turn data into data: ingest, profile, preprocess. Each is a plan in this process and work in
// instances of the function "sundog-data".
#pragma once

#include "data/datasets.h"
#include "data/jobs.h"
#include "store/blobs.h"

namespace sundog::data {

inline constexpr const char* kDataFunction = "sundog-data";

// Registers the kinds "ingest", "profile" and "preprocess"; before jobs.start(). What is passed outlives `jobs`.
void add_data_jobs(Jobs& jobs, Datasets& datasets, store::Blobs& blobs, Clock& clock);

// One step of the data worker: its arguments and the blobs that it may open.
invoke::Invocation data_invocation(const std::string& tenant, const std::string& task, Json arguments,
                                   std::set<std::string> blobs);
// What a function's error object says, as an Error of ours. Data tasks name the code as its type ("invalid_argument").
Error error_from_function(const invoke::InvokeResult& result);
// The step's answer.
Result<Json> data_answer(const invoke::InvokeResult& result);

// The handlers, each in its own file.
Result<Json> run_ingest(JobContext& context, Datasets& datasets);
Result<Json> run_profile(JobContext& context, Datasets& datasets);
Result<Json> run_preprocess(JobContext& context, Datasets& datasets, store::Blobs& blobs);

}  // namespace sundog::data
