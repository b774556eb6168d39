#include <arrow/io/memory.h>
#include <arrow/ipc/writer.h>
#include <arrow/util/compression.h>
#include <gmock/gmock.h>
#include <lzma.h>

#include <random>

#include "data/worker/test_tables.h"

namespace sundog::data::worker {
namespace {

using testing::HasSubstr;

std::string compress(arrow::Compression::type type, std::string_view text) {
  auto codec = arrow::util::Codec::Create(type).ValueOrDie();
  auto compressor = codec->MakeCompressor().ValueOrDie();
  std::string out(text.size() + 65536, '\0');
  auto* to = reinterpret_cast<uint8_t*>(out.data());
  const auto step = compressor
                        ->Compress(static_cast<int64_t>(text.size()), reinterpret_cast<const uint8_t*>(text.data()),
                                   static_cast<int64_t>(out.size()), to)
                        .ValueOrDie();
  const auto end =
      compressor->End(static_cast<int64_t>(out.size()) - step.bytes_written, to + step.bytes_written).ValueOrDie();
  out.resize(static_cast<size_t>(step.bytes_written + end.bytes_written));
  return out;
}

std::string compress_xz(std::string_view text) {
  std::string out(text.size() + 65536, '\0');
  size_t used = 0;
  EXPECT_EQ(lzma_easy_buffer_encode(0, LZMA_CHECK_CRC64, nullptr, reinterpret_cast<const uint8_t*>(text.data()),
                                    text.size(), reinterpret_cast<uint8_t*>(out.data()), &used, out.size()),
            LZMA_OK);
  out.resize(used);
  return out;
}

class Ingest : public WorkerTest {};

TEST_F(Ingest, FindsTheNarrowestTypeOfEachColumn) {
  const Json answer = ingest(
      "i,f,b,d,t,s,zip\n1,1.5,true,2026-01-31,2026-01-31T10:00:00Z,a,01234\n-2,3,false,2025-02-28,2026-01-31 "
      "10:00:00.5+01:00,b,99999\n");
  EXPECT_EQ(types_of(answer), "i:int64 f:float64 b:bool d:date t:timestamp s:string zip:string");
  EXPECT_EQ(rows_of(answer), Json::parse(R"([[1,1.5,true,"2026-01-31","2026-01-31T10:00:00","a","01234"],
                                             [-2,3.0,false,"2025-02-28","2026-01-31T09:00:00.500000","b","99999"]])"));
  EXPECT_EQ(answer["shards"][0]["split"], "all");
  EXPECT_GT(answer["shards"][0]["memory_bytes"], 0);
}

TEST_F(Ingest, WidensIntegersWhenALateRowHasAFraction) {
  std::string text = "x\n";
  for (int i = 0; i < 5000; ++i) text += std::to_string(i) + "\n";
  const Json answer = ingest(text + "0.5\n");
  EXPECT_EQ(types_of(answer), "x:float64");
  EXPECT_EQ(answer["rows"], 5001);
}

TEST_F(Ingest, QuarantinesTheFewThatDoNotFitWithLineAndReason) {
  std::string text = "x,y\n";
  for (int i = 0; i < 300; ++i) text += std::to_string(i) + ",a\n";
  const Json answer = ingest(text + "oops,b\n301,c\n");
  EXPECT_EQ(types_of(answer), "x:int64 y:string");
  EXPECT_EQ(answer["rows"], 301);
  EXPECT_EQ(quarantine_of(answer), Json::parse(R"([[302,"column \"x\" is int64, but holds \"oops\"","oops,b"]])"));
  EXPECT_THAT(dump(answer["warnings"]), HasSubstr("read as int64, which 1 of its 302 values are not"));
}

TEST_F(Ingest, KeepsAColumnAsTextWhenMoreThanOneInAHundredIsText) {
  std::string text = "x\n";
  for (int i = 0; i < 95; ++i) text += std::to_string(i) + "\n";
  const Json answer = ingest(text + "a\nb\n");
  EXPECT_EQ(types_of(answer), "x:string");
  EXPECT_EQ(answer["quarantine"]["rows"], 0);
}

TEST_F(Ingest, QuarantinesRaggedRowsAndKeepsLinesRightOverQuotedNewlines) {
  const Json answer = ingest("a,b\n1,\"two\nlines\"\n1\n1,2,3\n4,\"say \"\"hi\"\"\"\n");
  EXPECT_EQ(rows_of(answer), Json::parse(R"([[1,"two\nlines"],[4,"say \"hi\""]])"));
  EXPECT_EQ(quarantine_of(answer),
            Json::parse(R"([[4,"has 1 field, the header has 2","1"],[5,"has 3 fields, the header has 2","1,2,3"]])"));
  EXPECT_EQ(answer["rows_in"], 4);
}

