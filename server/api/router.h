// Router: which route takes a request, who may call it, and where its handler runs.
//
// Ownership   one Router, filled in app/ by the *_routes.h functions before the server listens; then immutable.
// Threads     Run::loop handlers run on the loop thread and must not block; Run::pool handlers on a thread of the api
// pool. Failure     no route 404 · another method 405 · no or wrong key 401 · role too small 403; errors go through
//             api/errors.h, in Lambda's shape for Lambda's paths and in Sundog's for the rest.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "net/http.h"

namespace sundog::api {

// Each role may do what the ones before it may.
enum class Role { viewer, invoker, deployer, admin };
std::string_view name(Role role);
Result<Role> role_from(std::string_view text);

// Who calls: proven by a bearer token or an AWS Signature V4.
struct Principal {
  std::string tenant;
  std::string key_id;
  Role role = Role::viewer;
};

// What of a list is asked for: ?limit=&after=.
struct ListQuery {
  size_t limit = 100;
  std::string after;  // the "next" of the page before; empty for the first
};

// One authenticated, authorised request on its way to a handler.
struct Call {
  net::Request request;
  std::map<std::string, std::string, std::less<>> params;  // "{name}" of the pattern, decoded
  Principal principal;
  std::shared_ptr<net::Responder> responder;
  std::string request_id;  // of this request; on Lambda's paths the answer carries it as x-amzn-RequestId

  std::string param(std::string_view name) const;
  std::string_view query(std::string_view name) const { return request.query_value(name); }
  Result<int64_t> query_int(std::string_view name, int64_t fallback) const;
  // ?limit=, and ?limit=&after= of the lists whose cursor is a name or an id. invalid_argument for a limit that is not
  // 1 to `most`, and for an `after` that cannot be a cursor.
  Result<size_t> query_limit(int64_t fallback = 100, int64_t most = 1000) const;
  Result<ListQuery> list_query() const;
  Result<Json> json() const;  // the body; invalid_argument if it is not a JSON object; {} for an empty body
};

enum class Run { loop, pool };
enum class ErrorShape { sundog, lambda };

struct RouteOptions {
  Run run = Run::pool;
  ErrorShape errors = ErrorShape::sundog;
  int64_t body_limit = 1 << 20;
  bool stream_body = false;
  bool open_to_all = false;  // health and metrics only: no key needed
};

using CallHandler = std::function<void(std::shared_ptr<Call> call)>;                 // answers by call->responder
using JsonHandler = std::function<Result<Json>(const std::shared_ptr<Call>& call)>;  // its value is the 200 answer

class Router {
 public:
  Router();
  ~Router();
  // `pattern`: "/v1/datasets/{name}/versions/{version}"; a last segment "{rest*}" takes the remaining path.
  void add(std::string method, std::string pattern, Role least, CallHandler handler, RouteOptions options = {});
  // For the many routes that read a little JSON and answer with some.
  void json(std::string method, std::string pattern, Role least, JsonHandler handler, RouteOptions options = {},
            int status = 200);

  // A route that matched. Lives as long as the router.
  struct Match {
    std::string method, pattern;
    Role least = Role::viewer;
    CallHandler handler;
    RouteOptions options;
    std::vector<std::string> names;  // of the pattern's parameters, in order
    size_t index = 0;                // 0, 1, 2… in the order added
  };
  // `path` as it came, still percent-encoded, so that an encoded '/' stays inside its segment. A trailing '/' is
  // ignored. HEAD takes GET's route when it has none of its own.
  const Match* match(std::string_view method, std::string_view path,
                     std::map<std::string, std::string, std::less<>>& params, bool& path_exists) const;
  std::string allowed(std::string_view path) const;  // "GET, POST": for the Allow header of a 405
  size_t size() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Answers for a handler that does it itself.
void reply(net::Responder& responder, int status, const Json& body, net::Pairs headers = {});
void reply_error(net::Responder& responder, const Error& error, ErrorShape shape);

}  // namespace sundog::api
