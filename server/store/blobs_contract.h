// What every Blobs promises, as tests. A back end is added by one INSTANTIATE_TEST_SUITE_P in blobs_test.cc.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "base/crypto.h"
#include "store/blobs.h"
#include "store/test_folder.h"

namespace sundog::store {

// A place where objects stay while no Blobs is open on it.
class BlobsHome {
 public:
  virtual ~BlobsHome() = default;
  virtual Result<std::unique_ptr<Blobs>> open() = 0;
  // Changes a byte of a stored object behind the store's back.
  virtual void damage(const BlobId& id) = 0;
};

struct BlobsBackEnd {
  std::string name;
  std::function<std::unique_ptr<BlobsHome>()> make;
};

class BlobsContract : public testing::TestWithParam<BlobsBackEnd> {
 protected:
  BlobsContract() : home_(GetParam().make()) { reopen(); }
  void reopen() {
    blobs_.reset();
    auto opened = home_->open();
    if (!opened.ok()) throw std::runtime_error(opened.error().text());
    blobs_ = std::move(*opened);
  }
  std::vector<BlobId> ids() {
    std::vector<BlobId> found;
    EXPECT_OK(blobs_->list([&](const BlobInfo& blob) {
      found.push_back(blob.id);
      return true;
    }));
    return found;
  }

