#include "data/worker/ingest_options.h"

#include <algorithm>

namespace sundog::data::worker {
namespace {

Status take_missing(const Json& arguments, IngestOptions& out) {
  out.missing = {"", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null", "None"};
  const auto given = arguments.find("missing");
  if (given == arguments.end() || given->is_null()) return done;
  if (!given->is_array())
    return fail(Code::invalid_argument, "\"missing\" is not a list of texts.", "Like [\"\", \"NA\"].");
  out.missing.clear();
  for (const auto& marker : *given) {
    if (!marker.is_string())
      return fail(Code::invalid_argument, "\"missing\" holds something that is not text: " + dump(marker) + ".");
    out.missing.insert(marker.get<std::string>());
  }
  return done;
}

Status take_types(const Json& arguments, IngestOptions& out) {
  const auto given = arguments.find("types");
  if (given == arguments.end() || given->is_null()) return done;
  if (!given->is_object()) return fail(Code::invalid_argument, "\"types\" is not an object of column and type.");
  for (const auto& [column, type] : given->items()) {
    if (!type.is_string()) return fail(Code::invalid_argument, "The type of column \"" + column + "\" is not text.");
    SUNDOG_TRY(parsed, type_from(type.get<std::string>()));
    out.types[column] = parsed;
  }
  return done;
}

}  // namespace

Result<IngestOptions> IngestOptions::parse(const Json& arguments) {
  IngestOptions out;
  SUNDOG_TRY(blob, get_string(arguments, "blob"));
  SUNDOG_TRY(filename, get_string(arguments, "filename", ""));
  SUNDOG_TRY(format, get_string(arguments, "format", "auto"));
  SUNDOG_TRY(compression, get_string(arguments, "compression", "auto"));
  SUNDOG_TRY(encoding, get_string(arguments, "encoding", "utf-8"));
  SUNDOG_TRY(label, get_string(arguments, "label", ""));
  SUNDOG_TRY(delimiter, get_string(arguments, "delimiter", ""));
  SUNDOG_TRY(shard_memory, get_int(arguments, "shard_memory_bytes", out.shard_memory));
  if (delimiter == "\\t") delimiter = "\t";
  if (delimiter.size() > 1 || delimiter == "\"" || delimiter == "\n" || delimiter == "\r") {
    return fail(Code::invalid_argument, "\"" + delimiter + "\" cannot be a delimiter.",
                "It is one character: , or ; or | or a tab.");
  }
  static const std::set<std::string> formats{"auto", "csv", "jsonl", "parquet", "arrow"};
  if (!formats.contains(format)) {
    return fail(Code::invalid_argument, "There is no format \"" + format + "\".",
                "Use auto, csv, jsonl, parquet or arrow.");
  }
  out.blob = blob;
  out.filename = filename;
  out.format = format;
  out.compression = compression;
  out.encoding = encoding;
  out.label = label;
  out.delimiter = delimiter.empty() ? '\0' : delimiter[0];
  out.shard_memory = std::clamp<int64_t>(shard_memory, 1 << 20, int64_t{8} << 30);
  SUNDOG_CHECK(take_missing(arguments, out));
  SUNDOG_CHECK(take_types(arguments, out));
  return out;
}

Status check_columns(const IngestOptions& options, const std::vector<std::string>& columns) {
  const auto known = [&](const std::string& name) {
    return std::find(columns.begin(), columns.end(), name) != columns.end();
  };
  if (!options.label.empty() && !known(options.label)) {
    return fail(Code::invalid_argument, "The file has no column \"" + options.label + "\" for the label.",
                near_names(options.label, columns));
  }
  for (const auto& [name, type] : options.types) {
    if (!known(name)) {
      return fail(Code::invalid_argument, "\"types\" names the column \"" + name + "\", which the file does not have.",
                  near_names(name, columns));
    }
  }
  return done;
}

}  // namespace sundog::data::worker
