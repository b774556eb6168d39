// /healthz, /metrics, /v1/status, /v1/doctor, /v1/keys, /v1/fleet: see protocol/api.md.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "api/api.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "invoke/invoker.h"

namespace sundog::api {

struct ServerFacts {
  std::string version;
  Path data_folder;
  std::vector<std::string> pythons;  // "3.11"
  bool open_metrics = true;          // false: /metrics takes a viewer's key
};

// Everything given outlives the Api's handlers. `doctor` gives the list of checks; it runs on a pool thread.
void add_server_routes(Api& api, Clock& clock, invoke::Invoker& invoker, std::function<Json()> doctor,
                       ServerFacts facts);

}  // namespace sundog::api