  std::unique_ptr<BlobsHome> home_;
  std::unique_ptr<Blobs> blobs_;
};

// Yields pieces of odd sizes, then ends or fails.
class UnevenSource final : public ByteSource {
 public:
  UnevenSource(std::string_view content, bool fails) : rest_(content), fails_(fails) {}
  Result<size_t> read(Bytes& out, size_t limit) override {
    if (rest_.empty() && fails_) return fail(Code::cancelled, "The client went away.");
    const auto piece = rest_.substr(0, std::min(limit, size_t{1} + (reads_++ * 7919) % 10'007));
    out.append(piece);
    rest_.remove_prefix(piece.size());
    return piece.size();
  }

 private:
  std::string_view rest_;
  bool fails_;
  size_t reads_ = 0;
};

TEST_P(BlobsContract, GivesBackWhatWasPutUnderItsHash) {
  for (const auto& content : {std::string(), std::string("a\0b", 3), random_bytes(3 << 20)}) {
    UnevenSource source(content, false);
    SUNDOG_VALUE(blob, blobs_->put(source));
    EXPECT_EQ(blob.id, sha256_hex(content));
    EXPECT_TRUE(is_blob_id(blob.id));
    EXPECT_EQ(blob.bytes, static_cast<int64_t>(content.size()));
    SUNDOG_VALUE(found, blobs_->get(blob.id));
    EXPECT_TRUE(found == content);
    SUNDOG_VALUE(info, blobs_->info(blob.id));
    EXPECT_EQ(info.bytes, blob.bytes);
    EXPECT_OK(blobs_->verify(blob.id));
  }
}

TEST_P(BlobsContract, ReadsRangesAndRefusesThosePastTheEnd) {
  SUNDOG_VALUE(blob, blobs_->put("0123456789"));
  const auto range = [&](int64_t offset, int64_t length) { return blobs_->get(blob.id, offset, length); };
  EXPECT_EQ(*range(0, 10), "0123456789");
  EXPECT_EQ(*range(3, 4), "3456");
  EXPECT_EQ(*range(10, 0), "");
  EXPECT_CODE(range(0, 11), Code::invalid_argument);
  EXPECT_CODE(range(11, 0), Code::invalid_argument);
  EXPECT_CODE(range(-1, 2), Code::invalid_argument);
  EXPECT_CODE(range(2, -1), Code::invalid_argument);
  EXPECT_CODE(range(5, INT64_MAX), Code::invalid_argument);
}

TEST_P(BlobsContract, SaysWhatIsNotThere) {
  const BlobId absent(64, 'a');
  for (const auto& id : {absent, std::string("../../etc/passwd"), std::string(), std::string(64, 'G')}) {
    EXPECT_CODE(blobs_->get(id), Code::not_found);
    EXPECT_CODE(blobs_->get(id, 0, 0), Code::not_found);
    EXPECT_CODE(blobs_->info(id), Code::not_found);
    EXPECT_CODE(blobs_->open(id), Code::not_found);
    EXPECT_CODE(blobs_->remove(id), Code::not_found);
    EXPECT_CODE(blobs_->verify(id), Code::not_found);
  }
}

TEST_P(BlobsContract, TheSameContentTwiceIsOneObject) {
  SUNDOG_VALUE(first, blobs_->put("same"));
  SUNDOG_VALUE(second, blobs_->put("same"));
  EXPECT_EQ(first.id, second.id);
  EXPECT_EQ(ids(), std::vector{first.id});
}

TEST_P(BlobsContract, ListsInOrderOfAddressUntilToldToStop) {
  EXPECT_TRUE(ids().empty());
  std::vector<BlobId> expected;
  for (int i = 0; i < 30; ++i) {
    SUNDOG_VALUE(blob, blobs_->put("blob " + std::to_string(i)));
    expected.push_back(blob.id);
  }
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(ids(), expected);
  int calls = 0;
  EXPECT_OK(blobs_->list([&](const BlobInfo& blob) {
    EXPECT_GT(blob.bytes, 0);
    return ++calls < 5;
  }));
  EXPECT_EQ(calls, 5);
}

TEST_P(BlobsContract, KeepsEverythingOverAReopen) {
  SUNDOG_VALUE(kept, blobs_->put("kept"));
  SUNDOG_VALUE(gone, blobs_->put("gone"));
  EXPECT_OK(blobs_->remove(gone.id));
  reopen();
  EXPECT_EQ(ids(), std::vector{kept.id});
  EXPECT_EQ(*blobs_->get(kept.id), "kept");
  EXPECT_CODE(blobs_->get(gone.id), Code::not_found);
  EXPECT_OK(blobs_->put("gone"));
}

TEST_P(BlobsContract, ASourceThatFailsLeavesNothing) {
  const auto content = random_bytes(1 << 20);
  UnevenSource source(content, true);
  EXPECT_CODE(blobs_->put(source), Code::cancelled);
  EXPECT_TRUE(ids().empty());
}

TEST_P(BlobsContract, VerifyFindsDamage) {
  SUNDOG_VALUE(blob, blobs_->put(random_bytes(100'000)));
  home_->damage(blob.id);
  EXPECT_CODE(blobs_->verify(blob.id), Code::data_loss);
}

TEST_P(BlobsContract, OpenGivesAReadOnlyDescriptorThatOutlivesRemoval) {
  SUNDOG_VALUE(blob, blobs_->put("content"));
  SUNDOG_VALUE(fd, blobs_->open(blob.id));
  EXPECT_LT(::write(fd.get(), "x", 1), 0);
  EXPECT_OK(blobs_->remove(blob.id));
  char buffer[16];
  EXPECT_EQ(::pread(fd.get(), buffer, sizeof buffer, 0), 7);
}

TEST_P(BlobsContract, StoresWhatWasWrittenIntoAScratchFile) {
  const auto content = random_bytes(1 << 20);
  SUNDOG_VALUE(fd, blobs_->scratch());
  EXPECT_OK(write_all(fd.get(), content));
  SUNDOG_VALUE(blob, blobs_->put_file(fd.get()));
  EXPECT_EQ(blob.id, sha256_hex(content));
  // Whoever still holds the descriptor cannot change the object.
  EXPECT_EQ(::pwrite(fd.get(), "changed", 7, 0), 7);
  EXPECT_OK(blobs_->verify(blob.id));
  EXPECT_EQ(ids(), std::vector{blob.id});
}

TEST_P(BlobsContract, PutFileRefusesWhatIsNotAFile) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd reads(ends[0]);
  const UniqueFd writes(ends[1]);
  EXPECT_CODE(blobs_->put_file(reads.get()), Code::invalid_argument);
  EXPECT_FALSE(blobs_->put_file(-1).ok());
}

TEST_P(BlobsContract, ManyMayPutTheSameAtOnce) {
  std::vector<std::string> contents;
  for (int i = 0; i < 10; ++i) contents.push_back("shared " + std::to_string(i));
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (const auto& content : contents) {
        const auto put = blobs_->put(content);
        ASSERT_TRUE(put.ok()) << put.error().text();
        EXPECT_EQ(*blobs_->get(put->id), content);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(ids().size(), contents.size());
}

}  // namespace sundog::store
