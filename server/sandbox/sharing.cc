#include "sandbox/sharing.h"

#include <algorithm>
#include <cctype>

namespace sundog::sandbox {
namespace {

constexpr std::string_view kPrefixes[] = {
    "PYTHON",    "LD_",     "GLIBC_",        "MALLOC_",     "JE_",    "OMP_",     "GOMP_",    "KMP_",
    "OPENBLAS_", "BLIS_",   "MKL_",          "NPY_",        "NUMPY_", "SCIPY_",   "SKLEARN_", "NUMBA_",
    "NUMEXPR_",  "JOBLIB_", "LOKY_",         "PANDAS_",     "ARROW_", "POLARS_",  "RAYON_",   "XGBOOST_",
    "ORT_",      "MPL",     "TF_",           "XLA_",        "JAX_",   "TORCH",    "PYTORCH_", "CUDA_",
    "NVIDIA_",   "HF_",     "TRANSFORMERS_", "TOKENIZERS_", "XDG_",   "OPENSSL_", "SSL_",
};
constexpr std::string_view kSuffixes[] = {"_NUM_THREADS", "_MAX_THREADS", "_THREAD_LIMIT"};
constexpr std::string_view kNames[] = {"HOME", "TMPDIR", "PATH", "LOCPATH"};
constexpr std::string_view kUsualPath = "/usr/local/bin:/usr/bin:/bin";
constexpr size_t kMaxModuleName = 200;

}  // namespace

std::string EnvironmentKey::text() const {
  std::string text = tenant + "\n" + python.string() + "\n" + std::to_string(int(network));
  for (const auto& folder : site_packages) text += "\n" + folder.string();
  for (const auto& [name, value] : variables) text += "\n" + name + "=" + value;
  return text;
}

EnvironmentKey key_of(const TemplateSpec& spec) {
  EnvironmentKey key{spec.tenant, spec.python, spec.site_packages, spec.network, {}};
  for (const auto& [name, value] : spec.environment) {
    if (changes_imports(name) && !(name == "PATH" && value == kUsualPath)) key.variables[name] = value;
  }
  return key;
}

bool changes_imports(std::string_view variable) {
  return std::ranges::any_of(kPrefixes, [&](std::string_view prefix) { return variable.starts_with(prefix); }) ||
         std::ranges::any_of(kSuffixes, [&](std::string_view suffix) { return variable.ends_with(suffix); }) ||
         std::ranges::find(kNames, variable) != std::end(kNames);
}

std::string why_not_shared(const TemplateSpec& spec) {
  if (spec.network == Network::egress) return "its way out must be made before any package is imported";
  if (spec.limits.tmp_bytes > kMaxSharedTmp) return "its /tmp is over 10,240 MB";
  return "";
}

bool is_module_name(std::string_view name) {
  if (name.empty() || name.size() > kMaxModuleName || name.front() == '.' || name.back() == '.') return false;
  return std::ranges::all_of(name,
                             [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '.' || c >= 0x80; }) &&
         name.find("..") == std::string_view::npos;
}

}  // namespace sundog::sandbox