TEST_F(Ingest, ReadsEveryKindOfLineEnd) {
  for (const char* text : {"a,b\n1,2\n3,4", "a,b\r\n1,2\r\n3,4\r\n", "a,b\r1,2\r3,4\r",
                           "\xEF\xBB\xBF"
                           "a,b\n\n1,2\n\n\n3,4\n"}) {
    const Json answer = ingest(text);
    EXPECT_EQ(rows_of(answer), Json::parse("[[1,2],[3,4]]")) << text;
    EXPECT_EQ(types_of(answer), "a:int64 b:int64");
  }
}

TEST_F(Ingest, GoesOnBehindAQuoteThatNeverCloses) {
  const Json answer = ingest("a,b\n1,x\n2,\"open\n3,y\n4,z\n");
  EXPECT_EQ(rows_of(answer), Json::parse(R"([[1,"x"],[3,"y"],[4,"z"]])"));
  EXPECT_EQ(quarantine_of(answer), Json::parse(R"([[3,"a quote opens here and never closes","2,\"open"]])"));
}

TEST_F(Ingest, QuarantinesAHugeRowAndGoesOn) {
  const std::string huge(5 << 20, 'x');
  const Json answer = ingest("a,b\n1,x\n2," + huge + "\n3,z\n");
  EXPECT_EQ(rows_of(answer), Json::parse(R"([[1,"x"],[3,"z"]])"));
  const Json quarantined = quarantine_of(answer);
  ASSERT_EQ(quarantined.size(), 1U);
  EXPECT_EQ(quarantined[0][0], 3);
  EXPECT_EQ(quarantined[0][1], "the row is longer than 4 MB");
}

TEST_F(Ingest, QuarantinesNulBytesStrayTextAndBrokenUtf8) {
  std::string text = "a,b\n";
  for (int i = 0; i < 30; ++i) text += "1,x\n";
  text += std::string("2,\0y\n", 5) + "3,\"q\"z\n4,caf\xE9\n5,caf\xC3\xA9\n";
  const Json answer = ingest(text);
  EXPECT_EQ(answer["rows"], 31);
  const Json quarantined = quarantine_of(answer);
  ASSERT_EQ(quarantined.size(), 3U);
  EXPECT_EQ(quarantined[0][1], "contains a NUL byte");
  EXPECT_EQ(quarantined[1][1], "has text after a closing quote");
  EXPECT_EQ(quarantined[2], Json::parse(R"([34,"is not valid UTF-8","4,café"])"));
}

TEST_F(Ingest, SaysWhatToDoAboutAnotherEncodingAndReadsItWhenTold) {
  const std::string latin = "name,n\ncaf\xE9,1\nna\xEFve,2\n";
  EXPECT_FAILS(try_ingest(latin), Code::invalid_argument, "latin-1");
  EXPECT_EQ(rows_of(ingest(latin, {{"encoding", "latin-1"}})), Json::parse(R"([["café",1],["naïve",2]])"));
  EXPECT_EQ(rows_of(ingest("p\n\x80\n", {{"encoding", "windows-1252"}})), Json::parse(R"([["€"]])"));
  const std::string utf16(
      "\xFF\xFE"
      "a\0\n\0"
      "\x3D\xD8\x00\xDE\n\0",
      12);
  EXPECT_EQ(rows_of(ingest(utf16)), Json::parse(R"([["😀"]])"));
  EXPECT_FAILS(try_ingest("a\n1\n", {{"encoding", "ebcdic"}}), Code::invalid_argument, "iconv");
}

TEST_F(Ingest, TakesMissingMarkersAndTypesFromTheCaller) {
  const Json answer = ingest("a,b,c\n1,NA,x\n?,2,\n", {{"missing", {"", "?", "NA"}}, {"types", {{"b", "string"}}}});
  EXPECT_EQ(types_of(answer), "a:int64? b:string? c:string?");
  EXPECT_EQ(rows_of(answer), Json::parse(R"([[1,null,"x"],[null,"2",null]])"));
  EXPECT_FAILS(try_ingest("a\n1\n", {{"types", {{"A1", "string"}}}}), Code::invalid_argument, "Near it: \"a\"");
}

TEST_F(Ingest, NamesColumnsThatHaveNoNameOrTheSame) {
  const Json answer = ingest("a,,a\n1,2,3\n");
  EXPECT_EQ(types_of(answer), "a:int64 column_2:int64 a_2:int64");
  EXPECT_EQ(answer["warnings"].size(), 2U);
}

TEST_F(Ingest, KeepsAColumnWithoutValues) {
  const Json answer = ingest("a,b\n1,\n2,\n");
  EXPECT_EQ(types_of(answer), "a:int64 b:float64?");
  EXPECT_THAT(dump(answer["warnings"]), HasSubstr("has no values"));
}

