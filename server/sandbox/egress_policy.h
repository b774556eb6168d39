// EgressPolicy: what a function with the network "egress" may reach, and what a name's addresses may be.
//
//   api.example.com        a name, on ports 443 and 80          *.example.com:443   every name below it, not itself
//   203.0.113.7:5432       an address                           [2001:db8::/32]:*   a block of addresses, on any port
//
// A name never leads to an address that is not public (loopback, private, link-local), whatever DNS says: such an
// address must stand in the list itself, alone or in a block that holds no public one. This machine's own public
// addresses are reached by nothing.
//
// Threads     plain values.
// Failure     invalid_argument with the entry that is none.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

struct sockaddr;

namespace sundog::sandbox {

// An IPv6 address, or an IPv4 one as ::ffff:a.b.c.d.
using Address = std::array<uint8_t, 16>;

// Of text ("203.0.113.7", "2001:db8::1") or of a socket's address; false if it is none.
bool address_from(std::string_view text, Address& out);
bool address_from(const sockaddr& socket, Address& out);
// Reachable from anywhere on the internet, by the registries of IANA.
bool is_public(const Address& address);

class EgressPolicy {
 public:
  static constexpr size_t kMostEntries = 100;
  static Result<EgressPolicy> parse(const std::vector<std::string>& entries);

  bool empty() const { return rules_.empty(); }
  // Whether an entry names addresses that are not public: whoever may say so decides for the whole machine.
  bool names_private() const;

  // Whether an entry is of this host, on whatever port.
  bool names(std::string_view host) const;
  // A target as a program wrote it: a name or an address.
  bool allows(std::string_view host, uint16_t port) const;
  // What the target came to. `own`: the addresses of this machine.
  bool allows_address(std::string_view host, uint16_t port, const Address& address,
                      const std::vector<Address>& own) const;

 private:
  struct Rule {
    std::string name;  // lower case; empty: `network`
    bool below = false;
    Address network{};
    int bits = 128;
    int port = 0;  // 0: 443 and 80; -1: any
  };
  static Result<Rule> rule_of(const std::string& entry);
  static bool covers(const Rule& rule, const Address& address);
  static bool is_private(const Rule& rule);
  static bool is_of(const Rule& rule, std::string_view host);
  static bool on_port(const Rule& rule, uint16_t port);

  std::vector<Rule> rules_;
};

// A host name in lower case without its last dot; empty if it is none. "127.1" and "0x7f000001" are none: a resolver
// would take them for addresses.
std::string host_name(std::string_view text);

}  // namespace sundog::sandbox
