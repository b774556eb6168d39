#include "data/worker/ingest.h"

#include <algorithm>
#include <array>

#include "data/worker/task.h"

namespace sundog::data::worker {
namespace {

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

// The first bytes of the content, decompressed.
Result<std::string> first_text(int fd, Compression compression) {
  SUNDOG_TRY(source, decompressed(file_source(fd), compression));
  std::string out;
  while (out.size() < (64U << 10)) {
    SUNDOG_TRY(count, source->read(out, 64 << 10));
    if (count == 0) break;
  }
  return out;
}

// "parquet", "arrow", "jsonl" or "csv".
std::string guess_format(std::string_view first, const std::string& filename) {
  if (first.starts_with("PAR1")) return "parquet";
  if (first.starts_with("ARROW1") || first.starts_with("\xFF\xFF\xFF\xFF")) return "arrow";
  std::string file = lower(filename);
  for (const char* ending : {".gz", ".xz", ".zst"}) {
    if (file.ends_with(ending)) file.resize(file.size() - std::string_view(ending).size());
  }
  if (file.ends_with(".parquet") || file.ends_with(".pq")) return "parquet";
  if (file.ends_with(".arrow") || file.ends_with(".feather") || file.ends_with(".ipc")) return "arrow";
  if (file.ends_with(".csv") || file.ends_with(".tsv")) return "csv";
  if (file.ends_with(".jsonl") || file.ends_with(".ndjson") || file.ends_with(".json")) return "jsonl";
  if (first.starts_with("\xEF\xBB\xBF")) first.remove_prefix(3);
  const size_t at = first.find_first_not_of(" \t\r\n");
  return at != std::string_view::npos && (first[at] == '{' || first[at] == '[') ? "jsonl" : "csv";
}

// The likeliest delimiter: the one that the first line has most of, outside quotes.
char guess_delimiter(std::string_view first, const std::string& filename) {
  if (lower(filename).find(".tsv") != std::string::npos) return '\t';
  constexpr std::array candidates{',', ';', '\t', '|'};
  std::array<int, 4> counts{};
  bool quoted = false;
  for (const char c : first) {
    if (c == '"') quoted = !quoted;
    if (quoted) continue;
    if (c == '\n' || c == '\r') break;
    for (size_t i = 0; i < candidates.size(); ++i) counts[i] += c == candidates[i];
  }
  const auto most = std::max_element(counts.begin(), counts.end());
  return *most == 0 ? ',' : candidates[static_cast<size_t>(most - counts.begin())];
}

}  // namespace

Result<Json> ingest(const Json& arguments, Host& host) {
  SUNDOG_TRY(options, IngestOptions::parse(arguments));
  SUNDOG_TRY(fd, host.open_blob(options.blob));
  SUNDOG_TRY(magic, peek(fd.get(), 16));
  if (magic.empty()) return fail(Code::invalid_argument, "The file is empty.");
  if (magic.starts_with("PK\x03\x04")) {
    return fail(Code::invalid_argument, "The file is a zip archive.",
                "Unpack it, or compress the table with gz, xz or zst.");
  }
  SUNDOG_TRY(compression, choose_compression(options.compression, magic));
  SUNDOG_TRY(first, first_text(fd.get(), compression));
  const std::string format = options.format == "auto" ? guess_format(first, options.filename) : options.format;
  if (format == "parquet" || format == "arrow") {
    if (compression != Compression::none) {
      return fail(Code::invalid_argument, "A " + format + " file cannot be read from inside a compressed file.",
                  "Upload it uncompressed: it compresses its own columns.");
    }
    return ingest_arrow(options, format == "parquet", std::move(fd), host);
  }
  TextFormat text;
  text.json = format == "jsonl";
  text.compression = compression;
  if (options.delimiter != 0) {
    text.delimiter = options.delimiter;
  } else {
    // In the text's own encoding: UTF-16's first line would count NULs.
    SUNDOG_TRY(plain, decoded(std::make_unique<StringSource>(first), options.encoding));
    std::string line;
    SUNDOG_TRY(count, plain->read(line, 64 << 10));
    (void)count;
    text.delimiter = guess_delimiter(line, options.filename);
  }
  return ingest_text(options, text, fd.get(), host);
}

}  // namespace sundog::data::worker
