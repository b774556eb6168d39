#include "sandbox/egress_policy.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstring>

namespace sundog::sandbox {
namespace {

constexpr int kDefaultPorts = 0, kAnyPort = -1;
constexpr std::array<uint8_t, 12> kMapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

struct Block {
  const char* network;
  int bits;  // of the text's own family
};
// What is not public of IPv4, and of what is public of IPv6 (2000::/3) what is not: the special-purpose registries.
constexpr Block kNotPublic[] = {{"0.0.0.0", 8},      {"10.0.0.0", 8},     {"100.64.0.0", 10}, {"127.0.0.0", 8},
                                {"169.254.0.0", 16}, {"172.16.0.0", 12},  {"192.0.0.0", 24},  {"192.0.2.0", 24},
                                {"192.88.99.0", 24}, {"192.168.0.0", 16}, {"198.18.0.0", 15}, {"198.51.100.0", 24},
                                {"203.0.113.0", 24}, {"224.0.0.0", 4},    {"240.0.0.0", 4},   {"2001::", 23},
                                {"2001:db8::", 32},  {"2002::", 16},      {"3fff::", 20}};

bool is_mapped(const Address& address) {
  return std::equal(kMapped.begin(), kMapped.end(), address.begin());
}

bool in_block(const Address& address, const Address& network, int bits) {
  const auto whole = size_t(bits / 8);
  if (!std::equal(address.begin(), address.begin() + std::ptrdiff_t(whole), network.begin())) return false;
  const int rest = bits % 8;
  return rest == 0 || ((address[whole] ^ network[whole]) >> (8 - rest)) == 0;
}

// The block that `network`/`bits` lies in wholly, if that is not public.
bool not_public(const Address& network, int bits) {
  if (!is_mapped(network)) {
    Address global{0x20};
    if (bits >= 3 && !in_block(network, global, 3)) return true;
  }
  return std::ranges::any_of(kNotPublic, [&](const Block& block) {
    Address start{};
    address_from(std::string_view(block.network), start);
    const int block_bits = is_mapped(start) ? block.bits + 96 : block.bits;
    return bits >= block_bits && in_block(network, start, block_bits);
  });
}

bool number(std::string_view text, int least, int most, int& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return !text.empty() && error == std::errc() && end == text.data() + text.size() && out >= least && out <= most;
}

Error no_entry(const std::string& entry, const std::string& what) {
  return fail(Code::invalid_argument, "\"" + entry.substr(0, 300) + "\" is nothing that can be reached: " + what + ".",
              "Write api.example.com, *.example.com:443, 203.0.113.7:5432 or 203.0.113.0/24:*.");
}

}  // namespace

bool address_from(std::string_view text, Address& out) {
  if (text.size() >= INET6_ADDRSTRLEN || text.find('\0') != std::string_view::npos) return false;
  const std::string copy(text);
  if (inet_pton(AF_INET6, copy.c_str(), out.data()) == 1) return true;
  std::copy(kMapped.begin(), kMapped.end(), out.begin());
  return inet_pton(AF_INET, copy.c_str(), out.data() + kMapped.size()) == 1;
}

bool address_from(const sockaddr& socket, Address& out) {
  if (socket.sa_family == AF_INET6) {
    std::memcpy(out.data(), &reinterpret_cast<const sockaddr_in6&>(socket).sin6_addr, out.size());
    return true;
  }
  if (socket.sa_family != AF_INET) return false;
  std::copy(kMapped.begin(), kMapped.end(), out.begin());
  std::memcpy(out.data() + kMapped.size(), &reinterpret_cast<const sockaddr_in&>(socket).sin_addr, 4);
  return true;
}

bool is_public(const Address& address) {
  return !not_public(address, 128);
}

std::string host_name(std::string_view text) {
  if (text.ends_with('.')) text.remove_suffix(1);
  if (text.empty() || text.size() > 253) return {};
  std::string name;
  size_t label = 0;
  for (const char c : text) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool other = (c >= '0' && c <= '9') || c == '-' || c == '_';
    if (c == '.' ? label == 0 : !letter && !other) return {};
    label = c == '.' ? 0 : label + 1;
    if (label > 63) return {};
    name += letter ? char(c | 0x20) : c;
  }
  if (label == 0) return {};
  const auto last = name.substr(name.rfind('.') + 1);  // npos + 1 is 0
  const bool numeric = last.front() >= '0' && last.front() <= '9';
  return numeric ? std::string() : name;
}

