#include "invoke/event_body.h"

#include "base/crypto.h"

namespace sundog::invoke {
namespace {

constexpr int kFormat = 1;

// Strict, as the JSON library's own check is: what passes here is dumped unchanged.
bool is_utf8(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const auto lead = static_cast<unsigned char>(text[i]);
    if (lead < 0x80) {
      ++i;
      continue;
    }
    const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || i + length > text.size()) return false;
    uint32_t point = lead & (0xFFU >> (length + 1));
    for (size_t k = 1; k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      if ((next & 0xC0) != 0x80) return false;
      point = point << 6 | (next & 0x3FU);
    }
    if ((length == 3 && point < 0x800) || (length == 4 && point < 0x10000)) return false;
    if (point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF)) return false;
    i += length;
  }
  return true;
}

Status read_payload(const Json& json, Invocation& invocation) {
  SUNDOG_TRY(encoded, get_string(json, "payload_base64", ""));
  if (encoded.empty()) {
    SUNDOG_TRY(plain, get_string(json, "payload", ""));
    invocation.payload = plain;
    return done;
  }
  SUNDOG_TRY(bytes, from_base64(encoded));
  invocation.payload = bytes;
  return done;
}

Status read_tags(const Json& json, Invocation& invocation) {
  if (const auto tags = json.find("tags"); tags != json.end() && tags->is_object()) {
    for (const auto& [key, value] : tags->items()) {
      if (!value.is_string()) return fail(Code::invalid_argument, "Tag \"" + key + "\" of an event is not a string.");
      invocation.tags[key] = value.get<std::string>();
    }
  }
  if (const auto blobs = json.find("blobs"); blobs != json.end() && blobs->is_array()) {
    for (const auto& blob : *blobs) {
      if (!blob.is_string()) return fail(Code::invalid_argument, "A blob of an event is not a string.");
      invocation.granted_blobs.insert(blob.get<std::string>());
    }
  }
  return done;
}

}  // namespace

std::string event_body(const Event& event) {
  const auto& invocation = event.invocation;
  Json json{{"format", kFormat},
            {"tenant", invocation.tenant},
            {"function", invocation.function},
            {"request_id", invocation.request_id},
            {"accepted_ms", epoch_millis(event.accepted)}};
  if (!invocation.qualifier.empty()) json["qualifier"] = invocation.qualifier;
  if (!invocation.client_context.empty()) json["client_context"] = invocation.client_context;
  if (!invocation.meta.is_null()) json["meta"] = invocation.meta;
  if (!invocation.tags.empty()) json["tags"] = invocation.tags;
  if (!invocation.granted_blobs.empty()) json["blobs"] = invocation.granted_blobs;
  if (invocation.kind) json["kind"] = functions::name(*invocation.kind);
  if (event.throttled) json["throttled_ms"] = epoch_millis(*event.throttled);
  if (event.earlier_attempts > 0) json["earlier_attempts"] = event.earlier_attempts;
  if (is_utf8(invocation.payload)) {
    json["payload"] = invocation.payload;
  } else {
    json["payload_base64"] = base64(invocation.payload);
  }
  return dump(json);
}

Result<Event> parse_event(std::string_view body) {
  SUNDOG_TRY(json, parse_json(body, "an event"));
  SUNDOG_TRY(format, get_int(json, "format"));
  if (format != kFormat) {
    return fail(Code::invalid_argument, "An event has format " + std::to_string(format) + "; this server knows 1.",
                "Was the data folder used by a newer Sundog?");
  }
  Event event;
  auto& invocation = event.invocation;
  SUNDOG_TRY(tenant, get_string(json, "tenant"));
  SUNDOG_TRY(function, get_string(json, "function"));
  SUNDOG_TRY(request_id, get_string(json, "request_id"));
  SUNDOG_TRY(qualifier, get_string(json, "qualifier", ""));
  SUNDOG_TRY(client_context, get_string(json, "client_context", ""));
  SUNDOG_TRY(accepted, get_int(json, "accepted_ms"));
  SUNDOG_TRY(throttled, get_int(json, "throttled_ms", 0));
  SUNDOG_TRY(earlier, get_int(json, "earlier_attempts", 0));
  SUNDOG_TRY(kind, get_string(json, "kind", ""));
  invocation.tenant = tenant;
  invocation.function = function;
  invocation.request_id = request_id;
  invocation.qualifier = qualifier;
  invocation.client_context = client_context;
  constexpr int64_t kLatestMillis = 9'000'000'000'000;  // what a WallTime in nanoseconds holds
  if (accepted < 0 || accepted > kLatestMillis || throttled < 0 || throttled > kLatestMillis || earlier < 0 ||
      earlier > 1'000'000) {
    return fail(Code::invalid_argument, "An event has a time or a count that cannot be.");
  }
  event.accepted = from_epoch_millis(accepted);
  if (throttled > 0) event.throttled = from_epoch_millis(throttled);
  event.earlier_attempts = static_cast<int>(earlier);
  if (!kind.empty()) {
    SUNDOG_TRY(known, functions::kind_from(kind));
    invocation.kind = known;
  }
  if (const auto meta = json.find("meta"); meta != json.end()) invocation.meta = *meta;
  SUNDOG_CHECK(read_tags(json, invocation));
  SUNDOG_CHECK(read_payload(json, invocation));
  return event;
}

}  // namespace sundog::invoke
