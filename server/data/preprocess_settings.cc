#include "data/preprocess_settings.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <set>

namespace sundog::data {
namespace {

const Json kNothing = Json::object();

// The object `key`, or an empty one; invalid_argument if it is something else.
Result<Json> object_at(const Json& body, const char* key) {
  const auto found = body.find(key);
  if (found == body.end() || found->is_null()) return kNothing;
  if (!found->is_object()) return fail(Code::invalid_argument, "\"" + std::string(key) + "\" is not a JSON object.");
  return *found;
}

Result<std::vector<std::string>> names_at(const Json& body, const char* key) {
  std::vector<std::string> out;
  const auto found = body.find(key);
  if (found == body.end() || found->is_null()) return out;
  if (!found->is_array())
    return fail(Code::invalid_argument, "\"" + std::string(key) + "\" is not a list of column names.");
  for (const auto& item : *found) {
    if (!item.is_string())
      return fail(Code::invalid_argument,
                  "\"" + std::string(key) + "\" holds " + dump(item) + ", which is no column name.");
    out.push_back(item.get<std::string>());
  }
  return out;
}

class Parser {
 public:
  Parser(const Json& body, const DatasetVersion& parent) : body_(body), parent_(parent) {}

  Result<PreprocessSettings> parse() {
    SUNDOG_CHECK(known_fields());
    SUNDOG_TRY(as, get_string(body_, "as", parent_.dataset));
    SUNDOG_TRY(label, get_string(body_, "label", parent_.label));
    SUNDOG_TRY(drop_duplicates, get_bool(body_, "drop_duplicates", false));
    SUNDOG_TRY(fit_in_mb, get_int(body_, "fit_in_mb", 512));
    if (!is_dataset_name(as))
      return fail(Code::invalid_argument, "\"" + as + "\" is no name for a dataset.",
                  "Letters, digits, . _ and -, at most 64.");
    if (fit_in_mb < 16 || fit_in_mb > 10'240) {
      return fail(Code::invalid_argument, "fit_in_mb is " + std::to_string(fit_in_mb) + ".",
                  "Between 16 and 10240: the memory size of an instance.");
    }
    out_.as = as;
    out_.label = label;
    out_.drop_duplicates = drop_duplicates;
    out_.fit_in_mb = fit_in_mb;
    for (const auto& column : parent_.schema) out_.types[column.name] = column.type;
    SUNDOG_CHECK(rules());
    SUNDOG_CHECK(fills());
    SUNDOG_CHECK(split());
    return std::move(out_);
  }

 private:
  Status known_fields() {
    static const std::set<std::string> known{"as",    "label",           "drop",    "missing", "ranges",
                                             "types", "drop_duplicates", "balance", "split",   "fit_in_mb"};
    for (const auto& [key, value] : body_.items()) {
      if (!known.contains(key)) {
        return fail(
            Code::invalid_argument, "There is no rule \"" + key + "\".",
            "Those there are: as, label, drop, missing, ranges, types, drop_duplicates, balance, split, fit_in_mb.");
      }
    }
    return done;
  }

  Status column_exists(const std::string& column, const std::string& where) const {
    if (out_.types.contains(column)) return done;
    const bool dropped =
        std::any_of(parent_.schema.begin(), parent_.schema.end(), [&](const Column& c) { return c.name == column; });
    std::string known;
    for (const auto& [name, type] : out_.types) {
      if (known.size() < 200) known += (known.empty() ? "" : ", ") + name;
    }
    return fail(Code::invalid_argument,
                "\"" + where + "\" names the column \"" + column + "\", which " +
                    (dropped ? "is dropped." : "dataset " + parent_.reference() + " does not have."),
                "The columns are " + known + ".");
  }

  Status rules() {
    SUNDOG_TRY(drop, names_at(body_, "drop"));
    for (const auto& column : drop) SUNDOG_CHECK(column_exists(column, "drop"));
    for (const auto& column : drop) out_.types.erase(column);
    if (out_.types.empty()) return fail(Code::invalid_argument, "The rules drop every column.");
    SUNDOG_TRY(types, object_at(body_, "types"));
    static const std::set<std::string> kTypes{"int64", "float64", "string", "bool", "timestamp", "date"};
    for (const auto& [column, type] : types.items()) {
      SUNDOG_CHECK(column_exists(column, "types"));
      if (!type.is_string() || !kTypes.contains(type.get<std::string>())) {
        return fail(Code::invalid_argument, "There is no type " + dump(type) + ".",
                    "Use int64, float64, string, bool, timestamp or date.");
      }
      out_.types[column] = type.get<std::string>();
    }
    SUNDOG_TRY(ranges, object_at(body_, "ranges"));
    for (const auto& [column, range] : ranges.items()) {
      SUNDOG_CHECK(column_exists(column, "ranges"));
      if (!is_number(column)) {
        return fail(Code::invalid_argument, "\"ranges\" names the column \"" + column + "\", which is no number but " +
                                                out_.types[column] + ".");
      }
    }
    SUNDOG_TRY(missing, object_at(body_, "missing"));
    SUNDOG_TRY(drop_rows, names_at(missing, "drop_rows"));
    for (const auto& column : drop_rows) SUNDOG_CHECK(column_exists(column, "missing.drop_rows"));
    out_.drop_rows = drop_rows;
    out_.rules = {{"drop", drop}, {"types", types}, {"ranges", ranges}, {"missing", {{"drop_rows", drop_rows}}}};
    if (!out_.label.empty()) SUNDOG_CHECK(column_exists(out_.label, "label"));
    return done;
  }

