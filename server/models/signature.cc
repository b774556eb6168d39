#include "models/signature.h"

namespace sundog::models {
namespace {

const std::map<std::string, std::string, std::less<>>& datatypes() {
  static const std::map<std::string, std::string, std::less<>> table{{"int64", "INT64"},     {"float64", "FP64"},
                                                                     {"bool", "BOOL"},       {"string", "BYTES"},
                                                                     {"timestamp", "BYTES"}, {"date", "BYTES"}};
  return table;
}

Result<Json> checked_column(const Json& column, bool with_nullable) {
  if (!column.is_object()) return fail(Code::invalid_argument, "A signature's column is an object with name and type");
  SUNDOG_TRY(name, get_string(column, "name"));
  if (name.empty() || name.size() > 256) {
    return fail(Code::invalid_argument, "A signature's column has a name of 1 to 256 bytes, not \"" + name + "\"");
  }
  SUNDOG_TRY(type, get_string(column, "type"));
  if (!datatypes().contains(type)) {
    return fail(Code::invalid_argument, "Column \"" + name + "\" of the signature has type \"" + type + "\"",
                "One of int64, float64, string, bool, timestamp, date.");
  }
  Json out{{"name", name}, {"type", type}};
  if (with_nullable) {
    SUNDOG_TRY(nullable, get_bool(column, "nullable", true));
    out["nullable"] = nullable;
  }
  return out;
}

Result<Json> checked_columns(const Json& signature, const char* side) {
  const auto columns = signature.find(side);
  if (columns == signature.end() || !columns->is_array() || columns->empty() || columns->size() > 10'000) {
    return fail(Code::invalid_argument, std::string("A signature's ") + side + " are a list of 1 to 10,000 columns");
  }
  Json out = Json::array();
  std::set<std::string> names;
  for (const auto& column : *columns) {
    SUNDOG_TRY(checked, checked_column(column, std::string_view(side) == "inputs"));
    if (!names.insert(checked["name"]).second) {
      return fail(Code::invalid_argument, "The signature has two " + std::string(side) + " named \"" +
                                              checked["name"].get<std::string>() + "\"");
    }
    out.push_back(std::move(checked));
  }
  return out;
}

}  // namespace

Result<Json> checked_signature(const Json& signature) {
  if (!signature.is_object()) {
    return fail(Code::invalid_argument, "A model needs a signature", R"({"inputs":[{"name","type"}],"outputs":[…]})");
  }
  SUNDOG_TRY(inputs, checked_columns(signature, "inputs"));
  SUNDOG_TRY(outputs, checked_columns(signature, "outputs"));
  return Json{{"inputs", std::move(inputs)}, {"outputs", std::move(outputs)}};
}

Json tensors_of(const Json& columns) {
  Json tensors = Json::array();
  for (const auto& column : columns) {
    const auto found = datatypes().find(column["type"].get<std::string>());
    tensors.push_back({{"name", column["name"]}, {"datatype", found->second}, {"shape", {-1, 1}}});
  }
  return tensors;
}

}  // namespace sundog::models