TEST_F(Ingest, RefusesFilesWithoutRows) {
  EXPECT_FAILS(try_ingest(""), Code::invalid_argument, "empty");
  EXPECT_FAILS(try_ingest("a,b\n"), Code::invalid_argument, "has no rows");
  EXPECT_FAILS(try_ingest("\n\n"), Code::invalid_argument, "empty");
  EXPECT_FAILS(try_ingest("a,b\n1\n2\n"), Code::invalid_argument, "None of the 2 rows");
  EXPECT_FAILS(try_ingest("PK\x03\x04zip"), Code::invalid_argument, "zip");
}

TEST_F(Ingest, NamesNearColumnsWhenTheLabelIsNotThere) {
  EXPECT_FAILS(try_ingest("income,default\n1,0\n", {{"label", "defualt"}}), Code::invalid_argument,
               "Near it: \"default\"");
}

TEST_F(Ingest, GuessesTheDelimiter) {
  EXPECT_EQ(types_of(ingest("a;b\n1,5;2\n")), "a:string b:int64");
  EXPECT_EQ(types_of(ingest("a\tb\n1\t2\n")), "a:int64 b:int64");
  EXPECT_EQ(types_of(ingest("a|b\n1|2\n", {{"delimiter", "|"}})), "a:int64 b:int64");
}

TEST_F(Ingest, ReadsDatesOfBothOrdersAndLeavesAmbiguousOnesAsText) {
  EXPECT_EQ(types_of(ingest("t\n12/31/2026 7:45\n1/2/2026 8:00\n")), "t:timestamp");
  EXPECT_EQ(types_of(ingest("t\n31.12.2026\n1.2.2026\n")), "t:date");
  EXPECT_EQ(types_of(ingest("t\n1/2/2026\n3/4/2026\n")), "t:string");
}

TEST_F(Ingest, ReadsEveryCompressionAlsoInSeveralMembers) {
  const std::string first = "a,b\n1,2\n", rest = "3,4\n";
  for (const auto& file : {compress(arrow::Compression::GZIP, first) + compress(arrow::Compression::GZIP, rest),
                           compress(arrow::Compression::ZSTD, first + rest), compress_xz(first) + compress_xz(rest)}) {
    EXPECT_EQ(rows_of(ingest(file)), Json::parse("[[1,2],[3,4]]"));
  }
}

TEST_F(Ingest, RefusesBrokenAndCutOffCompression) {
  std::string text = "a,b\n";
  for (int i = 0; i < 20000; ++i) text += std::to_string(i * 7919) + "," + std::to_string(i) + "\n";
  for (auto file :
       {compress(arrow::Compression::GZIP, text), compress(arrow::Compression::ZSTD, text), compress_xz(text)}) {
    EXPECT_FAILS(try_ingest(std::string_view(file).substr(0, file.size() / 2)), Code::invalid_argument,
                 "data ends too early");
    if (file.starts_with("\x28\xB5\x2F\xFD")) continue;  // Arrow's zstd frames carry no checksum
    for (size_t i = file.size() / 2; i < file.size() / 2 + 64; ++i) file[i] = static_cast<char>(~file[i]);
    const auto broken = try_ingest(file);
    ASSERT_FALSE(broken.ok());
    EXPECT_EQ(broken.error().code, Code::invalid_argument);
  }
  EXPECT_FAILS(try_ingest("a\n1\n", {{"compression", "gz"}}), Code::invalid_argument, "not gz");
}

TEST_F(Ingest, ReadsJsonLines) {
  const Json answer =
      ingest("{\"a\":1,\"s\":\"12\"}\n{\"a\":2.5,\"n\":{\"x\":[1]}}\nnot json\n[1]\n\n{\"s\":null,\"b\":true}\n");
  EXPECT_EQ(answer["format"], "jsonl");
  EXPECT_EQ(types_of(answer), "a:float64? s:string? n:string? b:bool?");
  EXPECT_EQ(rows_of(answer),
            Json::parse(R"([[1.0,"12",null,null],[2.5,null,"{\"x\":[1]}",null],[null,null,null,true]])"));
  const Json quarantined = quarantine_of(answer);
  ASSERT_EQ(quarantined.size(), 2U);
  EXPECT_EQ(quarantined[0][0], 3);
  EXPECT_EQ(quarantined[1], Json::parse(R"([4,"is not a JSON object","[1]"])"));
  EXPECT_FAILS(try_ingest("[{\"a\":1}]", {{"format", "jsonl"}}), Code::invalid_argument, "JSON array");
}

std::string parquet_file(FolderHost& host, const Json& answer) {
  return *read_file(host.path(answer["shards"][0]["blob"].get<std::string>()));
}

