// The HTTP server with a handler that does nothing, for wrk:
//   ninja -C build/release http_bench && build/release/server/net/http_bench 9100 &
//   wrk -t1 -c32 -d5s http://127.0.0.1:9100/      (POST /echo answers the body)
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "net/asio_loop.h"
#include "net/http.h"

int main(int argc, char** argv) {
  using namespace sundog::net;
  AsioLoop loop;
  HttpServer::Options options;
  options.port = static_cast<uint16_t>(argc > 1 ? std::atoi(argv[1]) : 9100);
  auto server = HttpServer::listen(
      loop, options, [](const Request&) { return BodyPolicy{}; },
      [](Request request, const std::shared_ptr<Responder>& responder) {
        responder->send({200,
                         {{"Content-Type", "application/json"}},
                         request.body.empty() ? R"({"status":"ok"})" : std::move(request.body)});
      });
  if (!server.ok()) {
    std::fprintf(stderr, "%s\n", server.error().text().c_str());
    return 1;
  }
  loop.on_signal([&loop](int) { loop.stop(); });
  loop.run();
  return 0;
}
