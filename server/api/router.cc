#include "api/router.h"

#include <array>
#include <charconv>
#include <deque>

#include "api/errors.h"

namespace sundog::api {
namespace {

constexpr std::array<std::string_view, 4> kRoleNames = {"viewer", "invoker", "deployer", "admin"};

std::vector<std::string_view> split(std::string_view path) {
  std::vector<std::string_view> segments;
  if (path.starts_with('/')) path.remove_prefix(1);
  if (path.ends_with('/')) path.remove_suffix(1);
  while (!path.empty()) {
    const auto end = std::min(path.find('/'), path.size());
    segments.push_back(path.substr(0, end));
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return segments;
}

// What begins a path, up to its query; proxies send "http://host/path".
std::string_view path_of(std::string_view target) {
  if (const auto scheme = target.find("://"); scheme != std::string_view::npos && !target.starts_with('/')) {
    const auto path = target.find('/', scheme + 3);
    target = path == std::string_view::npos ? std::string_view("/") : target.substr(path);
  }
  return target.substr(0, target.find_first_of("?#"));
}

}  // namespace

std::string_view name(Role role) {
  return kRoleNames.at(static_cast<size_t>(role));
}

Result<Role> role_from(std::string_view text) {
  for (size_t i = 0; i < kRoleNames.size(); ++i) {
    if (kRoleNames.at(i) == text) return static_cast<Role>(i);
  }
  return fail(Code::invalid_argument, "There is no role \"" + std::string(text) + "\".",
              "Roles: viewer, invoker, deployer, admin.");
}

std::string Call::param(std::string_view name) const {
  const auto found = params.find(name);
  return found == params.end() ? std::string() : found->second;
}

Result<int64_t> Call::query_int(std::string_view name, int64_t fallback) const {
  const auto text = query(name);
  if (text.empty()) return fallback;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) {
    return fail(Code::invalid_argument, "Query parameter \"" + std::string(name) +
                                            "\" must be a whole number, but is \"" + std::string(text) + "\".");
  }
  return value;
}

Result<size_t> Call::query_limit(int64_t fallback, int64_t most) const {
  SUNDOG_TRY(limit, query_int("limit", fallback));
  if (limit < 1 || limit > most) {
    return fail(Code::invalid_argument, "limit is " + std::to_string(limit) + ".",
                "Between 1 and " + std::to_string(most) + ".");
  }
  return static_cast<size_t>(limit);
}

Result<ListQuery> Call::list_query() const {
  SUNDOG_TRY(limit, query_limit());
  const std::string after(query("after"));
  constexpr size_t kLongestCursor = 200;
  constexpr std::string_view kOfNames = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-:";
  if (after.size() > kLongestCursor || after.find_first_not_of(kOfNames) != std::string::npos) {
    return fail(Code::invalid_argument, "after is \"" + after.substr(0, 80) + "\", which no list answered as \"next\".",
                "It is the \"next\" of the page before.");
  }
  return ListQuery{limit, after};
}

Result<Json> Call::json() const {
  if (request.body.empty()) return Json::object();
  auto json = parse_json(request.body, "the request's body");
  if (!json.ok()) return not_json(json.error());
  if (!json->is_object()) {
    return not_json(fail(Code::invalid_argument, std::string("It is ") + json->type_name() + "."));
  }
  return json;
}

namespace {

// One segment of all patterns that share what stands before it.
struct Node {
  std::map<std::string, std::unique_ptr<Node>, std::less<>> literals;
  std::unique_ptr<Node> parameter;
  std::map<std::string, const Router::Match*, std::less<>> methods;  // of patterns that end here
  std::map<std::string, const Router::Match*, std::less<>> rest;     // of patterns that end here with {rest*}

