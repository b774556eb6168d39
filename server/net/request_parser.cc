#include "net/request_parser.h"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>
#include <optional>

namespace sundog::net {
namespace http = boost::beast::http;
namespace beast = boost::beast;

namespace {

// Whether `rest` of a chunked body may be the beginning of its end, of which "0\r\n\r\n" is the shortest. Beast (1.81)
// takes it for granted that it is handed so much at a time: "0\r\n" and then one byte more fails an assertion of its
// own.
bool may_begin_the_end(std::string_view rest) {
  constexpr size_t kShortestEnd = 5;
  return rest.size() < kShortestEnd && (rest.front() == '0' || rest.front() == '\r');
}

std::string lower(beast::string_view text) {
  std::string out(text.data(), text.size());
  for (auto& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

bool is_no_case(std::string_view text, std::string_view lower_case) {
  return text.size() == lower_case.size() && lower({text.data(), text.size()}) == lower_case;
}

// Writes straight into a Request: no second copy of the fields, as Beast's own containers would need.
class Parser final : public http::basic_parser<true> {
 public:
  Parser(Request& request, std::string& body, Pairs& trailers, int64_t header_limit)
      : request_(request), body_(body), trailers_(trailers), trailers_left_(header_limit) {
    this->header_limit(static_cast<std::uint32_t>(header_limit));
    this->body_limit(boost::none);  // the route's policy decides
  }

  int version() const { return version_; }

 private:
  using error_code = beast::error_code;
  using string_view = beast::string_view;

  void on_request_impl(http::verb, string_view method, string_view target, int version, error_code&) override {
    version_ = version;
    request_.method.assign(method.data(), method.size());
    request_.target.assign(target.data(), target.size());
  }
  void on_response_impl(int, string_view, int, error_code&) override {}
  void on_field_impl(http::field, string_view name, string_view value, error_code& error) override {
    if (is_header_done()) return on_trailer(name, value, error);
    request_.headers.emplace_back(lower(name), std::string(value.data(), value.size()));
  }
  void on_header_impl(error_code&) override {}
  void on_body_init_impl(const boost::optional<std::uint64_t>&, error_code&) override {}
  std::size_t on_body_impl(string_view piece, error_code&) override {
    body_.append(piece.data(), piece.size());
    return piece.size();
  }
  void on_chunk_header_impl(std::uint64_t, string_view, error_code&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, string_view piece, error_code&) override {
    body_.append(piece.data(), piece.size());
    return piece.size();
  }
  void on_finish_impl(error_code&) override {}

  void on_trailer(string_view name, string_view value, error_code& error) {
    trailers_left_ -= static_cast<int64_t>(name.size() + value.size());
    if (trailers_left_ < 0) {
      error = http::error::header_limit;
      return;
    }
    trailers_.emplace_back(lower(name), std::string(value.data(), value.size()));
  }

  Request& request_;
  std::string& body_;
  Pairs& trailers_;
  int64_t trailers_left_;  // bytes
  int version_ = 11;
};

}  // namespace

struct RequestParser::State {
  explicit State(int64_t limit) : header_limit(limit) { parser.emplace(request, body, trailers, header_limit); }

  int64_t header_limit;
  Request request;
  std::string body;
  Pairs trailers;
  std::optional<Parser> parser;
};

RequestParser::RequestParser(int64_t header_limit) : state_(std::make_unique<State>(header_limit)) {}
RequestParser::~RequestParser() = default;

void RequestParser::reset() {
  state_->request = Request{};
  state_->body.clear();
  state_->trailers.clear();
  state_->parser.emplace(state_->request, state_->body, state_->trailers, state_->header_limit);
}

Result<size_t> RequestParser::feed(std::string_view input) {
  auto& parser = *state_->parser;
  const bool in_header = !parser.is_header_done();
  parser.eager(!in_header);
  size_t consumed = 0;
  while (consumed < input.size() && !parser.is_done()) {
    beast::error_code error;
    const auto rest = input.substr(consumed);
    if (parser.is_header_done() && parser.chunked() && may_begin_the_end(rest)) break;
    const size_t used = parser.put(boost::asio::const_buffer(rest.data(), rest.size()), error);
    consumed += used;
    if (error == http::error::need_more) break;
    if (error == http::error::header_limit) {
      return fail(Code::too_large, "The request's header is over " + std::to_string(state_->header_limit) + " bytes.",
                  "Send fewer or shorter header fields.");
    }
    if (error) {
      return fail(Code::invalid_argument, "The request is not valid HTTP/1.1: " + error.message() + ".");
    }
    if (in_header && parser.is_header_done()) break;
    if (used == 0) break;
  }
  if (in_header && parser.is_header_done()) {
    const auto coding = state_->request.header("transfer-encoding");
    if (!coding.empty() && !is_no_case(coding, "chunked")) {
      return fail(Code::unsupported, "Transfer-Encoding \"" + std::string(coding) + "\" is not understood.",
                  "Send the body chunked or with a Content-Length.");
    }
  }
  return consumed;
}

bool RequestParser::header_done() const {
  return state_->parser->is_header_done();
}
bool RequestParser::done() const {
  return state_->parser->is_done();
}
Request& RequestParser::request() {
  return state_->request;
}
std::string& RequestParser::body() {
  return state_->body;
}
bool RequestParser::has_body() const {
  return state_->parser->chunked() || content_length() > 0;
}

int64_t RequestParser::content_length() const {
  if (state_->parser->chunked()) return -1;
  const auto length = state_->parser->content_length();
  if (!length) return 0;
  return static_cast<int64_t>(std::min<std::uint64_t>(*length, INT64_MAX));
}

const Pairs& RequestParser::trailers() const {
  return state_->trailers;
}

bool RequestParser::expects_continue() const {
  return !http_1_0() && is_no_case(state_->request.header("expect"), "100-continue");
}
bool RequestParser::keep_alive() const {
  return state_->parser->keep_alive();
}
bool RequestParser::http_1_0() const {
  return state_->parser->version() < 11;
}

}  // namespace sundog::net
