// TestListener: a TCP listener on the host's loopback, on a free port. For tests only.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "base/fd.h"
#include "sandbox/loopback.h"

namespace sundog::sandbox {

struct TestListener {
  UniqueFd fd{listen_on_loopback_fd(0)};
  uint16_t port = 0;

  TestListener() {
    sockaddr_in address{};
    socklen_t size = sizeof(address);
    EXPECT_EQ(getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    port = ntohs(address.sin_port);
  }
  std::string name() const { return "127.0.0.1:" + std::to_string(port); }
};

}  // namespace sundog::sandbox
