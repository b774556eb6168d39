// Pip settings: where the user's pip looks for packages, said in uv's words, so that an environment is built from the
// same index. Reads files; any thread.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace sundog::functions {

using Variables = std::map<std::string, std::string>;

// This process's environment.
Variables process_variables();

// The configuration files that pip would read, least important first; those that exist or not.
std::vector<Path> pip_files(const Variables& variables);

// "[global]" and "[install]" of one file: {"index-url": "…"}; a value of several lines is joined by spaces.
std::map<std::string, std::string> parse_pip_file(std::string_view text);

// `variables` with UV_DEFAULT_INDEX, UV_INDEX, UV_FIND_LINKS, UV_INSECURE_HOST and SSL_CERT_FILE added where pip's
// settings say something and uv's own do not. `files`: contents, least important first.
Variables uv_variables(Variables variables, const std::vector<std::string>& files);

// "https://user:secret@host" → "https://***@host": what goes into a log that others read.
std::string without_credentials(std::string_view text);

}  // namespace sundog::functions
