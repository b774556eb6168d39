// Requirements: which package names an environment may ask for, and under which id it goes. Pure; any thread.
//
// Failure     invalid_argument with the requirement that is none.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace sundog::functions {

// Trims, checks, sorts and removes duplicates. Refused: options ("-r file"), URLs and paths: the server would read them
// with its own rights.
Result<std::vector<std::string>> checked_requirements(std::vector<std::string> packages);

// 32 hexadecimal digits of the Python version and the sorted requirements.
std::string environment_id(const std::string& python, const std::vector<std::string>& packages);
// The same of what they resolved to.
std::string environment_content(const std::string& python, const std::vector<std::string>& resolved);

// The "name==version" lines of what `uv pip compile` wrote.
std::vector<std::string> resolved_lines(const std::string& text);

}  // namespace sundog::functions
