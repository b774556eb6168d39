// Api: the way of every request from HttpServer to its route: match, authenticate, authorise, dispatch, count.
//
// Ownership   one per server, created in app/; owns the Router, the pool of Run::pool routes, and the Metrics. Fill
// router() before
//             handler() is given to the HttpServer; destroy the HttpServer first.
// Threads     handler() and body_policy() run on the loop thread; drain() on any.
// Failure     see router.h; 503 for all but /healthz and /metrics once draining; 429 when the pool's queue is full.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "api/authenticate.h"
#include "api/keys.h"
#include "api/metrics.h"
#include "api/router.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/pool.h"
#include "net/http.h"

namespace sundog::api {

class Api {
 public:
  struct Options {
    int threads = 16;  // long polls and streamed bodies each hold one
    size_t queue_limit = 1024;
  };
  Api(Clock& clock, Log& log, std::unique_ptr<Keys> keys, Options options);
  ~Api();
  Api(const Api&) = delete;
  Api& operator=(const Api&) = delete;

  Router& router() { return router_; }
  Keys& keys() { return *keys_; }
  Metrics& metrics() { return metrics_; }
  Pool& pool() { return *pool_; }

  net::Handler handler();
  net::BodyPolicyFunction body_policy();
  net::ErrorAnswer error_answer();

  void drain() { draining_ = true; }
  bool draining() const { return draining_; }

 private:
  void handle(net::Request request, std::shared_ptr<net::Responder> responder);
  net::BodyPolicy policy_for(const net::Request& request);
  std::optional<net::Response> authorise(const Router::Match& match, const net::Request& request,
                                         Authenticator::Body body, Principal& principal) const;
  void run(const Router::Match& match, const std::shared_ptr<Call>& call);
  void note_use(const std::string& key_id);
  Metrics::Route& counts_of(const Router::Match* match);

  Clock& clock_;
  Log& log_;
  std::unique_ptr<Keys> keys_;
  Authenticator authenticator_;
  Router router_;
  Metrics metrics_;
  std::vector<Metrics::Route*> counts_;  // by Match::index; loop thread
  Metrics::Route* unmatched_;
  std::atomic<bool> draining_{false};
  std::unique_ptr<Pool> pool_;  // last: its threads use all of the above
};

}  // namespace sundog::api
