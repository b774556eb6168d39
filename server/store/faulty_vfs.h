// FaultyVfs: a SQLite file layer over the system's, whose writing calls fail as a FaultPlan says. For tests only.
//
// Ownership   outlives every database opened through it: SqliteOptions{.vfs = vfs.name()}.
// Threads     as SQLite's own.
#pragma once

#include <sqlite3.h>

#include <cstring>
#include <new>
#include <string>

#include "base/ids.h"
#include "store/fault_plan.h"

namespace sundog::store {

class FaultyVfs {
 public:
  explicit FaultyVfs(FaultPlan& plan) : plan_(plan), name_(short_id("faulty")), system_(sqlite3_vfs_find(nullptr)) {
    vfs_ = *system_;
    vfs_.pNext = nullptr;
    vfs_.zName = name_.c_str();
    vfs_.szOsFile = static_cast<int>(sizeof(File)) + system_->szOsFile;
    vfs_.pAppData = this;
    vfs_.xOpen = &FaultyVfs::open;
    vfs_.xDelete = &FaultyVfs::remove;
    sqlite3_vfs_register(&vfs_, 0);
  }
  ~FaultyVfs() { sqlite3_vfs_unregister(&vfs_); }
  FaultyVfs(const FaultyVfs&) = delete;
  FaultyVfs& operator=(const FaultyVfs&) = delete;
  const std::string& name() const { return name_; }

 private:
  // SQLite sees `base`; the system's file lies right behind it.
  struct File {
    sqlite3_file base;
    FaultPlan* plan;
    sqlite3_file* real() { return reinterpret_cast<sqlite3_file*>(this + 1); }
  };
  static File* of(sqlite3_file* file) { return reinterpret_cast<File*>(file); }
  static sqlite3_file* real(sqlite3_file* file) { return of(file)->real(); }
  static bool hit(sqlite3_file* file) { return of(file)->plan->hit(); }

  static int open(sqlite3_vfs* vfs, sqlite3_filename path, sqlite3_file* file, int flags, int* out_flags) {
    auto* self = static_cast<FaultyVfs*>(vfs->pAppData);
    file->pMethods = nullptr;
    if (self->plan_.hit()) return SQLITE_CANTOPEN;
    auto* mine = of(file);
    mine->plan = &self->plan_;
    std::memset(mine->real(), 0, static_cast<size_t>(self->system_->szOsFile));
    const int rc = self->system_->xOpen(self->system_, path, mine->real(), flags, out_flags);
    if (mine->real()->pMethods != nullptr) file->pMethods = &methods();
    return rc;
  }

  static int remove(sqlite3_vfs* vfs, const char* path, int sync_folder) {
    auto* self = static_cast<FaultyVfs*>(vfs->pAppData);
    if (self->plan_.hit()) return SQLITE_IOERR_DELETE;
    return self->system_->xDelete(self->system_, path, sync_folder);
  }

  static int write(sqlite3_file* file, const void* data, int size, sqlite3_int64 offset) {
    return hit(file) ? SQLITE_FULL : real(file)->pMethods->xWrite(real(file), data, size, offset);
  }
  static int truncate(sqlite3_file* file, sqlite3_int64 size) {
    return hit(file) ? SQLITE_IOERR_TRUNCATE : real(file)->pMethods->xTruncate(real(file), size);
  }
  static int sync(sqlite3_file* file, int flags) {
    return hit(file) ? SQLITE_IOERR_FSYNC : real(file)->pMethods->xSync(real(file), flags);
  }
  static int shm_map(sqlite3_file* file, int page, int page_size, int extend, void volatile** out) {
    if (extend != 0 && hit(file)) return SQLITE_IOERR_SHMSIZE;
    return real(file)->pMethods->xShmMap(real(file), page, page_size, extend, out);
  }

  static const sqlite3_io_methods& methods() {
    static const sqlite3_io_methods kMethods = [] {
      sqlite3_io_methods m{};
      m.iVersion = 2;
      m.xWrite = &FaultyVfs::write;
      m.xTruncate = &FaultyVfs::truncate;
      m.xSync = &FaultyVfs::sync;
      m.xShmMap = &FaultyVfs::shm_map;
      // The rest goes through as it is.
      m.xClose = [](sqlite3_file* f) { return real(f)->pMethods->xClose(real(f)); };
      m.xRead = [](sqlite3_file* f, void* data, int size, sqlite3_int64 offset) {
        return real(f)->pMethods->xRead(real(f), data, size, offset);
      };
      m.xFileSize = [](sqlite3_file* f, sqlite3_int64* size) { return real(f)->pMethods->xFileSize(real(f), size); };
      m.xLock = [](sqlite3_file* f, int level) { return real(f)->pMethods->xLock(real(f), level); };
      m.xUnlock = [](sqlite3_file* f, int level) { return real(f)->pMethods->xUnlock(real(f), level); };
      m.xCheckReservedLock = [](sqlite3_file* f, int* out) {
        return real(f)->pMethods->xCheckReservedLock(real(f), out);
      };
      m.xFileControl = [](sqlite3_file* f, int op, void* arg) {
        return real(f)->pMethods->xFileControl(real(f), op, arg);
      };
      m.xSectorSize = [](sqlite3_file* f) { return real(f)->pMethods->xSectorSize(real(f)); };
      m.xDeviceCharacteristics = [](sqlite3_file* f) { return real(f)->pMethods->xDeviceCharacteristics(real(f)); };
      m.xShmLock = [](sqlite3_file* f, int offset, int count, int flags) {
        return real(f)->pMethods->xShmLock(real(f), offset, count, flags);
      };
      m.xShmBarrier = [](sqlite3_file* f) { real(f)->pMethods->xShmBarrier(real(f)); };
      m.xShmUnmap = [](sqlite3_file* f, int remove_it) { return real(f)->pMethods->xShmUnmap(real(f), remove_it); };
      return m;
    }();
    return kMethods;
  }

  FaultPlan& plan_;
  std::string name_;
  sqlite3_vfs* system_;
  sqlite3_vfs vfs_{};
};

}  // namespace sundog::store
