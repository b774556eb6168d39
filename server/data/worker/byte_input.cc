#include "data/worker/byte_input.h"

#include <arrow/util/compression.h>
#include <lzma.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace sundog::data::worker {
namespace {

constexpr size_t kPiece = 1 << 17;

class FileSource final : public ByteSource {
 public:
  explicit FileSource(int fd) : fd_(fd) {}
  Result<size_t> read(Bytes& out, size_t limit) override {
    const size_t before = out.size();
    out.resize(before + std::min(limit, kPiece));
    ssize_t count = 0;
    do {
      count = ::pread(fd_, out.data() + before, out.size() - before, offset_);
    } while (count < 0 && errno == EINTR);
    out.resize(before + static_cast<size_t>(std::max<ssize_t>(count, 0)));
    if (count < 0) return fail_errno("read the file", errno);
    offset_ += count;
    return static_cast<size_t>(count);
  }

 private:
  int fd_;
  off_t offset_ = 0;
};

// Pulls compressed pieces and pushes them through a decoder until something comes out.
class Inflating : public ByteSource {
 public:
  explicit Inflating(std::unique_ptr<ByteSource> source) : source_(std::move(source)) {}

 protected:
  // Makes sure input_ has something; false at the end of the file.
  Result<bool> refill() {
    if (used_ < input_.size()) return true;
    input_.clear();
    used_ = 0;
    SUNDOG_TRY(count, source_->read(input_, kPiece));
    return count > 0;
  }
  std::unique_ptr<ByteSource> source_;
  Bytes input_;
  size_t used_ = 0;
};

class XzSource final : public Inflating {
 public:
  using Inflating::Inflating;
  ~XzSource() override { lzma_end(&stream_); }
  XzSource(const XzSource&) = delete;
  XzSource& operator=(const XzSource&) = delete;

  Status start() {
    const auto code = lzma_stream_decoder(&stream_, 160ULL << 20, LZMA_CONCATENATED);
    if (code != LZMA_OK) return fail(Code::resource_exhausted, "Cannot start the xz decoder.");
    return done;
  }

  Result<size_t> read(Bytes& out, size_t limit) override {
    const size_t before = out.size();
    const size_t wanted = std::min(limit, kPiece);
    while (!ended_ && out.size() == before) {
      SUNDOG_TRY(more, refill());
      out.resize(before + wanted);
      stream_.next_in = reinterpret_cast<const uint8_t*>(input_.data() + used_);
      stream_.avail_in = input_.size() - used_;
      stream_.next_out = reinterpret_cast<uint8_t*>(out.data() + before);
      stream_.avail_out = wanted;
      const auto code = lzma_code(&stream_, more ? LZMA_RUN : LZMA_FINISH);
      used_ = input_.size() - stream_.avail_in;
      out.resize(before + wanted - stream_.avail_out);
      if (code == LZMA_STREAM_END) {
        ended_ = true;
      } else if (code == LZMA_MEMLIMIT_ERROR) {
        return fail(Code::too_large, "The xz stream needs more than 160 MB to decompress.",
                    "Compress with xz -6 or less.");
      } else if (code != LZMA_OK) {
        return fail(Code::invalid_argument, more ? "The xz data is broken." : "The xz data ends too early.",
                    "Upload the file again, or try \"xz -t\" on it.");
      }
    }
    return out.size() - before;
  }

 private:
  lzma_stream stream_ = LZMA_STREAM_INIT;
  bool ended_ = false;
};

class CodecSource final : public Inflating {
 public:
  CodecSource(std::unique_ptr<ByteSource> source, std::string name, std::unique_ptr<arrow::util::Codec> codec)
      : Inflating(std::move(source)), name_(std::move(name)), codec_(std::move(codec)) {}

  Status start() {
    auto made = codec_->MakeDecompressor();
    if (!made.ok())
      return fail(Code::internal, "Cannot start the " + name_ + " decoder: " + made.status().message() + ".");
    decoder_ = *made;
    return done;
  }