TEST_F(Ingest, ReadsParquetAndArrow) {
  const Json csv = ingest("a,s,t,b\n1,x,2026-01-31T10:00:00,true\n2,y,2026-02-01T10:00:00,false\n");
  const Json parquet = ingest(parquet_file(host_, csv));
  EXPECT_EQ(parquet["format"], "parquet");
  EXPECT_EQ(types_of(parquet), types_of(csv));
  EXPECT_EQ(rows_of(parquet), rows_of(csv));

  const auto schema = arrow::schema({arrow::field("i", arrow::int16()), arrow::field("f", arrow::float32())});
  arrow::Int16Builder ints;
  arrow::FloatBuilder floats;
  ASSERT_TRUE(ints.AppendValues({1, 2, 3}).ok());
  ASSERT_TRUE(floats.AppendValues({0.5F, std::nanf(""), 2}).ok());
  const auto batch = arrow::RecordBatch::Make(schema, 3, {ints.Finish().ValueOrDie(), floats.Finish().ValueOrDie()});
  for (const bool stream : {false, true}) {
    const auto sink = arrow::io::BufferOutputStream::Create().ValueOrDie();
    const auto writer =
        (stream ? arrow::ipc::MakeStreamWriter(sink, schema) : arrow::ipc::MakeFileWriter(sink, schema)).ValueOrDie();
    ASSERT_TRUE(writer->WriteRecordBatch(*batch).ok());
    ASSERT_TRUE(writer->Close().ok());
    const Json answer = ingest(sink->Finish().ValueOrDie()->ToString());
    EXPECT_EQ(answer["format"], "arrow");
    EXPECT_EQ(types_of(answer), "i:int64 f:float64?");
    EXPECT_EQ(rows_of(answer), Json::parse("[[1,0.5],[2,null],[3,2.0]]"));
  }
}

TEST_F(Ingest, AppliesTypesToParquetAndQuarantinesWhatDoesNotFit) {
  const Json csv = ingest("s\n1\nx\n3\n", {{"types", {{"s", "string"}}}});
  const Json answer = ingest(parquet_file(host_, csv), {{"types", {{"s", "int64"}}}});
  EXPECT_EQ(rows_of(answer), Json::parse("[[1],[3]]"));
  EXPECT_EQ(quarantine_of(answer)[0][0], 2);
}

TEST_F(Ingest, RefusesBrokenParquetWhateverIsBrokenInIt) {
  std::string text = "a,b\n";
  for (int i = 0; i < 2000; ++i) text += std::to_string(i) + ",text" + std::to_string(i % 7) + "\n";
  const std::string good = parquet_file(host_, ingest(text));
  EXPECT_FAILS(try_ingest(std::string_view(good).substr(0, good.size() / 2)), Code::invalid_argument, "Parquet");
  EXPECT_FAILS(try_ingest("PAR1 and then nothing of the kind PAR1"), Code::invalid_argument, "Parquet");
  std::mt19937 random(7);
  for (int i = 0; i < 200; ++i) {
    std::string broken = good;
    for (int flips = 0; flips < 4; ++flips) broken[4 + random() % (broken.size() - 8)] = static_cast<char>(random());
    const auto result = try_ingest(broken);  // may be readable still; must not crash
    if (!result.ok()) EXPECT_FALSE(result.error().message.empty());
  }
}

TEST_F(Ingest, CutsShardsBySize) {
  std::string text = "a,s\n";
  for (int i = 0; i < 60000; ++i)
    text += std::to_string(i) + "," + std::string(60, static_cast<char>('a' + i % 26)) + "\n";
  const Json answer = ingest(text, {{"shard_memory_bytes", 1 << 20}});
  EXPECT_GT(answer["shards"].size(), 3U);
  int64_t rows = 0;
  for (const auto& shard : answer["shards"]) {
    EXPECT_LE(shard["memory_bytes"].get<int64_t>(), 1 << 20);
    rows += shard["rows"].get<int64_t>();
  }
  EXPECT_EQ(rows, 60000);
}

TEST_F(Ingest, RefusesUnknownTasksAndArguments) {
  EXPECT_FAILS(run("steal", Json::object(), host_), Code::invalid_argument, "no data task");
  EXPECT_FAILS(run("ingest", Json::array(), host_), Code::invalid_argument, "JSON object");
  EXPECT_FAILS(run("ingest", {{"blob", std::string(64, 'a')}}, host_), Code::not_found, "No blob");
  EXPECT_FAILS(try_ingest("a\n1\n", {{"format", "xlsx"}}), Code::invalid_argument, "xlsx");
  EXPECT_FAILS(try_ingest("a\n1\n", {{"delimiter", "ab"}}), Code::invalid_argument, "delimiter");
  EXPECT_FAILS(run_payload("{\"task\":", host_), Code::invalid_argument, "payload");
}

}  // namespace
}  // namespace sundog::data::worker
