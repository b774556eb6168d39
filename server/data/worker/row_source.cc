#include "data/worker/row_source.h"

#include <algorithm>
#include <cctype>
#include <numeric>

namespace sundog::data::worker {
namespace {

std::string lower(std::string_view text) {
  std::string out(text.substr(0, 200));
  std::transform(out.begin(), out.end(), out.begin(), [](unsigned char c) { return std::tolower(c); });
  return out;
}

size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row.back();
}

// Length of the UTF-8 sequence at `p`, 0 if it is not one (overlong, surrogate, beyond U+10FFFF, cut off).
size_t sequence_length(const unsigned char* p, size_t left) {
  const auto tail = [&](size_t i) { return i < left && (p[i] & 0xC0) == 0x80; };
  if (p[0] < 0x80) return 1;
  if (p[0] >= 0xC2 && p[0] <= 0xDF) return tail(1) ? 2 : 0;
  if (p[0] >= 0xE0 && p[0] <= 0xEF) {
    if (!tail(1) || !tail(2)) return 0;
    if (p[0] == 0xE0 && p[1] < 0xA0) return 0;
    if (p[0] == 0xED && p[1] > 0x9F) return 0;
    return 3;
  }
  if (p[0] >= 0xF0 && p[0] <= 0xF4) {
    if (!tail(1) || !tail(2) || !tail(3)) return 0;
    if (p[0] == 0xF0 && p[1] < 0x90) return 0;
    if (p[0] == 0xF4 && p[1] > 0x8F) return 0;
    return 4;
  }
  return 0;
}

}  // namespace

bool is_utf8(std::string_view text) {
  const auto* p = reinterpret_cast<const unsigned char*>(text.data());
  size_t i = 0;
  while (i < text.size()) {
    if (p[i] < 0x80) {
      ++i;
      continue;
    }
    const size_t length = sequence_length(p + i, text.size() - i);
    if (length == 0) return false;
    i += length;
  }
  return true;
}

std::string near_names(std::string_view name, const std::vector<std::string>& known) {
  const std::string wanted = lower(name);
  std::vector<std::pair<size_t, std::string>> ranked;
  for (const auto& candidate : known) {
    const std::string other = lower(candidate);
    const bool inside = !wanted.empty() && (other.find(wanted) != std::string::npos ||
                                            (!other.empty() && wanted.find(other) != std::string::npos));
    const size_t distance = inside ? 1 : edit_distance(wanted, other);
    if (distance <= std::max<size_t>(2, wanted.size() / 3)) ranked.emplace_back(distance, candidate);
  }
  std::sort(ranked.begin(), ranked.end());
  std::string out;
  if (ranked.empty()) {
    for (size_t i = 0; i < std::min<size_t>(known.size(), 8); ++i) out += (i ? ", \"" : "\"") + known[i] + "\"";
    return "The columns are " + out + (known.size() > 8 ? ", …" : "") + ".";
  }
  for (size_t i = 0; i < std::min<size_t>(ranked.size(), 3); ++i) out += (i ? ", \"" : "\"") + ranked[i].second + "\"";
  return "Near it: " + out + ".";
}

}  // namespace sundog::data::worker