  const std::map<std::string, const Router::Match*, std::less<>>* find(const std::vector<std::string_view>& segments,
                                                                       size_t at,
                                                                       std::vector<std::string>& values) const;
};

const std::map<std::string, const Router::Match*, std::less<>>* Node::find(
    const std::vector<std::string_view>& segments, size_t at, std::vector<std::string>& values) const {
  if (at == segments.size()) return methods.empty() ? nullptr : &methods;
  auto segment = net::percent_decode(segments[at]);
  if (!segment.ok()) return nullptr;
  // A literal is preferred; if what follows does not fit, the parameter may.
  if (const auto literal = literals.find(*segment); literal != literals.end()) {
    if (const auto* found = literal->second->find(segments, at + 1, values)) return found;
  }
  if (parameter && !segment->empty()) {
    values.push_back(std::move(*segment));
    if (const auto* found = parameter->find(segments, at + 1, values)) return found;
    values.pop_back();
  }
  if (rest.empty()) return nullptr;
  std::string remaining;
  for (size_t i = at; i < segments.size(); ++i) {
    const auto piece = net::percent_decode(segments[i]);
    if (!piece.ok()) return nullptr;
    if (i > at) remaining += '/';
    remaining += *piece;
  }
  values.push_back(std::move(remaining));
  return &rest;
}

}  // namespace

struct Router::State {
  std::deque<Match> routes;  // stable addresses
  Node root;
};

Router::Router() : state_(std::make_unique<State>()) {}
Router::~Router() = default;

void Router::add(std::string method, std::string pattern, Role least, CallHandler handler, RouteOptions options) {
  auto& match = state_->routes.emplace_back();
  match.index = state_->routes.size() - 1;
  Node* node = &state_->root;
  bool takes_rest = false;
  for (const auto segment : split(pattern)) {
    assert(!takes_rest && "{rest*} must be the last segment");
    if (!segment.starts_with('{')) {
      auto& next = node->literals[std::string(segment)];
      if (!next) next = std::make_unique<Node>();
      node = next.get();
      continue;
    }
    takes_rest = segment.ends_with("*}");
    match.names.emplace_back(segment.substr(1, segment.size() - (takes_rest ? 3 : 2)));
    if (takes_rest) continue;
    if (!node->parameter) node->parameter = std::make_unique<Node>();
    node = node->parameter.get();
  }
  auto& methods = takes_rest ? node->rest : node->methods;
  [[maybe_unused]] const bool added = methods.emplace(method, &match).second;
  assert(added && "two routes of one method and pattern");
  match.method = std::move(method);
  match.pattern = std::move(pattern);
  match.least = least;
  match.handler = std::move(handler);
  match.options = options;
}

void Router::json(std::string method, std::string pattern, Role least, JsonHandler handler, RouteOptions options,
                  int status) {
  auto answer = [handler = std::move(handler), shape = options.errors, status](const std::shared_ptr<Call>& call) {
    auto result = handler(call);
    if (result.ok()) {
      reply(*call->responder, status, *result);
    } else {
      reply_error(*call->responder, result.error(), shape);
    }
  };
  add(std::move(method), std::move(pattern), least, std::move(answer), options);
}

const Router::Match* Router::match(std::string_view method, std::string_view path,
                                   std::map<std::string, std::string, std::less<>>& params, bool& path_exists) const {
  std::vector<std::string> values;
  const auto* methods = state_->root.find(split(path_of(path)), 0, values);
  path_exists = methods != nullptr;
  if (methods == nullptr) return nullptr;
  auto found = methods->find(method);
  if (found == methods->end() && method == "HEAD") found = methods->find("GET");
  if (found == methods->end()) return nullptr;
  const auto& names = found->second->names;
  for (size_t i = 0; i < names.size(); ++i) params.insert_or_assign(names[i], std::move(values[i]));
  return found->second;
}

std::string Router::allowed(std::string_view path) const {
  std::vector<std::string> values;
  const auto* methods = state_->root.find(split(path_of(path)), 0, values);
  std::string text;
  if (methods == nullptr) return text;
  for (const auto& [method, match] : *methods) text += (text.empty() ? "" : ", ") + method;
  return text;
}

size_t Router::size() const {
  return state_->routes.size();
}

}  // namespace sundog::api
