// Exceptions of the pipeline; beside them only std::bad_alloc and those of a Network.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace sgmf {

enum class ErrorCode {
  argument,   // a mistake of the calling program: a null buffer, an impossible specification
  input,      // the scan cannot be used: wrong channels, all zero, NaN, does not suit the model
  geometry,   // the scan's affine is invalid
  budget,     // the memory budget does not suffice; `least_bytes` would
  backend,    // the network failed
  cancelled,  // the caller asked to stop
};

// The message says what was found, what was expected and what to do.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message, int64_t least_bytes = 0)
      : std::runtime_error(message),
        code_(code),
        least_bytes_(least_bytes) {}

  ErrorCode code() const { return code_; }
  // For `budget`: the least budget that would suffice. Otherwise 0.
  int64_t least_bytes() const { return least_bytes_; }

 private:
  ErrorCode code_;
  int64_t least_bytes_;
};

// Something needs more memory than the budget.
class BudgetError : public Error {
 public:
  BudgetError(const std::string& subject, int64_t budget_bytes, int64_t least_bytes)
      : Error(ErrorCode::budget,
              subject + " of this scan need at least " +
                  std::to_string((least_bytes + mib - 1) / mib) + " MiB, the memory budget is " +
                  std::to_string(budget_bytes / mib) + " MiB; raise the budget",
              least_bytes),
        subject_(subject),
        budget_bytes_(budget_bytes) {}

  // Name of the data that need the memory.
  const std::string& subject() const { return subject_; }
  int64_t budget_bytes() const { return budget_bytes_; }

 private:
  static constexpr int64_t mib = 1024 * 1024;

  std::string subject_;
  int64_t budget_bytes_;
};

}  // namespace sgmf
