#include "api/json_check.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

namespace sundog::api {
namespace {

TEST(JsonCheck, TakesDocuments) {
  for (const std::string text : {"null", " true ", "-0.5e+10", "0", "\"\"", "[]", "{}", "[1,[2,{\"a\":[]}],{}]",
                                 "{\"a\":{\"b\":[1,2]},\"c\":null}", "\"\\u00e9\\ud83d\\ude00\\n\\/\"",
                                 "\"\xc3\xa9\xf0\x9f\x98\x80\"", "\t[\r\n1 , 2 ]\n", "1E5"}) {
    EXPECT_TRUE(is_json(text)) << text;
  }
}

TEST(JsonCheck, RefusesTheRest) {
  for (const std::string text : {"",
                                 " ",
                                 "{",
                                 "[1,]",
                                 "[,1]",
                                 "{\"a\":1,}",
                                 "{a:1}",
                                 "{'a':1}",
                                 "01",
                                 "-",
                                 "1.",
                                 ".5",
                                 "1e",
                                 "+1",
                                 "nan",
                                 "tru",
                                 "\"",
                                 "\"\\x\"",
                                 "\"\\u12\"",
                                 "\"\\ud800\"",
                                 "\"\\ud800\\u0041\"",
                                 "\"\\udc00\"",
                                 "\"\x01\"",
                                 "1 2",
                                 "[1}",
                                 "{\"a\" 1}",
                                 "{\"a\"}",
                                 "[1 2]",
                                 "]",
                                 "\"\xff\"",
                                 "\"\xc0\x80\"",
                                 "\"\xed\xa0\x80\"",
                                 "\"\xf5\x80\x80\x80\"",
                                 "\"\xe2\x82\""}) {
    EXPECT_FALSE(is_json(text)) << text;
  }
}

TEST(JsonCheck, HoldsAnyDepth) {
  const size_t depth = 2'000'000;
  EXPECT_TRUE(is_json(std::string(depth, '[') + std::string(depth, ']')));
  EXPECT_FALSE(is_json(std::string(depth, '[') + std::string(depth - 1, ']')));
}

// Damages documents at random and compares with a parser that builds them.
TEST(JsonCheck, AgreesWithAParser) {
  const std::string seeds[] = {R"({"a":[1,2.5e-3,true,false,null,"x\u00e9\ud83d\ude00"],"b":{"c":[[],{}]}})",
                               R"([0,-1,"\\\"\/\b\f\n\r\t",{"k":"v"}])"};
  const std::string alphabet =
      "{}[]:,\"\\u0123456789eE+-. tfn\x80\xc3\xa9\xed\x1f"
      "aDbd8";
  std::mt19937 random(7);
  int valid = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string text = seeds[i % 2];
    const int changes = static_cast<int>(random() % 3) + 1;
    for (int change = 0; change < changes; ++change) {
      const size_t at = random() % text.size();
      const char c = alphabet[random() % alphabet.size()];
      if (random() % 2 == 0)
        text[at] = c;
      else if (random() % 2 == 0)
        text.insert(at, 1, c);
      else
        text.erase(at, 1);
    }
    const bool expected = nlohmann::json::accept(text);
    valid += expected ? 1 : 0;
    ASSERT_EQ(is_json(text), expected) << text;
  }
  EXPECT_GT(valid, 1000);
}

}  // namespace
}  // namespace sundog::api
