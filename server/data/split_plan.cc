#include "data/split_plan.h"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <unordered_set>

namespace sundog::data {
namespace {

struct Place {
  uint32_t shard;
  uint32_t row;
};

uint64_t mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30U)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27U)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31U);
}

// `total` in the shares' proportions, by largest remainder: whole numbers whose sum is `total`.
std::array<int64_t, 3> portions(int64_t total, const std::array<double, 3>& shares) {
  std::array<int64_t, 3> out{};
  std::array<double, 3> rest{};
  int64_t given = 0;
  for (size_t i = 0; i < 3; ++i) {
    const double exact = shares[i] * static_cast<double>(total);
    out[i] = static_cast<int64_t>(std::floor(exact + 1e-9));
    rest[i] = exact - static_cast<double>(out[i]);
    given += out[i];
  }
  for (; given < total; ++given) {
    size_t most = 0;
    for (size_t i = 1; i < 3; ++i) {
      if (rest[i] > rest[most]) most = i;
    }
    ++out[most];
    rest[most] -= 1;
  }
  return out;
}

class Planner {
 public:
  Planner(const std::vector<ShardIndex>& shards, const SplitSettings& settings, const std::string& label,
          bool drop_duplicates)
      : shards_(shards), settings_(settings), label_(label), drop_duplicates_(drop_duplicates) {}

  Result<SplitPlan> plan() {
    name_classes();
    SUNDOG_CHECK(collect());
    SUNDOG_CHECK(check_label());
    SUNDOG_CHECK(cut());
    SUNDOG_CHECK(balance());
    count();
    return std::move(out_);
  }

 private:
  // One numbering of classes over all shards, in order of name.
  void name_classes() {
    std::map<std::string, uint32_t> codes;
    for (const auto& shard : shards_) {
      for (const auto& name : shard.classes) codes[name] = 0;
    }
    for (auto& [name, code] : codes) {
      code = static_cast<uint32_t>(names_.size());
      names_.push_back(name);
    }
    for (const auto& shard : shards_) {
      auto& translation = translations_.emplace_back();
      for (const auto& name : shard.classes) translation.push_back(codes[name]);
    }
    classed_ = !names_.empty() ||
               std::any_of(shards_.begin(), shards_.end(), [](const auto& s) { return !s.rows.classes.empty(); });
  }

  uint32_t class_of(Place place) const {
    const auto& shard = shards_[place.shard];
    if (shard.rows.classes.empty()) return kNoClass;
    const uint32_t code = shard.rows.classes[place.row];
    return code < translations_[place.shard].size() ? translations_[place.shard][code] : kNoClass;
  }

  uint64_t order_of(Place place, uint64_t salt) const {
    return mix(mix(settings_.seed + salt) ^ static_cast<uint64_t>(first_rows_[place.shard] + place.row));
  }

  Status collect() {
    std::unordered_set<uint64_t> seen;
    int64_t first_row = 0;
    for (uint32_t s = 0; s < shards_.size(); ++s) {
      const RowIndex& index = shards_[s].rows;
      first_rows_.push_back(first_row);
      first_row += static_cast<int64_t>(index.fates.size());
      out_.shards.emplace_back().parts.assign(index.fates.size(), Part::out);
      for (uint32_t row = 0; row < index.fates.size(); ++row) {
        if (index.fates[row] != 0) continue;
        if (drop_duplicates_ && !seen.insert(index.hashes[row]).second) {
          out_.shards[s].parts[row] = Part::duplicate;
          ++out_.duplicates;
          continue;
        }
        kept_.push_back({s, row});
      }
    }
    if (kept_.empty())
      return fail(Code::invalid_argument, "The rules leave no rows.",
                  "See the quarantine's reasons, and loosen ranges or drop_rows.");
    return done;
  }

