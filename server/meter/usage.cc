#include "meter/usage.h"

namespace sundog::meter {

void Quantity::add(const UsageRecord& record) {
  ++invocations;
  billed_ms += record.billed_ms;
  billed_mb_ms += record.billed_ms * record.memory_mb;
  init_ms += record.billed_init_ms;
  init_mb_ms += record.billed_init_ms * record.memory_mb;
  restore_ms += record.billed_restore_ms;
  restore_mb_ms += record.billed_restore_ms * record.memory_mb;
}

void Quantity::add(const Quantity& other) {
  invocations += other.invocations;
  billed_ms += other.billed_ms;
  billed_mb_ms += other.billed_mb_ms;
  init_ms += other.init_ms;
  init_mb_ms += other.init_mb_ms;
  restore_ms += other.restore_ms;
  restore_mb_ms += other.restore_mb_ms;
}

}  // namespace sundog::meter
