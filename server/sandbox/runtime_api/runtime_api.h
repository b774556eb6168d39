// RuntimeApi: AWS Lambda's Runtime API (version 2018-06-01) for one custom runtime: HTTP towards its bootstrap, frames
// towards the server. It runs inside the sandbox, as confined as the bootstrap itself, and is trusted with nothing.
//
//   GET  /2018-06-01/runtime/invocation/next          → the next event; the first one ends init
//   POST /2018-06-01/runtime/invocation/{id}/response → its answer, whole or streamed
//   POST /2018-06-01/runtime/invocation/{id}/error    → its failure
//   POST /2018-06-01/runtime/init/error               → init failed
//
// Ownership   owns its sockets; the bootstrap is started before and outlives run() only if the server let go.
// Threads     one; run() blocks. A streamed answer waits for the server to take it, and the bootstrap waits with it.
// Failure     what the bootstrap does wrong is answered with Lambda's statuses and told to the server as it would be.
#pragma once

#include <list>
#include <string>

#include "base/clock.h"
#include "base/fd.h"
#include "sandbox/native_instance.h"
#include "sandbox/runtime_api/bootstrap.h"

namespace sundog::sandbox {

// A listening socket on 127.0.0.1; port 0 takes a free one.
Result<UniqueFd> listen_on_loopback(uint16_t port);

class RuntimeApi {
 public:
  struct Options {
    UniqueFd server;  // frames
    UniqueFd listener;
    Millis init_timeout{10'000};
  };
  explicit RuntimeApi(Options options);
  ~RuntimeApi();
  RuntimeApi(const RuntimeApi&) = delete;
  RuntimeApi& operator=(const RuntimeApi&) = delete;

  // The first that the server hears, if the function's network is "egress": the bootstrap must not run yet.
  Status hand_over_way_out(UniqueFd listener);
  // Until the bootstrap has ended (how) or the server has let go.
  ProcessEnd run(Bootstrap& bootstrap);
  // Tells the server that there is no bootstrap to run.
  void refuse(const Error& why);

 private:
  // As Lambda's own states: what the bootstrap may ask for next.
  enum class State { starting, ready, running, answering, answered, over };
  struct Client;
  enum class Route { none, next, response, error, init_error };
  struct Refusal {
    int status = 0;  // 0: none
    std::string type, message;
  };

  void serve_clients();
  void take_invocation();
  void accept_clients();
  void read_from(Client& client);
  void advance(Client& client);
  void begin(Client& client);
  void begin_answer(Client& client, std::string_view path, std::string_view tail);
  void take_body(Client& client);
  void finish(Client& client);
  void finish_next(Client& client);
  void finish_response(Client& client);
  void finish_error(Client& client);
  void finish_init_error(Client& client);
  void hand_over();
  bool send_event(Client& client);  // whether it arrived
  void lost(Client& client);
  void reply(Client& client, int status, std::string_view body);
  void reply_refusal(Client& client, const Refusal& refusal);
  void next_request(Client& client, bool keep);
  Refusal not_in_this_state(std::string_view wanted) const;
  // Ends the running invocation.
  void settle(bool ok, std::string_view payload);
  void settle_error(std::string_view type, const std::string& message);
  void init_failed(const InitFailure& failure);
  void init_timed_out();
  void check(const Status& sent);  // a server that is gone ends everything

  NativeInstance server_;
  UniqueFd listener_;
  Millis init_timeout_;
  State state_ = State::starting;
  NativeInvocation invocation_;  // the last one; its payload until it is answered
  bool event_waits_ = false;     // it has come, and the bootstrap has not asked for it yet
  std::list<Client> clients_;
};

}  // namespace sundog::sandbox
