// What this process may use of the machine.
#pragma once

#include <cstdint>

namespace sgmf {

// Processors: the process' affinity, capped by its control group.
int available_processors();

// Half of the memory that is available now, to this process' control group as well.
int64_t default_budget_bytes();

}  // namespace sgmf
