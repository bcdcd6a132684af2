// The memory that this process may use.
#pragma once

#include <cstdint>

namespace sgmf {

// Half of the memory that is available now, to this process' control group as well.
int64_t default_budget_bytes();

}  // namespace sgmf