  Status check_label() {
    if (!classed_) return done;
    int64_t unlabelled = 0;
    std::vector<bool> present(names_.size(), false);
    for (const Place place : kept_) {
      const uint32_t code = class_of(place);
      if (code == kNoClass) {
        ++unlabelled;
      } else {
        present[code] = true;
      }
    }
    if (unlabelled > 0) {
      return fail(Code::invalid_argument,
                  std::to_string(unlabelled) + " of " + std::to_string(kept_.size()) +
                      " rows have no label: column \"" + label_ + "\" is missing there.",
                  "Drop them: missing.drop_rows [\"" + label_ + "\"].");
    }
    const auto classes = std::count(present.begin(), present.end(), true);
    if (classes == 1) {
      const auto only = static_cast<size_t>(std::find(present.begin(), present.end(), true) - present.begin());
      return fail(
          Code::invalid_argument,
          "Every row has the same label: \"" + label_ + "\" is always \"" + names_[only] + "\".",
          "There is nothing to learn from one class. Is it the right column, and do the rules drop the others?");
    }
    return done;
  }

  void assign(const std::vector<Place>& ordered) {
    const auto sizes = portions(static_cast<int64_t>(ordered.size()), settings_.parts);
    size_t at = 0;
    for (size_t part = 0; part < 3; ++part) {
      for (int64_t i = 0; i < sizes[part]; ++i, ++at) {
        out_.shards[ordered[at].shard].parts[ordered[at].row] = static_cast<Part>(part);
      }
    }
  }

  void shuffle(std::vector<Place>& places, uint64_t salt) const {
    std::vector<std::pair<uint64_t, Place>> keyed;
    keyed.reserve(places.size());
    for (const Place place : places) keyed.emplace_back(order_of(place, salt), place);
    std::sort(keyed.begin(), keyed.end(), [](const auto& a, const auto& b) {
      if (a.first != b.first) return a.first < b.first;
      return std::pair(a.second.shard, a.second.row) < std::pair(b.second.shard, b.second.row);
    });
    for (size_t i = 0; i < places.size(); ++i) places[i] = keyed[i].second;
  }

  Status cut() {
    if (settings_.by == SplitBy::time) {
      const auto time = [&](Place p) { return shards_[p.shard].rows.times[p.row]; };
      const auto missing = std::count_if(kept_.begin(), kept_.end(), [&](Place p) { return time(p) == kNoTime; });
      if (missing > 0) {
        return fail(Code::invalid_argument,
                    std::to_string(missing) + " rows have no time in column \"" + settings_.column + "\".",
                    "Drop them: missing.drop_rows [\"" + settings_.column + "\"].");
      }
      std::vector<Place> ordered = kept_;
      std::sort(ordered.begin(), ordered.end(), [&](Place a, Place b) {  // rows of the same time stay in their order
        return std::tuple(time(a), a.shard, a.row) < std::tuple(time(b), b.shard, b.row);
      });
      assign(ordered);
      return done;
    }
    if (settings_.by == SplitBy::random) {
      std::vector<Place> ordered = kept_;
      shuffle(ordered, 0);
      assign(ordered);
      return done;
    }
    for (auto& places : by_class(kept_)) {
      shuffle(places, 0);
      assign(places);
    }
    return done;
  }

  std::vector<std::vector<Place>> by_class(const std::vector<Place>& places) const {
    std::vector<std::vector<Place>> out(names_.size());
    for (const Place place : places) out[class_of(place)].push_back(place);
    return out;
  }

  Status balance() {
    if (settings_.balance == Balance::none) return done;
    std::vector<Place> train;
    for (const Place place : kept_) {
      if (out_.shards[place.shard].parts[place.row] == Part::train) train.push_back(place);
    }
    auto classes = by_class(train);
    std::erase_if(classes, [](const auto& places) { return places.empty(); });
    if (classes.size() < 2) {
      return fail(Code::invalid_argument,
                  "The training part has one class of \"" + label_ + "\" only and cannot be balanced.",
                  "Split stratified, or leave balance at none.");
    }
    size_t least = SIZE_MAX, most = 0;
    for (const auto& places : classes) {
      least = std::min(least, places.size());
      most = std::max(most, places.size());
    }
    if (settings_.balance == Balance::weights) {
      for (const auto& places : classes) {
        out_.weights[names_[class_of(places[0])]] =
            static_cast<double>(train.size()) /
            (static_cast<double>(classes.size()) * static_cast<double>(places.size()));
      }
      return done;
    }
    if (settings_.balance == Balance::oversample) {
      for (auto& shard : out_.shards) shard.copies.assign(shard.parts.size(), 1);
    }
    for (auto& places : classes) {
      shuffle(places, 1);
      if (settings_.balance == Balance::undersample) {
        for (size_t i = least; i < places.size(); ++i)
          out_.shards[places[i].shard].parts[places[i].row] = Part::undersampled;
        continue;
      }
      if (most / places.size() + 1 > UINT16_MAX) {
        return fail(Code::invalid_argument,
                    "A class has " + std::to_string(places.size()) + " rows and the largest " + std::to_string(most) +
                        ": too far apart to over-sample.",
                    "Use weights.");
      }
      for (size_t i = 0; i < places.size(); ++i) {
        out_.shards[places[i].shard].copies[places[i].row] =
            static_cast<uint16_t>(most / places.size() + (i < most % places.size() ? 1 : 0));
      }
    }
    return done;
  }

