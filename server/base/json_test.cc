#include "base/json.h"

#include <gtest/gtest.h>

#include "base/json_writer.h"

namespace sundog {
namespace {

std::string nested(int levels) {
  return std::string(levels, '[') + std::string(levels, ']');
}

TEST(ParseJson, ReadsDocuments) {
  const auto json = parse_json(R"({"a": [1, 2.5, true, null, "café"]})", "the body");
  ASSERT_TRUE(json.ok());
  EXPECT_EQ((*json)["a"][4], "café");
  EXPECT_EQ(*parse_json("9223372036854775807", "x"), INT64_MAX);
}

TEST(ParseJson, RefusesBadInputWithTheByte) {
  for (const auto* text :
       {"", "{", "[1,", "nul", "{\"a\":1}x", "'a'", "\"\xff\"", "{\"a\" 1}", "\"\\ud800\"", "01", "1e999"}) {
    const auto json = parse_json(text, "the body");
    ASSERT_FALSE(json.ok()) << text;
    EXPECT_EQ(json.error().code, Code::invalid_argument);
    EXPECT_NE(json.error().message.find("the body"), std::string::npos);
  }
  EXPECT_EQ(parse_json("[1, x]", "the body").error().message, "The JSON of the body does not parse at byte 5.");
}

TEST(ParseJson, LimitsTheDepth) {
  EXPECT_TRUE(parse_json(nested(64), "x").ok());
  const auto deep = parse_json(nested(65), "the body");
  ASSERT_FALSE(deep.ok());
  EXPECT_NE(deep.error().message.find("64 levels"), std::string::npos);
  EXPECT_FALSE(parse_json(std::string(1'000'000, '['), "x").ok());
  // Brackets in strings are text, also after an escaped quote.
  EXPECT_TRUE(parse_json("\"" + std::string(100, '[') + "\"", "x").ok());
  EXPECT_TRUE(parse_json("\"\\\"" + std::string(100, '[') + "\\\\\"", "x").ok());
  // Many beside each other are not deep.
  std::string wide = "[";
  for (int i = 0; i < 1000; ++i) wide += "[],";
  EXPECT_TRUE(parse_json(wide + "[]]", "x").ok());
}

TEST(Fields, GiveTheValueOrSayWhatIsWrong) {
  const Json object{{"s", "text"}, {"n", 7}, {"d", 1.5}, {"b", true}, {"null", nullptr}};
  EXPECT_EQ(*get_string(object, "s"), "text");
  EXPECT_EQ(*get_int(object, "n"), 7);
  EXPECT_EQ(*get_double(object, "d", 0), 1.5);
  EXPECT_EQ(*get_double(object, "n", 0), 7.0);
  EXPECT_EQ(*get_bool(object, "b", false), true);
  EXPECT_EQ(get_string(object, "n").error().message, "Field \"n\" must be a string, but is number.");
  EXPECT_EQ(get_int(object, "d").error().code, Code::invalid_argument);
  EXPECT_EQ(get_int(object, "s", 1).error().code, Code::invalid_argument);
  EXPECT_EQ(get_double(object, "s", 1).error().code, Code::invalid_argument);
  EXPECT_EQ(get_bool(object, "n", false).error().code, Code::invalid_argument);
  EXPECT_EQ(get_string(object, "none").error().message, "Field \"none\" is missing.");
}

TEST(Fields, FallBackWhenAbsentOrNull) {
  const Json object{{"null", nullptr}};
  for (const auto* key : {"null", "absent"}) {
    EXPECT_EQ(*get_string(object, key, "f"), "f");
    EXPECT_EQ(*get_int(object, key, 3), 3);
    EXPECT_EQ(*get_double(object, key, 0.5), 0.5);
    EXPECT_EQ(*get_bool(object, key, true), true);
    EXPECT_FALSE(get_string(object, key).ok());
    EXPECT_FALSE(get_int(object, key).ok());
  }
  EXPECT_FALSE(get_string(Json::array({1}), "a").ok());
  EXPECT_FALSE(get_int(Json("text"), "a").ok());
}

TEST(Dump, NeverThrowsOverBytesThatAreNotUtf8) {
  EXPECT_EQ(dump(Json{{"a", {1, "é"}}}), R"({"a":[1,"é"]})");
  EXPECT_EQ(dump(Json("a\xff"
                      "b")),
            "\"a\xef\xbf\xbd"
            "b\"");
}

TEST(JsonWriter, WritesWhatParsesToTheSame) {
  const auto text = JsonWriter()
                        .add("plain", "a-b.c")
                        .add("quoted", "say \"no\"\n\\ café \x01")
                        .add("most", INT64_MAX)
                        .add("least", INT64_MIN)
                        .add("small", int64_t{42})
                        .add_json("inner", R"({"a":[1]})")
                        .finish();
  const auto json = parse_json(text, "what was written");
  ASSERT_TRUE(json.ok()) << text;
  const Json expected = {{"plain", "a-b.c"},  {"quoted", "say \"no\"\n\\ café \x01"},
                         {"most", INT64_MAX}, {"least", INT64_MIN},
                         {"small", 42},       {"inner", {{"a", {1}}}}};
  EXPECT_EQ(*json, expected);
}

TEST(JsonWriter, WritesAnEmptyObjectAndReplacesWhatIsNotUtf8) {
  EXPECT_EQ(JsonWriter().finish(), "{}");
  const auto json = parse_json(JsonWriter().add("bytes", "\xff").finish(), "what was written");
  ASSERT_TRUE(json.ok());
  EXPECT_EQ((*json)["bytes"], "\xEF\xBF\xBD");
}

}  // namespace
}  // namespace sundog