Result<EgressPolicy::Rule> EgressPolicy::rule_of(const std::string& entry) {
  Rule rule;
  std::string_view host = entry;
  const auto colon = host.rfind(':');
  const bool bracketed = host.starts_with('[');
  if (colon != std::string_view::npos && (!bracketed || host[colon - 1] == ']')) {
    const auto port = host.substr(colon + 1);
    if (port == "*") {
      rule.port = kAnyPort;
    } else if (!number(port, 1, 65'535, rule.port)) {
      return no_entry(entry, "\"" + std::string(port) + "\" is no port");
    }
    host = host.substr(0, colon);
  }
  if (bracketed) {
    if (!host.ends_with(']')) return no_entry(entry, "a bracket is open");
    host = host.substr(1, host.size() - 2);
  }
  const auto slash = host.find('/');
  if (address_from(host.substr(0, slash), rule.network)) {
    const int most = is_mapped(rule.network) ? 32 : 128;
    int bits = most;
    if (slash != std::string_view::npos && !number(host.substr(slash + 1), 0, most, bits)) {
      return no_entry(entry, "\"" + std::string(host.substr(slash + 1)) + "\" is no size of a block");
    }
    rule.bits = bits + 128 - most;
    return rule;
  }
  if (host.starts_with("*.")) {
    rule.below = true;
    host.remove_prefix(2);
  }
  rule.name = host_name(host);
  if (rule.name.empty()) return no_entry(entry, "\"" + std::string(host) + "\" is neither a name nor an address");
  return rule;
}

Result<EgressPolicy> EgressPolicy::parse(const std::vector<std::string>& entries) {
  if (entries.size() > kMostEntries) {
    return fail(Code::invalid_argument, "The list of what may be reached has " + std::to_string(entries.size()) +
                                            " entries; the limit is " + std::to_string(kMostEntries) + ".");
  }
  EgressPolicy policy;
  for (const auto& entry : entries) {
    SUNDOG_TRY(rule, rule_of(entry));
    policy.rules_.push_back(std::move(rule));
  }
  return policy;
}

bool EgressPolicy::is_private(const Rule& rule) {
  return rule.name.empty() && not_public(rule.network, rule.bits);
}

bool EgressPolicy::names_private() const {
  return std::ranges::any_of(rules_, is_private);
}

bool EgressPolicy::on_port(const Rule& rule, uint16_t port) {
  if (rule.port == kDefaultPorts) return port == 443 || port == 80;
  return rule.port == kAnyPort || rule.port == port;
}

bool EgressPolicy::covers(const Rule& rule, const Address& address) {
  return rule.name.empty() && is_mapped(rule.network) == is_mapped(address) &&
         in_block(address, rule.network, rule.bits);
}

bool EgressPolicy::is_of(const Rule& rule, std::string_view host) {
  Address address;
  if (address_from(host, address)) return covers(rule, address);
  const auto name = host_name(host);
  if (name.empty() || rule.name.empty()) return false;
  return rule.below ? name.ends_with("." + rule.name) : name == rule.name;
}

bool EgressPolicy::names(std::string_view host) const {
  return std::ranges::any_of(rules_, [&](const Rule& rule) { return is_of(rule, host); });
}

bool EgressPolicy::allows(std::string_view host, uint16_t port) const {
  return std::ranges::any_of(rules_, [&](const Rule& rule) { return on_port(rule, port) && is_of(rule, host); });
}

bool EgressPolicy::allows_address(std::string_view host, uint16_t port, const Address& address,
                                  const std::vector<Address>& own) const {
  if (!allows(host, port)) return false;
  // From here no firewall stands before this machine's own public addresses, and nobody could have granted them.
  if (is_public(address)) return std::ranges::find(own, address) == own.end();
  return std::ranges::any_of(
      rules_, [&](const Rule& rule) { return on_port(rule, port) && is_private(rule) && covers(rule, address); });
}

}  // namespace sundog::sandbox
