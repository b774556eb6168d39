// Figures of the embedded stores on this machine's disk:   store_bench FOLDER
//
// Prints one line a figure: durable appends a second through append_async and by one waiting caller, pull + ack, a pull
// beside 100,000 delayed messages, catalog commits and reads, blobs. FOLDER must not exist; it is removed at the end.
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <functional>
#include <mutex>
#include <string>

#include "base/clock.h"
#include "base/file.h"
#include "store/file_blobs.h"
#include "store/sqlite_catalog.h"
#include "store/sqlite_queue.h"

namespace {

using namespace sundog;
using Seconds = std::chrono::duration<double>;

// Runs `work` and returns how long it took.
Seconds timed(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::steady_clock::now() - start;
}

void print_rate(const char* what, int count, Seconds took) {
  std::printf("%-58s %10.0f /s   %8.3f ms each\n", what, count / took.count(), took.count() * 1000 / count);
}

template <class T>
T must(Result<T> result) {
  if (!result.ok()) {
    std::fprintf(stderr, "%s\n", result.error().text().c_str());
    std::exit(1);
  }
  return std::move(*result);
}

void must(const Status& status) {
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", status.error().text().c_str());
    std::exit(1);
  }
}

// Appends `count` messages without waiting for each, and waits until all are durable.
void append_all(store::Queue& queue, const std::string& name, int count, Millis delay) {
  std::mutex mutex;
  std::condition_variable wake;
  int durable = 0;
  const std::string body(1024, 'x');
  for (int i = 0; i < count; ++i) {
    queue.append_async(name, body, delay, [&](const Result<int64_t>& id) {
      if (!id.ok()) must(Status(id.error()));
      const std::lock_guard lock(mutex);
      if (++durable == count) wake.notify_one();
    });
  }
  std::unique_lock lock(mutex);
  wake.wait(lock, [&] { return durable == count; });
}

void bench_queue(const Path& folder) {
  SystemClock clock;
  const auto queue = must(store::open_sqlite_queue(folder / "queue.db", clock));
  constexpr int kAsync = 20'000;
  print_rate("append_async, 1 KB", kAsync, timed([&] { append_all(*queue, "a", kAsync, Millis{0}); }));
  constexpr int kWaiting = 200;
  print_rate("append by one caller that waits, 1 KB", kWaiting, timed([&] {
               for (int i = 0; i < kWaiting; ++i) must(queue->append("one", "x"));
             }));
  constexpr int kPulls = 200;
  print_rate("pull once, then ack each and wait", kPulls, timed([&] {
               for (const auto& message : must(queue->pull("a", kPulls, Millis{60'000})))
                 must(queue->ack(message.receipt));
             }));
  append_all(*queue, "late", 50'000, Millis{3'600'000});
  append_all(*queue, "late", 50'000, Millis{3'600'000});
  constexpr int kEmpty = 1000;
  print_rate("pull of nothing beside 100,000 delayed messages", kEmpty, timed([&] {
               for (int i = 0; i < kEmpty; ++i) must(queue->pull("late", 10, Millis{1000}));
             }));
}

void bench_catalog(const Path& folder) {
  const auto catalog = must(store::open_sqlite_catalog(folder / "catalog.db"));
  constexpr int kCommits = 200;
  print_rate("catalog commit", kCommits, timed([&] {
               for (int i = 0; i < kCommits; ++i) must(catalog->put("k/" + std::to_string(i), Json{{"n", i}}));
             }));
  constexpr int kReads = 20'000;
  print_rate("catalog get", kReads, timed([&] {
               for (int i = 0; i < kReads; ++i) must(catalog->get("k/" + std::to_string(i % kCommits)));
             }));
}

void bench_blobs(const Path& folder) {
  const auto blobs = must(store::open_file_blobs(folder / "blobs"));
  constexpr int kSmall = 200;
  print_rate("blob put, 4 KB", kSmall, timed([&] {
               for (int i = 0; i < kSmall; ++i) must(blobs->put(std::string(4096, 'x') + std::to_string(i)));
             }));
  constexpr int kLargeMegabytes = 256;
  const std::string large(kLargeMegabytes << 20, 'y');
  print_rate("blob put, in megabytes", kLargeMegabytes, timed([&] { must(blobs->put(large)); }));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 || std::filesystem::exists(argv[1])) {
    std::fprintf(stderr, "usage: store_bench FOLDER   (a folder that does not exist yet, on the disk to measure)\n");
    return 2;
  }
  const Path folder = argv[1];
  bench_queue(folder);
  bench_catalog(folder);
  bench_blobs(folder);
  must(remove_tree(folder));
  return 0;
}
