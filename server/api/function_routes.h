// /v1/functions/{name}/logs and /dead-letters: see protocol/api.md.
#pragma once

#include <memory>
#include <vector>

#include "api/router.h"
#include "base/pool.h"
#include "functions/functions.h"
#include "invoke/function_logs.h"
#include "net/loop.h"
#include "store/queue.h"

namespace sundog::api {

// Answers that go on until somebody ends them: the clients that follow logs now. On the loop thread; outlives the
// routes.
class OpenStreams {
 public:
  class Stream {
   public:
    virtual ~Stream() = default;
    virtual void end() = 0;
  };
  void add(std::weak_ptr<Stream> stream);
  // Each sends what there is to send, and ends as a whole answer.
  void end_all();

 private:
  std::vector<std::weak_ptr<Stream>> streams_;
};

// `pool` writes to those who follow logs; `loop` looks from time to time whether they are still there.
void add_function_routes(Router& router, functions::Functions& functions, invoke::FunctionLogs& logs,
                         store::Queue& queue, Pool& pool, net::Loop& loop, OpenStreams& streams);

}  // namespace sundog::api
