#include "api/blob_routes.h"

#include <charconv>

namespace sundog::api {
namespace {

using CallPtr = std::shared_ptr<Call>;

constexpr int64_t kUploadLimit = int64_t{100} << 30;
constexpr int64_t kPiece = 1 << 20;
constexpr int64_t kSendWhole = 4 << 20;  // more goes out in pieces

std::string owner_key(const std::string& tenant, const std::string& blob) {
  return "blob-owners/" + tenant + "/" + blob;
}

std::optional<int64_t> number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || text.empty() || value < 0) return std::nullopt;
  return value;
}

struct Routes {
  store::Blobs& blobs;
  store::Catalog& catalog;
  Clock& clock;
  NamesBlob names_blob;

  Result<Json> put(const Call& call) const {
    if (!call.request.body_stream) return fail(Code::internal, "The blob's body was not streamed.");
    SUNDOG_TRY(info, blobs.put(*call.request.body_stream));
    SUNDOG_CHECK(catalog.put(owner_key(call.principal.tenant, info.id),
                             {{"bytes", info.bytes}, {"put", iso_time(clock.wall())}, {"key", call.principal.key_id}}));
    return Json{{"id", info.id}, {"bytes", info.bytes}};
  }

  // A blob of others is as absent as one that is nowhere.
  Result<store::BlobInfo> readable(const Call& call) const {
    const std::string id = call.param("id");
    const auto absent = [&] { return fail(Code::not_found, "No blob \"" + id.substr(0, 80) + "\"."); };
    if (!store::is_blob_id(id)) return absent();
    const auto owner = catalog.get(owner_key(call.principal.tenant, id));
    if (!owner.ok() && owner.error().code != Code::not_found) return owner.error();
    if (!owner.ok() && !(names_blob && names_blob(call.principal.tenant, id))) return absent();
    return blobs.info(id);
  }

  void get(const Call& call) const {
    const auto info = readable(call);
    if (!info.ok()) return reply_error(*call.responder, info.error(), ErrorShape::sundog);
    const Span span = span_of(call.request.header("range"), info->bytes);
    net::Pairs headers = {{"Content-Type", "application/octet-stream"},
                          {"Accept-Ranges", "bytes"},
                          {"ETag", "\"" + info->id + "\""},
                          {"Cache-Control", "private, immutable"}};
    if (span.kind == Span::Kind::unsatisfiable) {
      headers.emplace_back("Content-Range", "bytes */" + std::to_string(info->bytes));
      return call.responder->send({.status = 416, .headers = std::move(headers)});
    }
    headers.emplace_back("Content-Length", std::to_string(span.length));
    if (span.kind == Span::Kind::part) {
      headers.emplace_back("Content-Range", "bytes " + std::to_string(span.offset) + "-" +
                                                std::to_string(span.offset + span.length - 1) + "/" +
                                                std::to_string(info->bytes));
    }
    const int status = span.kind == Span::Kind::part ? 206 : 200;
    if (call.request.method == "HEAD") return call.responder->send({.status = status, .headers = std::move(headers)});
    if (span.length <= kSendWhole) return send_whole(call, info->id, span, status, std::move(headers));
    send_pieces(call, info->id, span, status, std::move(headers));
  }

  void send_whole(const Call& call, const std::string& id, const Span& span, int status, net::Pairs headers) const {
    auto bytes = blobs.get(id, span.offset, span.length);
    if (!bytes.ok()) return reply_error(*call.responder, bytes.error(), ErrorShape::sundog);
    call.responder->send({.status = status, .headers = std::move(headers), .body = *std::move(bytes)});
  }

  void send_pieces(const Call& call, const std::string& id, const Span& span, int status, net::Pairs headers) const {
    std::shared_ptr<net::ResponseStream> stream;
    for (int64_t sent = 0; sent < span.length;) {
      const int64_t count = std::min(kPiece, span.length - sent);
      auto bytes = blobs.get(id, span.offset + sent, count);
      if (!bytes.ok() && !stream) return reply_error(*call.responder, bytes.error(), ErrorShape::sundog);
      if (!bytes.ok()) return;  // dropping the stream unfinished tells the client that this is not all
      // NOLINTNEXTLINE(bugprone-use-after-move): once
      if (!stream) stream = call.responder->stream(status, std::move(headers));
      if (!stream->write(*std::move(bytes))) return;
      sent += count;
    }
    stream->finish();
  }
};

}  // namespace

Span span_of(std::string_view range_header, int64_t size) {
  const Span whole{Span::Kind::whole, 0, size};
  constexpr std::string_view kUnit = "bytes=";
  if (!range_header.starts_with(kUnit) || range_header.find(',') != std::string_view::npos) return whole;
  const std::string_view range = range_header.substr(kUnit.size());
  const size_t dash = range.find('-');
  if (dash == std::string_view::npos) return whole;
  const auto first = number(range.substr(0, dash));
  const auto last = number(range.substr(dash + 1));
  const bool open_end = dash + 1 == range.size();
  if (dash == 0) {  // the last so many bytes
    if (!last) return whole;
    if (*last == 0 || size == 0) return {Span::Kind::unsatisfiable};
    const int64_t length = std::min(*last, size);
    return {Span::Kind::part, size - length, length};
  }
  if (!first || (!last && !open_end) || (last && *last < *first)) return whole;
  if (*first >= size) return {Span::Kind::unsatisfiable};
  const int64_t end = open_end ? size : std::min(*last, size - 1) + 1;
  return {Span::Kind::part, *first, end - *first};
}

void add_blob_routes(Router& router, store::Blobs& blobs, store::Catalog& catalog, Clock& clock, NamesBlob names_blob) {
  const auto routes = std::make_shared<Routes>(Routes{blobs, catalog, clock, std::move(names_blob)});
  router.json("PUT", "/v1/blobs", Role::deployer, [routes](const CallPtr& call) { return routes->put(*call); },
              {.body_limit = kUploadLimit, .stream_body = true});
  router.add("GET", "/v1/blobs/{id}", Role::viewer, [routes](const CallPtr& call) { routes->get(*call); });
  router.add("HEAD", "/v1/blobs/{id}", Role::viewer, [routes](const CallPtr& call) { routes->get(*call); });
}

}  // namespace sundog::api
