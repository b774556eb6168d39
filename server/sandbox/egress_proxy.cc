#include "sandbox/egress_proxy.h"

#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <list>
#include <vector>

#include "sandbox/egress_request.h"
#include "sandbox/loopback.h"

namespace sundog::sandbox {
namespace {

constexpr size_t kPiece = 64 << 10;
constexpr int kKernelBuffer = 128 << 10;  // the kernel doubles it
constexpr Millis kPause{1'000};
constexpr size_t kMostTries = 4;  // of the addresses of one name
constexpr Pool::Options kResolvers{.threads = 8, .queue_limit = 256};
constexpr size_t kMostNames = 4;  // of one tenant at a time

struct Target {
  sockaddr_storage address{};
  socklen_t bytes = 0;
};

std::vector<Address> own_addresses() {
  std::vector<Address> own;
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return own;
  for (const ifaddrs* one = all; one != nullptr; one = one->ifa_next) {
    Address address;
    if (one->ifa_addr != nullptr && address_from(*one->ifa_addr, address)) own.push_back(address);
  }
  freeifaddrs(all);
  return own;
}

struct Resolved {
  std::vector<Target> targets;  // that may be reached
  std::string why;              // if there are none
  bool refused = false;
};

// Blocks. What the name means now, of which only what the policy allows is kept: the connection goes to these addresses
// and to no later answer of DNS.
Resolved resolve_blocking(const std::string& host, uint16_t port, const EgressPolicy& policy) {
  Resolved resolved;
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (error != 0) {
    resolved.why = std::string("it has no address: ") + gai_strerror(error);
    return resolved;
  }
  const auto own = own_addresses();
  for (const addrinfo* one = found; one != nullptr && resolved.targets.size() < kMostTries; one = one->ai_next) {
    Address address;
    if (!address_from(*one->ai_addr, address) || !policy.allows_address(host, port, address, own)) continue;
    Target target;
    target.bytes = one->ai_addrlen;
    std::memcpy(&target.address, one->ai_addr, one->ai_addrlen);
    resolved.targets.push_back(target);
  }
  freeaddrinfo(found);
  if (resolved.targets.empty()) {
    resolved.refused = true;
    resolved.why = "its addresses are not public, and the list does not hold them";
  }
  return resolved;
}

bool is_listener(int fd) {
  const auto option = [fd](int what) {
    int value = -1;
    socklen_t size = sizeof(value);
    return getsockopt(fd, SOL_SOCKET, what, &value, &size) == 0 ? value : -1;
  };
  return option(SO_ACCEPTCONN) == 1 && option(SO_DOMAIN) == AF_INET && option(SO_PROTOCOL) == IPPROTO_TCP;
}

}  // namespace

std::map<std::string, std::string> egress_variables(const EgressPolicy& through_the_proxy) {
  const auto proxy = "http://127.0.0.1:" + std::to_string(kWayOutPort);
  std::string own;
  for (const char* host : {"localhost", "127.0.0.1", "::1"}) {
    if (!through_the_proxy.names(host)) own.append(own.empty() ? "" : ",").append(host);
  }
  // curl reads http_proxy in small letters only.
  return {{"HTTP_PROXY", proxy},  {"http_proxy", proxy}, {"HTTPS_PROXY", proxy},
          {"https_proxy", proxy}, {"NO_PROXY", own},     {"no_proxy", own}};
}

// A function's listener, and who came by it.
struct EgressProxy::WayOut {
  UniqueFd listener;
  std::shared_ptr<const EgressPolicy> policy;
  std::string tenant, name;
  net::Loop::Id watch = 0, again = 0;
  std::list<std::shared_ptr<Connection>> connections;
};

// One client: its head is read, its target resolved and connected, then bytes are passed on both ways until both ends
// have said their last.
class EgressProxy::Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(EgressProxy& proxy, WayOut& way, UniqueFd client) : proxy_(proxy), way_(way) {
    client_.fd = std::move(client);
  }
  ~Connection() { stop(); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void start() {
    limit(proxy_.options_.head_limit, 408, "its request took too long");
    watch_client_head();
  }
  // Nothing of the loop's calls it any more.
  void stop() {
    if (timer_ != 0) proxy_.loop_.cancel(std::exchange(timer_, 0));
    for (End* end : {&client_, &target_}) {
      unwatch(end->readable);
      unwatch(end->writable);
      end->fd.reset();
    }
    stopped_ = true;
  }
  const EgressRequest& request() const { return request_; }
  const std::shared_ptr<const EgressPolicy>& policy() const { return way_.policy; }
  const std::string& tenant() const { return way_.tenant; }
  void on_resolved(Resolved resolved);

 private:
  struct End {
    UniqueFd fd;
    net::Loop::Id readable = 0, writable = 0;
    std::string pending;  // to be written here
    bool ended = false;   // nothing more to read from here
    bool told = false;    // the other end's end was passed on to here
  };

  void unwatch(net::Loop::Id& watch) {
    if (watch != 0) proxy_.loop_.unwatch(std::exchange(watch, 0));
  }
  void limit(Millis time, int status, const char* why) {
    if (timer_ != 0) proxy_.loop_.cancel(timer_);
    timer_ = proxy_.loop_.run_after(time, [this, status, why] {
      timer_ = 0;
      answer(status, why);
    });
  }
  void watch_client_head() {
    client_.readable = proxy_.loop_.watch_readable(client_.fd.get(), [this] { read_head(); });
  }
  void read_head();
  void connect_next();
  void on_connected();
  void begin_passing();
  void pass(End& from, End& to, uint64_t& count);
  void flush(End& to);
  void settle();
  void watch_idle();
  void answer(int status, const std::string& why);
  void hear_out();
  void finish() {
    // Not from inside a callback of its own.
    stop();
    proxy_.loop_.post([weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->proxy_.drop(self->way_, self.get());
    });
  }

  EgressProxy& proxy_;
  WayOut& way_;
  End client_, target_;
  std::string head_;
  EgressRequest request_;
  std::vector<Target> targets_;
  net::Loop::Id timer_ = 0;
  bool active_ = false, answered_ = false, stopped_ = false;
};

void EgressProxy::Connection::read_head() {
  char piece[4096];
  const ssize_t bytes = recv(client_.fd.get(), piece, sizeof(piece), 0);
  if (bytes < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (bytes <= 0) return finish();
  head_.append(piece, size_t(bytes));
  auto parsed = parse_egress_request(head_);
  if (!parsed.ok()) return answer(parsed.error().code == Code::too_large ? 431 : 400, parsed.error().message);
  if (!*parsed) return;
  unwatch(client_.readable);
  request_ = *std::move(*parsed);
  target_.pending = request_.head + head_.substr(request_.bytes);
  if (!way_.policy->allows(request_.host, request_.port)) return answer(403, "this function's list does not hold it");
  limit(proxy_.options_.connect_limit, 504, "it took too long to reach");
  proxy_.resolve(shared_from_this());
}

void EgressProxy::Connection::on_resolved(Resolved resolved) {
  if (stopped_ || answered_) return;
  if (resolved.targets.empty()) return answer(resolved.refused ? 403 : 502, resolved.why);
  targets_ = std::move(resolved.targets);
  connect_next();
}

void EgressProxy::Connection::connect_next() {
  unwatch(target_.writable);
  int error = EHOSTUNREACH;
  while (!targets_.empty()) {
    const Target target = targets_.front();
    targets_.erase(targets_.begin());
    target_.fd = UniqueFd(socket(target.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (target_.fd &&
        (connect(target_.fd.get(), reinterpret_cast<const sockaddr*>(&target.address), target.bytes) == 0 ||
         errno == EINPROGRESS)) {
      target_.writable = proxy_.loop_.watch_writable(target_.fd.get(), [this] { on_connected(); });
      return;
    }
    error = errno;
  }
  answer(502, std::string("it cannot be reached: ") + std::strerror(error));
}

void EgressProxy::Connection::on_connected() {
  unwatch(target_.writable);
  int error = 0;
  socklen_t size = sizeof(error);
  getsockopt(target_.fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0 && !targets_.empty()) return connect_next();
  if (error != 0) return answer(502, std::string("it cannot be reached: ") + std::strerror(error));
  begin_passing();
}

void EgressProxy::Connection::begin_passing() {
  for (const End* end : {&client_, &target_}) {
    const int on = 1, buffer = kKernelBuffer;
    setsockopt(end->fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    // Else the kernel lets it grow to megabytes for a peer that does not read, and counts them for us.
    setsockopt(end->fd.get(), SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
  }
  if (request_.tunnel) client_.pending = "HTTP/1.1 200 Connection established\r\n\r\n";
  proxy_.counts_.bytes_out += target_.pending.size();
  head_.clear();
  watch_idle();
  settle();
}

// Reads once from one end and writes what goes at once to the other; the rest waits, and nothing more is read.
void EgressProxy::Connection::pass(End& from, End& to, uint64_t& count) {
  active_ = true;
  char piece[kPiece];
  const ssize_t bytes = recv(from.fd.get(), piece, sizeof(piece), 0);
  if (bytes < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (bytes < 0) return finish();
  if (bytes == 0) {
    from.ended = true;
    watch_idle();
    return settle();
  }
  count += uint64_t(bytes);
  const ssize_t sent = send(to.fd.get(), piece, size_t(bytes), MSG_NOSIGNAL);
  if (sent < 0 && errno != EAGAIN && errno != EINTR) return finish();
  if (sent < bytes) to.pending.assign(piece + std::max<ssize_t>(sent, 0), size_t(bytes - std::max<ssize_t>(sent, 0)));
  settle();
}

void EgressProxy::Connection::flush(End& to) {
  active_ = true;
  const ssize_t sent = send(to.fd.get(), to.pending.data(), to.pending.size(), MSG_NOSIGNAL);
  if (sent < 0 && errno != EAGAIN && errno != EINTR) return finish();
  if (sent > 0) to.pending.erase(0, size_t(sent));
  if (to.pending.empty() && answered_) return hear_out();
  settle();
}

// Watches what there is to wait for, tells each end the other's end, and finishes after both.
void EgressProxy::Connection::settle() {
  const auto arrange = [this](End& from, End& to, uint64_t& count) {
    if (!to.pending.empty()) {
      unwatch(from.readable);
      if (to.writable == 0) {
        to.writable = proxy_.loop_.watch_writable(to.fd.get(), [this, &to] { flush(to); });
      }
      return;
    }
    unwatch(to.writable);
    if (from.ended) {
      unwatch(from.readable);
      if (!std::exchange(to.told, true)) shutdown(to.fd.get(), SHUT_WR);
    } else if (from.readable == 0 && from.fd) {
      from.readable = proxy_.loop_.watch_readable(from.fd.get(), [this, &from, &to, &count] { pass(from, to, count); });
    }
  };
  arrange(target_, client_, proxy_.counts_.bytes_in);
  if (!target_.fd) return;  // a refusal on its way
  arrange(client_, target_, proxy_.counts_.bytes_out);
  if (client_.told && target_.told) finish();
}

void EgressProxy::Connection::watch_idle() {
  if (timer_ != 0) proxy_.loop_.cancel(timer_);
  active_ = false;
  timer_ = proxy_.loop_.run_after(client_.ended ? proxy_.options_.last_limit : proxy_.options_.idle_limit, [this] {
    timer_ = 0;
    if (!active_) return finish();
    watch_idle();
  });
}

void EgressProxy::Connection::answer(int status, const std::string& why) {
  answered_ = true;
  ++proxy_.counts_.refused;
  const auto target = request_.host.empty() ? "The request" : request_.host + ":" + std::to_string(request_.port);
  proxy_.log_.write(Level::debug, "egress_refused", {{"function", way_.name}, {"target", target}, {"status", status}});
  const auto text = "Sundog: " + target + ": " + why + ".\n";
  unwatch(client_.readable);
  unwatch(target_.writable);
  target_.fd.reset();
  target_.pending.clear();
  client_.pending = "HTTP/1.1 " + std::to_string(status) + " " + (status == 403 ? "Forbidden" : "Refused") +
                    "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: " + std::to_string(text.size()) +
                    "\r\nConnection: close\r\n\r\n" + text;
  if (timer_ != 0) proxy_.loop_.cancel(timer_);
  timer_ = proxy_.loop_.run_after(proxy_.options_.head_limit, [this] {
    timer_ = 0;
    finish();
  });
  settle();
}

// What a refused client still sends is read and forgotten: to close before that would take the answer away from it.
void EgressProxy::Connection::hear_out() {
  unwatch(client_.writable);
  shutdown(client_.fd.get(), SHUT_WR);
  client_.readable = proxy_.loop_.watch_readable(client_.fd.get(), [this] {
    char piece[kPiece];
    const ssize_t bytes = recv(client_.fd.get(), piece, sizeof(piece), 0);
    if (bytes == 0 || (bytes < 0 && errno != EAGAIN && errno != EINTR)) finish();
  });
}

EgressProxy::EgressProxy(net::Loop& loop, Log& log, Options options) : loop_(loop), log_(log), options_(options) {}

EgressProxy::~EgressProxy() {
  if (resolvers_) resolvers_->stop();
  while (!ways_.empty()) remove(ways_.begin()->first);
}

std::shared_ptr<void> EgressProxy::add(UniqueFd listener, EgressPolicy policy, std::string tenant, std::string name) {
  if (!is_listener(listener.get())) return nullptr;
  if (!resolvers_) resolvers_ = std::make_unique<Pool>("resolvers", kResolvers);
  auto way = std::make_unique<WayOut>();
  way->listener = std::move(listener);
  way->policy = std::make_shared<const EgressPolicy>(std::move(policy));
  way->tenant = std::move(tenant);
  way->name = std::move(name);
  const uint64_t id = next_++;
  auto& kept = *(ways_[id] = std::move(way));
  watch(kept);
  // Its holders may outlive us.
  return {&kept, [this, id, here = std::weak_ptr<bool>(here_)](void*) {
            if (!here.expired()) remove(id);
          }};
}

void EgressProxy::remove(uint64_t id) {
  const auto found = ways_.find(id);
  if (found == ways_.end()) return;
  auto way = std::move(found->second);
  ways_.erase(found);
  if (way->watch != 0) loop_.unwatch(way->watch);
  if (way->again != 0) loop_.cancel(way->again);
  for (const auto& connection : way->connections) connection->stop();
  watch_all();
}

void EgressProxy::watch(WayOut& way) {
  if (way.watch == 0) way.watch = loop_.watch_readable(way.listener.get(), [this, &way] { accept_some(way); });
}

// Those that had no room.
void EgressProxy::watch_all() {
  for (auto& [id, way] : ways_) {
    if (way->watch == 0 && way->again == 0 && has_room(*way)) watch(*way);
  }
}

bool EgressProxy::has_room(const WayOut& way) const {
  size_t all = 0, of_tenant = 0;
  for (const auto& [id, other] : ways_) {
    all += other->connections.size();
    if (other->tenant == way.tenant) of_tenant += other->connections.size();
  }
  return way.connections.size() < options_.connections && all < options_.all_connections &&
         of_tenant < std::max<size_t>(1, options_.all_connections / 2);
}

void EgressProxy::accept_some(WayOut& way) {
  while (has_room(way)) {
    UniqueFd client(accept4(way.listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!client && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)) return;
    if (!client) {
      // No descriptors or no memory: looked at again in a while, since it would be readable at once and without end.
      way.again = loop_.run_after(kPause, [this, &way] {
        way.again = 0;
        watch(way);
      });
      break;
    }
    ++counts_.connections;
    way.connections.push_back(std::make_shared<Connection>(*this, way, std::move(client)));
    way.connections.back()->start();
  }
  loop_.unwatch(std::exchange(way.watch, 0));
}

void EgressProxy::drop(WayOut& way, const Connection* connection) {
  way.connections.remove_if([&](const auto& one) { return one.get() == connection; });
  watch_all();
}

void EgressProxy::resolve(const std::shared_ptr<Connection>& connection) {
  names_[connection->tenant()].waiting.push_back(connection);
  resolve_next(connection->tenant());
}

void EgressProxy::resolve_next(const std::string& tenant) {
  auto& names = names_[tenant];
  while (names.running < kMostNames && !names.waiting.empty()) {
    const auto weak = names.waiting.front();
    names.waiting.pop_front();
    const auto connection = weak.lock();
    if (!connection) continue;
    ++names.running;
    const auto deliver = [this, here = std::weak_ptr<bool>(here_), weak, tenant](Resolved resolved) {
      if (here.expired()) return;
      --names_[tenant].running;
      if (const auto still = weak.lock()) still->on_resolved(std::move(resolved));
      resolve_next(tenant);
    };
    const Status queued = resolvers_->submit([&loop = loop_, deliver, host = connection->request().host,
                                              port = connection->request().port, policy = connection->policy()] {
      auto resolved = std::make_shared<Resolved>(resolve_blocking(host, port, *policy));
      loop.post([deliver, resolved] { deliver(std::move(*resolved)); });
    });
    if (queued.ok()) continue;
    loop_.post([deliver] { deliver({{}, "too many names are being resolved", false}); });
  }
  if (names.running == 0 && names.waiting.empty()) names_.erase(tenant);
}

}  // namespace sundog::sandbox
