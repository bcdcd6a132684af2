// Conversion of what python/pipeline.h takes to what the pipeline does, and of its exceptions.
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <new>

#include "pipeline/error.h"
#include "pipeline/geometry/volume.h"
#include "pipeline/prepare.h"
#include "pipeline/spec.h"
#include "pipeline/tiles/network.h"
#include "python/pipeline.h"
#include "system/backend_missing.h"

namespace sgmf {

// A callback asked to stop; the reason is its own.
struct Stopped {};

inline void expect_zero(int32_t returned) {
  if (returned) throw Stopped();
}

template <typename T, typename S>
std::array<T, 3> triple(const S* values) {
  return {static_cast<T>(values[0]), static_cast<T>(values[1]), static_cast<T>(values[2])};
}

Affine affine_of(const double* given);
Volume volume_of(const sgmf_scan& given);
// Specifications as a manifest spells them. Throw PackageError, and Error(argument) for a
// normalization or preprocessing that contradicts itself.
Normalization normalization_of(const char* json);
Resampling resampling_of(const char* json);
Preprocessing preprocessing_of(const char* json);
Tiling tiling_of(const char* json);
Output output_of(const char* json);
PreviousStage previous_stage_of(const char* json);
NetworkGrid grid_of(const sgmf_network_grid& given);
void store(const NetworkGrid& grid, sgmf_network_grid* out);
void store(const Box& box, int64_t* out);
int threads_of(int32_t threads);

// A network that is a callback.
class CallbackNetwork : public Network {
 public:
  CallbackNetwork(const sgmf_network& given, void* user) : given_(given), user_(user) {}

  void run(const float*, int64_t, float*) override {}
  Triple logits_shape(const Triple& tile) const override;
  int64_t tiles_at_once() const override { return given_.tiles_at_once; }
  bool overlap() const override { return given_.overlap != 0; }
  bool lends() const override { return true; }
  const float* lend(const float* tiles, int64_t count) override;

 private:
  const sgmf_network given_;
  void* user_;
};

// Those of three axes whose entry is not zero.
std::vector<int> axes_of(const int32_t* chosen);

int32_t fail(sgmf_failure* failure, int32_t code, const char* message);

// Runs a function whose exceptions become a failure.
template <typename F>
int32_t guarded(sgmf_failure* failure, F f) {
  try {
    f();
    return SGMF_PIPELINE_OK;
  } catch (const Stopped&) {
    return fail(failure, SGMF_PIPELINE_CALLBACK, "a callback asked to stop");
  } catch (const BudgetError& error) {
    failure->budget_bytes = error.budget_bytes();
    failure->least_bytes = error.least_bytes();
    return fail(failure, SGMF_PIPELINE_BUDGET, error.subject().c_str());
  } catch (const Error& error) {
    return fail(failure, static_cast<int32_t>(error.code()) + SGMF_PIPELINE_ARGUMENT, error.what());
  } catch (const BackendMissing& error) {
    return fail(failure, SGMF_PIPELINE_BACKEND, error.what());
  } catch (const std::bad_alloc&) {
    return fail(failure, SGMF_PIPELINE_MEMORY, "the system has no more memory");
  } catch (const std::exception& error) {
    return fail(failure, SGMF_PIPELINE_ARGUMENT, error.what());
  }
}

}  // namespace sgmf
