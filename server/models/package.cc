#include "models/package.h"

#include <archive.h>
#include <archive_entry.h>
#include <fmt/format.h>

namespace sundog::models {
namespace {

constexpr int64_t kArtefactLimit = 200LL << 20;  // Lambda's unzipped package is at most 250 MB
constexpr time_t kMadeAt = 315'532'800;          // 1980-01-01, the oldest that a zip can say: equal input, equal bytes

la_ssize_t append(archive*, void* out, const void* data, size_t size) {
  static_cast<std::string*>(out)->append(static_cast<const char*>(data), size);
  return static_cast<la_ssize_t>(size);
}

Status add_file(archive* zip, const char* name, std::string_view content) {
  const std::unique_ptr<archive_entry, decltype(&archive_entry_free)> entry(archive_entry_new(), archive_entry_free);
  archive_entry_set_pathname(entry.get(), name);
  archive_entry_set_filetype(entry.get(), AE_IFREG);
  archive_entry_set_perm(entry.get(), 0644);
  archive_entry_set_mtime(entry.get(), kMadeAt, 0);
  archive_entry_set_size(entry.get(), static_cast<la_int64_t>(content.size()));
  if (archive_write_header(zip, entry.get()) != ARCHIVE_OK ||
      archive_write_data(zip, content.data(), content.size()) != static_cast<la_ssize_t>(content.size())) {
    return fail(Code::internal, std::string("The model's package cannot be written: ") + archive_error_string(zip));
  }
  return done;
}

}  // namespace

Json manifest_of(const Json& model_version) {
  return {{"model", model_version["model"]},
          {"version", model_version["version"]},
          {"format", model_version["artefact"]["format"]},
          {"signature", model_version["signature"]},
          {"lineage", model_version["lineage"]},
          {"environment", model_version["environment"]}};
}

Result<std::string> package_of(const Json& model_version, const store::Blobs& blobs) {
  const std::string blob = model_version["artefact"]["blob"];
  SUNDOG_TRY(info, blobs.info(blob));
  if (info.bytes > kArtefactLimit) {
    return fail(Code::too_large, fmt::format("The model's artefact has {} MB; a function's code has at most {} MB",
                                             info.bytes >> 20, kArtefactLimit >> 20));
  }
  SUNDOG_TRY(artefact, blobs.get(blob));
  std::string out;
  const std::unique_ptr<archive, decltype(&archive_write_free)> zip(archive_write_new(), archive_write_free);
  archive_write_set_format_zip(zip.get());
  archive_write_set_bytes_in_last_block(zip.get(), 1);
  if (archive_write_open(zip.get(), &out, nullptr, append, nullptr) != ARCHIVE_OK) {
    return fail(Code::internal,
                std::string("The model's package cannot be written: ") + archive_error_string(zip.get()));
  }
  SUNDOG_CHECK(add_file(zip.get(), "model.json", manifest_of(model_version).dump(1)));
  SUNDOG_CHECK(add_file(zip.get(), "artefact", artefact));
  if (archive_write_close(zip.get()) != ARCHIVE_OK) {
    return fail(Code::internal,
                std::string("The model's package cannot be written: ") + archive_error_string(zip.get()));
  }
  return out;
}

}  // namespace sundog::models
