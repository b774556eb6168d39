// Doctor: what this machine offers for sealing, tried and not guessed, and what is lost without each.
#pragma once

#include <string>

namespace sundog::sandbox::launcher {

// [{"check","ok","detail","without"}]
std::string doctor_report();

}  // namespace sundog::sandbox::launcher
