#include "models/endpoint_record.h"

#include <fmt/format.h>

#include <cmath>

namespace sundog::models {

std::string function_of(const std::string& model) {
  return "model-" + model;
}

std::string default_alias(const Json& endpoint) {
  const auto& aliases = endpoint["aliases"];
  if (aliases.contains("live")) return "live";
  return aliases.empty() ? "" : aliases.begin().key();
}

std::string main_version(const Json& endpoint, const std::string& alias) {
  std::string best;
  double share = -1;
  for (const auto& [version, weight] : endpoint["aliases"][alias]["weights"].items()) {
    if (weight.get<double>() > share) {
      share = weight;
      best = version;
    }
  }
  return best;
}

Json shown_endpoint(const Json& endpoint, const std::string& alias) {
  return {{"model", endpoint["model"]},
          {"alias", alias},
          {"function", endpoint["function"]},
          {"weights", endpoint["aliases"][alias]["weights"]},
          {"url", "/v2/models/" + endpoint["model"].get<std::string>() + "/infer"},
          {"memory_mb", endpoint["memory_mb"]},
          {"versions", endpoint["versions"]}};
}

Result<std::map<std::string, double>> checked_weights(const Json& weights, const Json& endpoint) {
  if (!weights.is_object() || weights.empty() || weights.size() > 2) {
    return fail(Code::invalid_argument, "\"weights\" gives one or two model versions their share of the traffic",
                R"({"1":0.9,"2":0.1})");
  }
  std::map<std::string, double> out;
  double sum = 0;
  for (const auto& [version, weight] : weights.items()) {
    if (!endpoint["versions"].contains(version)) {
      return fail(
          Code::not_found,
          fmt::format("Version {} of model \"{}\" is not deployed", version, endpoint["model"].get<std::string>()),
          "Deploy it first, under another alias if it is to get no traffic yet.");
    }
    if (!weight.is_number() || !std::isfinite(weight.get<double>()) || weight < 0 || weight > 1) {
      return fail(Code::invalid_argument, "The share of version " + version + " is not a number from 0 to 1");
    }
    sum += weight.get<double>();
    if (weight > 0) out[version] = weight;
  }
  if (std::abs(sum - 1) > 1e-6) {
    return fail(Code::invalid_argument, fmt::format("The shares' sum is {}, not 1", sum));
  }
  return out;
}

Result<std::map<std::string, double>> shares_with(const Json& endpoint, const std::string& alias,
                                                  const std::string& version, double weight) {
  const Json& aliases = endpoint["aliases"];
  std::string other;
  if (weight < 1 && aliases.contains(alias)) {
    for (const auto& [now, _] : aliases[alias]["weights"].items()) {
      if (now == version) continue;
      if (!other.empty()) {
        return fail(
            Code::conflict,
            fmt::format("Versions {} and {} already share alias \"{}\", and two are the most", other, now, alias),
            "Give all the traffic to one of them first.");
      }
      other = now;
    }
  }
  if (other.empty()) return std::map<std::string, double>{{version, 1.0}};
  return std::map<std::string, double>{{version, weight}, {other, 1 - weight}};
}

functions::Alias alias_for(const std::string& name, const std::map<std::string, double>& weights,
                           const Json& endpoint) {
  functions::Alias alias;
  alias.name = name;
  const auto main = std::max_element(weights.begin(), weights.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  alias.version = endpoint["versions"][main->first];
  for (auto it = weights.begin(); it != weights.end(); ++it) {
    const std::string other = endpoint["versions"][it->first];
    // Two model versions with the same bytes are one function version.
    if (it != main && other != alias.version) alias.weights[other] = it->second;
  }
  return alias;
}

}  // namespace sundog::models
