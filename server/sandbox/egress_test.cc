// The way out of real instances, however they begin.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "sandbox/sandbox_fixture.h"
#include "sandbox/test_listener.h"

namespace sundog::sandbox {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// Asks the proxy for a tunnel to the event and keeps it open; the answer's first line, and what comes by the tunnel.
const std::string kTunnel = R"(
import os, socket, time
kept = []
def handler(event, context):
    if event == "variables":
        return {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    way = socket.create_connection(("127.0.0.1", 3128), timeout=20)
    kept.append(way)
    way.sendall(f"CONNECT {event} HTTP/1.1\r\n\r\n".encode())
    text = b""
    while not text.endswith(b"hello") and (piece := way.recv(4096)):
        text += piece
    return text.decode()
)";
const std::string kThread = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n";

class EgressTest : public SandboxTest {
 protected:
  void SetUp() override {
    SandboxTest::SetUp();
    if (IsSkipped()) return;
    TestListener listening;
    target_ = listening.name();
    listener_ = std::move(listening.fd);
  }
  TemplateSpec let_out(const std::string& text) {
    auto spec = spec_of(text);
    spec.network = Network::egress;
    spec.allow = {target_};
    return spec;
  }
  // What the handler heard; whoever came to the target is greeted, and stays in `peer_`.
  std::string tunnel(Instance& instance, const std::string& target) {
    std::optional<Outcome> outcome;
    begin(instance, dump(target), outcome);
    EXPECT_TRUE(loop_.run_until([&] {
      if (UniqueFd peer(accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)); peer) {
        EXPECT_EQ(send(peer.get(), "hello", 5, MSG_NOSIGNAL), 5);
        peer_ = std::move(peer);
      }
      return outcome.has_value();
    }));
    return outcome ? outcome->payload + outcome->detail : "";
  }
  bool peer_has_ended() {
    return loop_.run_until([&] {
      char byte = 0;
      const ssize_t bytes = recv(peer_.get(), &byte, 1, 0);
      return bytes == 0 || (bytes < 0 && errno != EAGAIN);
    });
  }

  UniqueFd listener_, peer_;
  std::string target_;
};

TEST_F(EgressTest, ForksOfATemplateShareItsWayOut) {
  const auto parked = start(let_out(kTunnel));
  ASSERT_TRUE(parked->parked) << parked->failure.message;
  EXPECT_TRUE(parked->ready.fork_safe) << parked->ready.reason;
  EXPECT_THAT(parked->ready.why_own_tree, HasSubstr("way out"));
  Witness witness, sibling_witness;
  const auto instance = fork(*parked->parked, witness);
  auto sibling = fork(*parked->parked, sibling_witness);
  EXPECT_THAT(tunnel(*instance, target_), HasSubstr("hello"));
  EXPECT_THAT(tunnel(*sibling, target_), HasSubstr("hello"));
  sibling.reset();
  EXPECT_TRUE(peer_has_ended()) << "what an instance had open ends with it";
  EXPECT_THAT(tunnel(*instance, target_), HasSubstr("hello")) << "and the other's goes on";
  EXPECT_THAT(tunnel(*instance, "127.0.0.1:1"), StartsWith("\"HTTP/1.1 403 "));
}

TEST_F(EgressTest, AnInstanceKeepsItsWayOutWhenItsTemplateIsGone) {
  auto parked = start(let_out(kTunnel));
  ASSERT_TRUE(parked->parked) << parked->failure.message;
  Witness witness;
  auto instance = fork(*parked->parked, witness);
  parked.reset();
  EXPECT_THAT(tunnel(*instance, target_), HasSubstr("hello"));
  instance.reset();
  EXPECT_TRUE(peer_has_ended());
}

TEST_F(EgressTest, AnInstanceThatRunsInitItselfHasAWayOutOfItsOwn) {
  const auto parked = start(let_out(kThread + kTunnel));
  ASSERT_TRUE(parked->parked) << parked->failure.message;
  EXPECT_FALSE(parked->ready.fork_safe);
  Witness witness, sibling_witness;
  auto instance = fork(*parked->parked, witness);
  const auto sibling = fork(*parked->parked, sibling_witness);
  EXPECT_THAT(tunnel(*instance, target_), HasSubstr("hello"));
  instance.reset();
  EXPECT_TRUE(peer_has_ended());
  EXPECT_THAT(tunnel(*sibling, target_), HasSubstr("hello"));
}

TEST_F(EgressTest, InitMayUseIt) {
  // And says so by what it leaves open: it begins anew in each instance.
  const auto parked = start(let_out(kTunnel + "handler('127.0.0.1:1', None)\n"));
  ASSERT_TRUE(parked->parked) << parked->failure.message;
  EXPECT_THAT(parked->ready.reason, HasSubstr("socket"));
}

TEST_F(EgressTest, NobodyElseHasOne) {
  for (const auto network : {Network::none, Network::egress}) {
    auto spec = spec_of(R"(
import os, socket
def handler(event, context):
    listeners = []
    for name in os.listdir("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(name))) as one:
                listeners.append(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        except OSError:
            pass
    return [sum(listeners), socket.socket().connect_ex(("127.0.0.1", 3128)) == 0]
)");
    spec.network = network;
    if (network == Network::egress) spec.allow = {target_};
    const auto parked = start(spec);
    ASSERT_TRUE(parked->parked) << parked->failure.message;
    Witness witness;
    const auto instance = fork(*parked->parked, witness);
    const bool egress = network == Network::egress;
    EXPECT_EQ(invoke(*instance, "{}").payload, egress ? "[0, true]" : "[0, false]")
        << "its listener is the server's alone";
  }
}

}  // namespace
}  // namespace sundog::sandbox