  Result<size_t> read(Bytes& out, size_t limit) override {
    const size_t before = out.size();
    size_t room = std::min(limit, kPiece);
    while (out.size() == before) {
      SUNDOG_TRY(more, refill());
      if (!more) {
        if (inside_)
          return fail(Code::invalid_argument, "The " + name_ + " data ends too early.", "Upload the file again.");
        return size_t{0};
      }
      if (decoder_->IsFinished()) SUNDOG_CHECK(next_member());
      out.resize(before + room);
      auto step = decoder_->Decompress(static_cast<int64_t>(input_.size() - used_),
                                       reinterpret_cast<const uint8_t*>(input_.data() + used_),
                                       static_cast<int64_t>(room), reinterpret_cast<uint8_t*>(out.data() + before));
      if (!step.ok()) {
        out.resize(before);
        return fail(Code::invalid_argument, "The " + name_ + " data is broken.", "Upload the file again.");
      }
      out.resize(before + static_cast<size_t>(step->bytes_written));
      used_ += static_cast<size_t>(step->bytes_read);
      inside_ = !decoder_->IsFinished();
      if (step->bytes_read == 0 && step->bytes_written == 0 && inside_) {
        if (!step->need_more_output || room >= (8U << 20)) {
          return fail(Code::invalid_argument, "The " + name_ + " data is broken.", "Upload the file again.");
        }
        room *= 2;
      }
    }
    return out.size() - before;
  }

 private:
  Status next_member() {
    const auto status = decoder_->Reset();
    if (!status.ok()) return fail(Code::internal, "Cannot restart the " + name_ + " decoder.");
    return done;
  }
  std::string name_;
  std::unique_ptr<arrow::util::Codec> codec_;
  std::shared_ptr<arrow::util::Decompressor> decoder_;
  bool inside_ = false;
};

// Windows-1252's characters 0x80–0x9F; 0 where it has none.
constexpr std::array<uint16_t, 32> kWindows1252{0x20AC, 0,      0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021,
                                                0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0,      0x017D, 0,
                                                0,      0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
                                                0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0,      0x017E, 0x0178};

void append_utf8(Bytes& out, uint32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | (c >> 6));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | (c >> 12));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | (c >> 18));
    out += static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

class TextSource final : public ByteSource {
 public:
  enum class Kind { utf8, utf16le, utf16be, latin1, windows1252 };
  TextSource(std::unique_ptr<ByteSource> source, Kind kind, Bytes first)
      : source_(std::move(source)), kind_(kind), input_(std::move(first)) {}

  Result<size_t> read(Bytes& out, size_t limit) override {
    const size_t before = out.size();
    while (out.size() == before) {
      if (input_.size() < 4) {
        SUNDOG_TRY(count, source_->read(input_, std::max<size_t>(1, std::min(limit, kPiece) / 3)));
        at_end_ = count == 0;
      }
      if (input_.empty()) return size_t{0};
      convert(out);
    }
    return out.size() - before;
  }

 private:
  void convert(Bytes& out) {
    if (kind_ == Kind::utf8) {
      out += input_;
      input_.clear();
      return;
    }
    if (kind_ == Kind::latin1 || kind_ == Kind::windows1252) {
      for (const char c : input_) {
        const auto byte = static_cast<unsigned char>(c);
        const bool special =
            kind_ == Kind::windows1252 && byte >= 0x80 && byte < 0xA0 && kWindows1252[byte - 0x80] != 0;
        append_utf8(out, special ? kWindows1252[byte - 0x80] : byte);
      }
      input_.clear();
      return;
    }
    convert_utf16(out);
  }

  uint32_t unit(size_t at) const {
    const auto a = static_cast<unsigned char>(input_[at]), b = static_cast<unsigned char>(input_[at + 1]);
    return kind_ == Kind::utf16le ? (a | (b << 8U)) : (b | (a << 8U));
  }

  // An unpaired surrogate or an odd last byte becomes 0xFF, which is no UTF-8: its row goes to the quarantine.
  void convert_utf16(Bytes& out) {
    size_t at = 0;
    while (at + 2 <= input_.size()) {
      const uint32_t first = unit(at);
      if (first < 0xD800 || first > 0xDFFF) {
        append_utf8(out, first);
        at += 2;
        continue;
      }
      if (at + 4 > input_.size() && !at_end_) break;
      const uint32_t second = at + 4 <= input_.size() ? unit(at + 2) : 0;
      if (first < 0xDC00 && second >= 0xDC00 && second <= 0xDFFF) {
        append_utf8(out, 0x10000 + ((first - 0xD800) << 10U) + (second - 0xDC00));
        at += 4;
      } else {
        out += '\xFF';
        at += 2;
      }
    }
    if (at_end_ && at < input_.size()) {
      out += '\xFF';
      at = input_.size();
    }
    input_.erase(0, at);
  }

