// Doctor: what this machine offers for sealing, tried and not guessed, and what is lost without each.
#pragma once

#include <string>

namespace sundog::sandbox::launcher {

// [{"check","ok","detail","without"}]; `cgroup` as in LauncherOptions.
std::string doctor_report(const std::string& cgroup);

}  // namespace sundog::sandbox::launcher
