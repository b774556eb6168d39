#include "functions/requirements.h"

#include <algorithm>

#include "base/crypto.h"

namespace sundog::functions {
namespace {

constexpr size_t kPackagesLimit = 200;
constexpr size_t kLengthLimit = 256;

bool alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

Error bad(std::string_view requirement, std::string_view why) {
  return fail(Code::invalid_argument, "\"" + std::string(requirement.substr(0, 200)) + "\" " + std::string(why) + ".",
              "Write a requirement as in \"scikit-learn==1.9.1\", \"pandas>=2,<3\" or \"uvicorn[standard]\".");
}

Status check(std::string_view requirement) {
  if (requirement.empty()) return bad(requirement, "names no package");
  if (requirement.size() > kLengthLimit) return bad(requirement, "is longer than 256 characters");
  if (requirement.front() == '-') return bad(requirement, "is an option; only packages can be asked for");
  if (requirement.find("://") != std::string_view::npos || requirement.find('@') != std::string_view::npos) {
    return bad(requirement, "is an address; packages come from the server's package index only");
  }
  if (requirement.find('/') != std::string_view::npos || requirement.find('\\') != std::string_view::npos) {
    return bad(requirement, "is a path; packages come from the server's package index only");
  }
  if (!alphanumeric(requirement.front())) return bad(requirement, "does not begin with a package's name");
  constexpr std::string_view kAlso = "._-,<>=!~*+;()'\"[] ";
  for (const char c : requirement) {
    if (!alphanumeric(c) && kAlso.find(c) == std::string_view::npos) return bad(requirement, "is no requirement");
  }
  for (const std::string_view file : {".whl", ".zip", ".gz", ".bz2", ".xz", ".tar", ".tgz", ".txt", ".toml"}) {
    if (requirement.ends_with(file))
      return bad(requirement, "is a file; packages come from the server's package index only");
  }
  return done;
}

std::string digest(std::string_view what, const std::string& python, const std::vector<std::string>& lines) {
  std::string text = std::string(what) + "\n" + python + "\n";
  for (const auto& line : lines) text += line + "\n";
  return sha256_hex(text).substr(0, 32);
}

}  // namespace

Result<std::vector<std::string>> checked_requirements(std::vector<std::string> packages) {
  if (packages.size() > kPackagesLimit) {
    return fail(Code::invalid_argument, "The environment asks for " + std::to_string(packages.size()) +
                                            " packages; the limit is " + std::to_string(kPackagesLimit) + ".");
  }
  for (auto& package : packages) {
    package = std::string(trimmed(package));
    SUNDOG_CHECK(check(package));
  }
  std::ranges::sort(packages);
  const auto same = std::ranges::unique(packages);
  packages.erase(same.begin(), same.end());
  return packages;
}

std::string environment_id(const std::string& python, const std::vector<std::string>& packages) {
  return digest("asked", python, packages);
}

std::string environment_content(const std::string& python, const std::vector<std::string>& resolved) {
  return digest("resolved", python, resolved);
}

std::vector<std::string> resolved_lines(const std::string& text) {
  std::vector<std::string> lines;
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = std::string_view(text).substr(begin, end - begin);
    line = trimmed(line.substr(0, line.find(" #")));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.empty() && line.front() != '#' && line.front() != '-') lines.emplace_back(line);
    begin = end + 1;
  }
  std::ranges::sort(lines);
  return lines;
}

}  // namespace sundog::functions