  void count() {
    for (const Place place : kept_) {
      const RowAssignment& shard = out_.shards[place.shard];
      const Part part = shard.parts[place.row];
      const size_t at = part == Part::undersampled ? 0 : static_cast<size_t>(part);
      if (classed_) ++out_.classes[names_[class_of(place)]][at];
      if (part != Part::undersampled) out_.rows[at] += shard.copies.empty() ? 1 : shard.copies[place.row];
    }
  }

  const std::vector<ShardIndex>& shards_;
  const SplitSettings& settings_;
  const std::string& label_;
  bool drop_duplicates_;
  bool classed_ = false;
  std::vector<std::string> names_;
  std::vector<std::vector<uint32_t>> translations_;
  std::vector<int64_t> first_rows_;
  std::vector<Place> kept_;
  SplitPlan out_;
};

Error no_values(const std::string& column, const std::string& by) {
  return fail(Code::invalid_argument,
              "Column \"" + column + "\" has no values in the training part, so it has no " + by + ".",
              "Fill it with a value of your own, or drop it.");
}

}  // namespace

Result<SplitPlan> make_split_plan(const std::vector<ShardIndex>& shards, const SplitSettings& settings,
                                  const std::string& label, bool drop_duplicates) {
  return Planner(shards, settings, label, drop_duplicates).plan();
}

Result<Json> fill_value(const std::string& column, const std::string& by, const std::vector<Json>& statistics) {
  if (by == "mean") {
    double sum = 0;
    int64_t count = 0;
    for (const auto& one : statistics) {
      SUNDOG_TRY(part, get_double(one, "sum", 0));
      SUNDOG_TRY(rows, get_int(one, "count"));
      sum += part;
      count += rows;
    }
    if (count == 0) return no_values(column, by);
    return Json(sum / static_cast<double>(count));
  }
  std::map<Json, int64_t> counts;
  int64_t total = 0;
  for (const auto& one : statistics) {
    const Json values = one.value("values", Json::array()), rows = one.value("counts", Json::array());
    if (values.size() != rows.size()) return fail(Code::internal, "A shard's statistics do not fit together.");
    for (size_t i = 0; i < values.size(); ++i) {
      if (!rows[i].is_number()) return fail(Code::internal, "A shard's statistics hold a count that is no number.");
      counts[values[i]] += rows[i].get<int64_t>();
      total += rows[i].get<int64_t>();
    }
  }
  if (total == 0) return no_values(column, by);
  if (by == "most_frequent") {
    const auto most = std::max_element(counts.begin(), counts.end(),
                                       [](const auto& a, const auto& b) { return a.second < b.second; });
    return most->first;
  }
  // The median: the middle value, or the mean of the two in the middle.
  const auto at = [&](int64_t rank) {
    int64_t passed = 0;
    for (const auto& [value, rows] : counts) {
      passed += rows;
      if (passed > rank && value.is_number()) return value.get<double>();
    }
    return 0.0;
  };
  return Json((at((total - 1) / 2) + at(total / 2)) / 2);
}

std::vector<std::vector<size_t>> groups_to_pack(const std::vector<int64_t>& memory, int64_t target) {
  std::vector<std::vector<size_t>> out;
  std::vector<size_t> group;
  int64_t size = 0;
  const auto close = [&] {
    if (group.size() > 1) out.push_back(group);
    group.clear();
    size = 0;
  };
  for (size_t i = 0; i < memory.size(); ++i) {
    if (size + memory[i] > target) close();
    group.push_back(i);
    size += memory[i];
  }
  close();
  return out;
}

}  // namespace sundog::data