  std::unique_ptr<ByteSource> source_;
  Kind kind_;
  Bytes input_;
  bool at_end_ = false;
};

}  // namespace

Compression compression_of(std::string_view first) {
  if (first.starts_with("\x1F\x8B")) return Compression::gz;
  if (first.starts_with(std::string_view("\xFD"
                                         "7zXZ\0",
                                         6))) {
    return Compression::xz;
  }
  if (first.starts_with("\x28\xB5\x2F\xFD")) return Compression::zst;
  return Compression::none;
}

Result<Compression> choose_compression(const std::string& asked, std::string_view first_bytes) {
  const Compression found = compression_of(first_bytes);
  if (asked == "auto" || asked.empty()) return found;
  const std::array<std::pair<const char*, Compression>, 4> names{
      {{"none", Compression::none}, {"gz", Compression::gz}, {"xz", Compression::xz}, {"zst", Compression::zst}}};
  for (const auto& [name, compression] : names) {
    if (asked != name) continue;
    if (compression != Compression::none && compression != found) {
      return fail(Code::invalid_argument, "The file is not " + asked + ": its first bytes are other.",
                  "Leave compression at \"auto\".");
    }
    return compression;
  }
  return fail(Code::invalid_argument, "There is no compression \"" + asked + "\".", "Use auto, none, gz, xz or zst.");
}

Result<std::string> peek(int fd, size_t count) {
  FileSource source(fd);
  std::string out;
  while (out.size() < count) {
    SUNDOG_TRY(got, source.read(out, count - out.size()));
    if (got == 0) break;
  }
  return out;
}

std::unique_ptr<ByteSource> file_source(int fd) {
  return std::make_unique<FileSource>(fd);
}

Result<std::unique_ptr<ByteSource>> decompressed(std::unique_ptr<ByteSource> source, Compression compression) {
  if (compression == Compression::none) return source;
  if (compression == Compression::xz) {
    auto xz = std::make_unique<XzSource>(std::move(source));
    SUNDOG_CHECK(xz->start());
    return std::unique_ptr<ByteSource>(std::move(xz));
  }
  const bool gz = compression == Compression::gz;
  auto codec = arrow::util::Codec::Create(gz ? arrow::Compression::GZIP : arrow::Compression::ZSTD);
  if (!codec.ok()) return fail(Code::internal, "No decoder: " + codec.status().message() + ".");
  auto made = std::make_unique<CodecSource>(std::move(source), gz ? "gzip" : "zstd", std::move(*codec));
  SUNDOG_CHECK(made->start());
  return std::unique_ptr<ByteSource>(std::move(made));
}

Result<std::unique_ptr<ByteSource>> decoded(std::unique_ptr<ByteSource> source, const std::string& encoding) {
  Bytes first;
  while (first.size() < 4) {
    SUNDOG_TRY(count, source->read(first, kPiece));
    if (count == 0) break;
  }
  using Kind = TextSource::Kind;
  Kind kind = Kind::utf8;
  if (encoding == "latin-1" || encoding == "iso-8859-1") {
    kind = Kind::latin1;
  } else if (encoding == "windows-1252" || encoding == "cp1252") {
    kind = Kind::windows1252;
  } else if (encoding == "utf-16be") {
    kind = Kind::utf16be;
  } else if (encoding == "utf-16" || encoding == "utf-16le") {
    kind = Kind::utf16le;
  } else if (encoding != "utf-8" && encoding != "utf8" && !encoding.empty()) {
    return fail(Code::invalid_argument, "Sundog cannot read the encoding \"" + encoding + "\".",
                "Use utf-8, utf-16, latin-1 or windows-1252, or convert the file: iconv -f " + encoding + " -t utf-8.");
  }
  const bool may_mark = kind != Kind::latin1 && kind != Kind::windows1252;
  if (may_mark && first.starts_with("\xEF\xBB\xBF")) {
    kind = Kind::utf8;
    first.erase(0, 3);
  } else if (may_mark && first.starts_with("\xFF\xFE")) {
    kind = Kind::utf16le;
    first.erase(0, 2);
  } else if (may_mark && first.starts_with("\xFE\xFF")) {
    kind = Kind::utf16be;
    first.erase(0, 2);
  }
  return std::unique_ptr<ByteSource>(std::make_unique<TextSource>(std::move(source), kind, std::move(first)));
}

}  // namespace sundog::data::worker
