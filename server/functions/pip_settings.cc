#include "functions/pip_settings.h"

#include <unistd.h>

#include <algorithm>

namespace sundog::functions {
namespace {

std::string value_of(const Variables& variables, const std::string& name) {
  const auto found = variables.find(name);
  return found == variables.end() ? "" : found->second;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t' || text.front() == '\r')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r')) text.remove_suffix(1);
  return text;
}

// pip separates by spaces; uv's UV_FIND_LINKS by commas.
std::string with_commas(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const size_t end = std::min(text.find(' ', i), text.size());
    if (end > i) out += (out.empty() ? "" : ",") + std::string(text.substr(i, end - i));
    i = end + 1;
  }
  return out;
}

std::string pip_variable(std::string_view key) {
  std::string name = "PIP_";
  for (const char c : key) name += c == '-' ? '_' : static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  return name;
}

}  // namespace

Variables process_variables() {
  Variables variables;
  for (char** each = environ; each != nullptr && *each != nullptr; ++each) {
    const std::string_view pair(*each);
    const size_t equals = pair.find('=');
    if (equals == std::string_view::npos || equals == 0) continue;
    variables[std::string(pair.substr(0, equals))] = pair.substr(equals + 1);
  }
  return variables;
}

std::vector<Path> pip_files(const Variables& variables) {
  const std::string named = value_of(variables, "PIP_CONFIG_FILE");
  if (named == "/dev/null") return {};
  const std::string home = value_of(variables, "HOME");
  std::string config = value_of(variables, "XDG_CONFIG_HOME");
  if (config.empty() && !home.empty()) config = home + "/.config";
  std::vector<Path> files{"/etc/xdg/pip/pip.conf", "/etc/pip.conf"};
  if (!home.empty()) files.emplace_back(home + "/.pip/pip.conf");
  if (!config.empty()) files.emplace_back(config + "/pip/pip.conf");
  if (!named.empty()) files.emplace_back(named);
  return files;
}

std::map<std::string, std::string> parse_pip_file(std::string_view text) {
  std::map<std::string, std::string> settings;
  bool ours = false;
  std::string key;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const std::string_view content = trimmed(line);
    if (content.empty() || content.front() == '#' || content.front() == ';') continue;
    if (content.front() == '[') {
      ours = content == "[global]" || content == "[install]";
      key.clear();
      continue;
    }
    if (!ours) continue;
    if (line.front() == ' ' || line.front() == '\t') {  // goes on with the value above
      if (!key.empty()) settings[key] += (settings[key].empty() ? "" : " ") + std::string(content);
      continue;
    }
    const size_t sign = content.find_first_of("=:");
    if (sign == std::string_view::npos) continue;
    key = trimmed(content.substr(0, sign));
    std::ranges::replace(key, '_', '-');
    settings[key] = trimmed(content.substr(sign + 1));
  }
  return settings;
}

Variables uv_variables(Variables variables, const std::vector<std::string>& files) {
  std::map<std::string, std::string> settings;
  for (const auto& file : files) {
    for (auto& [key, value] : parse_pip_file(file)) settings[key] = std::move(value);
  }
  const auto pip = [&](const std::string& key) {
    std::string value = value_of(variables, pip_variable(key));
    if (value.empty()) value = settings[key];
    return value == "None" ? std::string() : value;
  };
  const auto give = [&](const std::string& name, const std::string& value) {
    if (!value.empty() && value_of(variables, name).empty()) variables[name] = value;
  };
  if (value_of(variables, "UV_INDEX_URL").empty()) give("UV_DEFAULT_INDEX", pip("index-url"));
  if (value_of(variables, "UV_EXTRA_INDEX_URL").empty()) give("UV_INDEX", pip("extra-index-url"));
  give("UV_FIND_LINKS", with_commas(pip("find-links")));
  give("UV_INSECURE_HOST", pip("trusted-host"));
  give("SSL_CERT_FILE", pip("cert"));
  const std::string no_index = pip("no-index");
  if (no_index == "1" || no_index == "true" || no_index == "yes") give("UV_NO_INDEX", "1");
  return variables;
}

std::string without_credentials(std::string_view text) {
  std::string out;
  while (true) {
    const size_t scheme = text.find("://");
    if (scheme == std::string_view::npos) return out + std::string(text);
    out += text.substr(0, scheme + 3);
    text.remove_prefix(scheme + 3);
    const size_t host_end = std::min(text.find_first_of("/ \t\r\n\"'`?#"), text.size());
    const size_t at = text.substr(0, host_end).rfind('@');
    if (at == std::string_view::npos) continue;
    out += "***";
    text.remove_prefix(at);
  }
}

}  // namespace sundog::functions
