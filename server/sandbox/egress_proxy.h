// EgressProxy: the only way out of a function with the network "egress". The function's own network namespace has no
// more than a loopback; the socket that listens there, on 127.0.0.1:3128, is ours. Programs take it for an HTTP proxy.
//
// Ownership   one per sandbox; a way out, and its connections with it, belongs to whoever holds what add() returned.
// Threads     the loop thread; names are resolved on threads of its own, a tenant's at most four at a time.
// Failure     a client is told by 403 (the list does not hold it), 502 (not reachable), 504, 408, 431 or 400.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/pool.h"
#include "net/loop.h"
#include "sandbox/egress_policy.h"

namespace sundog::sandbox {

// HTTP_PROXY and its like, as curl, urllib, requests and boto3 read them; a program's own loopback is left to itself,
// but for those of its names that are to go through the proxy.
std::map<std::string, std::string> egress_variables(const EgressPolicy& through_the_proxy);

class EgressProxy {
 public:
  struct Options {
    size_t connections = 128;       // of one way out; who comes beyond waits in the socket's queue
    size_t all_connections = 1024;  // of all together, of which one tenant has half at most
    Millis head_limit{10'000};
    Millis connect_limit{10'000};
    Millis idle_limit{300'000};
    Millis last_limit{30'000};  // the same once the client has said its last: it may be gone
  };
  struct Counts {
    uint64_t connections = 0, refused = 0, bytes_out = 0, bytes_in = 0;
  };

  EgressProxy(net::Loop& loop, Log& log, Options options);
  ~EgressProxy();
  EgressProxy(const EgressProxy&) = delete;
  EgressProxy& operator=(const EgressProxy&) = delete;

  // Accepts on `listener` and connects to what `policy` allows, until the last copy of what it returns is gone; `name`
  // is whose it is, for the log. The listener must have been made by trusted code that kept no copy: who has one can
  // make accept() block. Null if it does not listen for TCP.
  std::shared_ptr<void> add(UniqueFd listener, EgressPolicy policy, std::string tenant, std::string name);
  Counts counts() const { return counts_; }  // since the start, of all

 private:
  class Connection;
  struct WayOut;
  struct Names {
    size_t running = 0;
    std::deque<std::weak_ptr<Connection>> waiting;
  };

  void remove(uint64_t id);
  void watch(WayOut& way);
  void watch_all();
  bool has_room(const WayOut& way) const;
  void accept_some(WayOut& way);
  void drop(WayOut& way, const Connection* connection);
  void resolve(const std::shared_ptr<Connection>& connection);
  void resolve_next(const std::string& tenant);

  net::Loop& loop_;
  Log& log_;
  Options options_;
  Counts counts_;
  uint64_t next_ = 1;
  std::map<uint64_t, std::unique_ptr<WayOut>> ways_;
  std::map<std::string, Names> names_;  // being resolved, by tenant
  std::shared_ptr<bool> here_ = std::make_shared<bool>(true);
  std::unique_ptr<Pool> resolvers_;  // last: ends first
};

}  // namespace sundog::sandbox
