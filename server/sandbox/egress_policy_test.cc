#include "sandbox/egress_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sundog::sandbox {
namespace {

EgressPolicy policy_of(const std::vector<std::string>& entries) {
  auto policy = EgressPolicy::parse(entries);
  EXPECT_TRUE(policy.ok()) << policy.error().text();
  return policy.ok() ? *policy : EgressPolicy();
}

Address at(std::string_view text) {
  Address address{};
  EXPECT_TRUE(address_from(text, address)) << text;
  return address;
}

TEST(EgressPolicy, TakesNamesAddressesAndBlocks) {
  const auto policy = policy_of(
      {"api.example.com", "*.Example.org:8443", "1.2.3.4:5432", "[2606:4700::1]:443", "5.6.0.0/16:*", "[2a00::/16]"});
  EXPECT_TRUE(policy.allows("api.example.com", 443));
  EXPECT_TRUE(policy.allows("API.example.com.", 80));
  EXPECT_FALSE(policy.allows("api.example.com", 22));
  EXPECT_FALSE(policy.allows("example.com", 443));
  EXPECT_FALSE(policy.allows("evil-api.example.com.evil.net", 443));
  EXPECT_TRUE(policy.allows("a.b.example.org", 8443));
  EXPECT_FALSE(policy.allows("example.org", 8443)) << "the stars are for what is below";
  EXPECT_FALSE(policy.allows("evilexample.org", 8443));
  EXPECT_TRUE(policy.allows("1.2.3.4", 5432));
  EXPECT_FALSE(policy.allows("1.2.3.5", 5432));
  EXPECT_TRUE(policy.allows("2606:4700:0::1", 443));
  EXPECT_TRUE(policy.allows("5.6.7.8", 9));
  EXPECT_TRUE(policy.allows("2a00:1::", 80));
  EXPECT_FALSE(policy.allows("2a01::", 80));
  EXPECT_TRUE(EgressPolicy().empty());
  EXPECT_FALSE(EgressPolicy().allows("api.example.com", 443));
}

TEST(EgressPolicy, RefusesWhatIsNeither) {
  for (const char* entry :
       {"", "*", "*.", "a b", "http://x", "x:0", "x:65536", "x:y", "1.2.3.4/33", "1.2.3.4/x", "[::1", "1.2.3", "127.1",
        "0x7f.0.0.1", "2130706433", "-:", "a..b", "user@host", "::1:443:x]"}) {
    EXPECT_FALSE(EgressPolicy::parse({entry}).ok()) << entry;
  }
  EXPECT_FALSE(EgressPolicy::parse({std::string("1.2.3.4\0x", 9)}).ok());
  EXPECT_FALSE(EgressPolicy::parse(std::vector<std::string>(101, "x.example")).ok());
}

TEST(EgressPolicy, ANameNeverLeadsInside) {
  const auto policy = policy_of({"api.example.com"});
  const std::vector<Address> own = {at("93.184.216.34")};
  EXPECT_TRUE(policy.allows_address("api.example.com", 443, at("1.1.1.1"), own));
  EXPECT_FALSE(policy.allows_address("api.example.com", 443, at("93.184.216.34"), own)) << "this machine";
  for (const char* inside :
       {"127.0.0.1", "10.1.2.3", "192.168.1.1", "172.31.255.255", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fd00::1", "::ffff:127.0.0.1", "::127.0.0.1",
        "64:ff9b::7f00:1", "2002:7f00:1::", "ff02::1", "2001:db8::1"}) {
    EXPECT_FALSE(policy.allows_address("api.example.com", 443, at(inside), {})) << inside;
    EXPECT_FALSE(is_public(at(inside))) << inside;
  }
  for (const char* outside : {"1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1", "2a00::1", "126.255.255.255"}) {
    EXPECT_TRUE(is_public(at(outside))) << outside;
  }
}

TEST(EgressPolicy, InsideMustBeNamedItself) {
  // Everything, but nothing inside.
  const auto all = policy_of({"0.0.0.0/0:*", "[::/0]:*", "internal.example:*"});
  EXPECT_FALSE(all.names_private());
  EXPECT_TRUE(all.allows_address("1.1.1.1", 443, at("1.1.1.1"), {}));
  EXPECT_FALSE(all.allows_address("127.0.0.1", 80, at("127.0.0.1"), {}));
  EXPECT_FALSE(all.allows_address("internal.example", 80, at("10.0.0.7"), {}));
  const auto named = policy_of({"10.0.0.0/24:5432", "internal.example:5432", "127.0.0.1:8080"});
  EXPECT_TRUE(named.names_private());
  EXPECT_TRUE(named.allows_address("internal.example", 5432, at("10.0.0.7"), {}));
  EXPECT_FALSE(named.allows_address("internal.example", 5432, at("10.0.1.7"), {}));
  EXPECT_TRUE(named.allows_address("127.0.0.1", 8080, at("127.0.0.1"), {}));
  EXPECT_FALSE(named.allows_address("127.0.0.1", 8081, at("127.0.0.1"), {}));
  EXPECT_FALSE(named.allows_address("127.0.0.2", 8080, at("127.0.0.2"), {}));
  EXPECT_TRUE(policy_of({"[fd00::]:1"}).names_private());
  EXPECT_FALSE(policy_of({"1.1.1.1"}).names_private());
  // A public address of this machine's own: anybody may name it, so nobody gets it.
  EXPECT_TRUE(policy_of({"8.8.8.8"}).allows_address("8.8.8.8", 443, at("8.8.8.8"), {}));
  EXPECT_FALSE(policy_of({"8.8.8.8"}).allows_address("8.8.8.8", 443, at("8.8.8.8"), {at("8.8.8.8")}));
}

TEST(EgressPolicy, KnowsWhichHostsItNames) {
  const auto policy = policy_of({"localhost:8080", "127.0.0.0/8:*", "*.example.com"});
  EXPECT_TRUE(policy.names("localhost"));
  EXPECT_TRUE(policy.names("127.0.0.1"));
  EXPECT_TRUE(policy.names("api.example.com"));
  EXPECT_FALSE(policy.names("::1"));
  EXPECT_FALSE(policy.names("example.com"));
}

TEST(HostName, IsLowerCaseOrNothing) {
  EXPECT_EQ(host_name("API.Example.COM."), "api.example.com");
  EXPECT_EQ(host_name("my_host"), "my_host");
  for (const char* none : {"", ".", "a..", "a..b", "a b", "a/b", "127.1", "1", "x.1", "a:b", "ä"})
    EXPECT_EQ(host_name(none), "") << none;
  EXPECT_EQ(host_name(std::string(64, 'a')), "");
  EXPECT_EQ(host_name(std::string(254, 'a')), "");
}

}  // namespace
}  // namespace sundog::sandbox