  bool is_number(const std::string& column) const {
    const auto found = out_.types.find(column);
    return found != out_.types.end() && (found->second == "int64" || found->second == "float64");
  }

  Status fills() {
    SUNDOG_TRY(missing, object_at(body_, "missing"));
    for (const auto& [key, value] : missing.items()) {
      if (key != "drop_rows" && key != "fill") {
        return fail(Code::invalid_argument, "There is no \"missing\" rule \"" + key + "\".", "Use drop_rows and fill.");
      }
    }
    SUNDOG_TRY(fill, object_at(missing, "fill"));
    for (const auto& [column, value] : fill.items()) {
      SUNDOG_CHECK(column_exists(column, "missing.fill"));
      if (column == out_.label) {
        return fail(Code::invalid_argument, "\"missing.fill\" would invent labels: \"" + column + "\" is the label.",
                    "Drop the rows without one: missing.drop_rows [\"" + column + "\"].");
      }
      const bool by = value == "mean" || value == "median" || value == "most_frequent";
      if (!by) {
        if (!value.is_primitive() || value.is_null()) {
          return fail(Code::invalid_argument, "The fill of column \"" + column + "\" is " + dump(value) + ".",
                      "A value, or mean, median, most_frequent.");
        }
        out_.fill_with[column] = value;
        continue;
      }
      if (value != "most_frequent" && !is_number(column)) {
        return fail(
            Code::invalid_argument,
            "Column \"" + column + "\" is " + out_.types[column] + " and has no " + value.get<std::string>() + ".",
            "Use most_frequent, or a value.");
      }
      out_.fill_by[column] = value.get<std::string>();
    }
    return done;
  }

  Status split() {
    SUNDOG_TRY(balance, get_string(body_, "balance", "none"));
    if (balance == "none") {
      out_.split.balance = Balance::none;
    } else if (balance == "undersample") {
      out_.split.balance = Balance::undersample;
    } else if (balance == "oversample") {
      out_.split.balance = Balance::oversample;
    } else if (balance == "weights") {
      out_.split.balance = Balance::weights;
    } else {
      return fail(Code::invalid_argument, "There is no balance \"" + balance + "\".",
                  "Use none, undersample, oversample or weights.");
    }
    SUNDOG_TRY(given, object_at(body_, "split"));
    SUNDOG_TRY(by, get_string(given, "by", out_.label.empty() ? "random" : "stratified"));
    SUNDOG_TRY(column, get_string(given, "column", ""));
    SUNDOG_TRY(seed, get_int(given, "seed", 1));
    out_.split_was_chosen = given.contains("by");
    out_.split.seed = static_cast<uint64_t>(seed);
    if (by == "random") {
      out_.split.by = SplitBy::random;
    } else if (by == "stratified") {
      out_.split.by = SplitBy::stratified;
      if (!column.empty()) out_.label = column;
      if (out_.label.empty()) {
        return fail(Code::invalid_argument,
                    "A stratified split needs a label, and dataset " + parent_.reference() + " has none.",
                    "Say \"label\", or split by random or time.");
      }
      SUNDOG_CHECK(column_exists(out_.label, "label"));
    } else if (by == "time") {
      out_.split.by = SplitBy::time;
      if (column.empty())
        return fail(Code::invalid_argument, "A split by time needs its \"column\".",
                    "split {\"by\":\"time\",\"column\":\"…\"}");
      SUNDOG_CHECK(column_exists(column, "split.column"));
      out_.split.column = column;
    } else {
      return fail(Code::invalid_argument, "There is no split by \"" + by + "\".", "Use random, stratified or time.");
    }
    if (out_.split.balance != Balance::none && out_.label.empty()) {
      return fail(Code::invalid_argument, "Balancing needs a label, and dataset " + parent_.reference() + " has none.",
                  "Say \"label\".");
    }
    return parts(given);
  }

  Status parts(const Json& given) {
    const auto found = given.find("parts");
    if (found == given.end() || found->is_null()) return done;
    const Error wrong = fail(Code::invalid_argument, "The parts of the split are " + dump(*found) + ".",
                             "Two or three shares whose sum is 1, as [0.8, 0.2] for train and test, or [0.6, 0.2, 0.2] "
                             "for train, valid and test.");
    if (!found->is_array() || found->empty() || found->size() > 3) return wrong;
    std::vector<double> shares;
    for (const auto& share : *found) {
      if (!share.is_number()) return wrong;
      shares.push_back(share.get<double>());
    }
    double sum = 0;
    for (const double share : shares) {
      if (!(share >= 0 && share <= 1)) return wrong;
      sum += share;
    }
    if (std::fabs(sum - 1) > 1e-6 || shares[0] <= 0) return wrong;
    if (shares.size() == 1) out_.split.parts = {1, 0, 0};
    if (shares.size() == 2) out_.split.parts = {shares[0], 0, shares[1]};
    if (shares.size() == 3) out_.split.parts = {shares[0], shares[1], shares[2]};
    return done;
  }

  const Json& body_;
  const DatasetVersion& parent_;
  PreprocessSettings out_;
};

}  // namespace

bool is_dataset_name(const std::string& name) {
  if (name.empty() || name.size() > 64 || !std::isalnum(static_cast<unsigned char>(name[0]))) return false;
  return std::all_of(name.begin(), name.end(),
                     [](unsigned char c) { return std::isalnum(c) || c == '.' || c == '_' || c == '-'; });
}

Result<PreprocessSettings> PreprocessSettings::parse(const Json& body, const DatasetVersion& parent) {
  if (!body.is_object()) return fail(Code::invalid_argument, "The rules are not a JSON object.");
  return Parser(body, parent).parse();
}

}  // namespace sundog::data
