// The functions of sgmf.h: every one of them ends here, with a status.
#include "sgmf.h"

#include <memory>

#include "libsgmf/model.h"
#include "libsgmf/status.h"
#include "libsgmf/structs.h"

namespace {

using namespace sgmf::embedding;

// One call's turn on a handle, if no other call has it.
class Turn {
 public:
  explicit Turn(std::atomic<bool>& busy) : busy_(busy), taken_(!busy.exchange(true)) {}
  ~Turn() {
    if (taken_) busy_ = false;
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  explicit operator bool() const { return taken_; }

 private:
  std::atomic<bool>& busy_;
  bool taken_;
};

template <typename F>
sgmf_status call(sgmf_model* model, F&& body) noexcept {
  if (!model) return SGMF_INVALID_ARGUMENT;
  const Turn turn(model->busy);
  if (!turn) return SGMF_BUSY;
  if (model->defective) return SGMF_UNUSABLE;  // the message of the defect stays
  const sgmf_status status = attempt(model->message, [&] { body(model->content); });
  model->defective = status == SGMF_DEFECT;
  return status;
}

// The entry of a list that a caller asks for.
template <typename T>
const T& entry(const std::vector<T>& list, int32_t index, const char* what) {
  if (index >= 0 && static_cast<std::size_t>(index) < list.size()) {
    return list[static_cast<std::size_t>(index)];
  }
  throw StatusError(SGMF_INVALID_ARGUMENT, std::string("there is no ") + what + " " +
                                               std::to_string(index) + "; the model has " +
                                               std::to_string(list.size()));
}

int32_t intensities(sgmf::NormalizationScheme scheme) {
  switch (scheme) {
    case sgmf::NormalizationScheme::ct: return SGMF_HOUNSFIELD;
    case sgmf::NormalizationScheme::rgb01: return SGMF_RGB;
    case sgmf::NormalizationScheme::none: return SGMF_NOT_NORMALISED;
    default: return SGMF_ANY_SCALE;
  }
}

std::unique_ptr<sgmf_model> open_checked(uint32_t abi_version, const sgmf_open_options* options) {
  if (abi_version != SGMF_ABI_VERSION) {
    throw StatusError(SGMF_ABI_MISMATCH,
                      "the program was built for version " + std::to_string(abi_version) +
                          " of libsgmf's interface, this library has version " +
                          std::to_string(SGMF_ABI_VERSION) +
                          "; build and run with header and library of one installation");
  }
  return std::make_unique<sgmf_model>(read_struct(options, "sgmf_open_options"));
}

}  // namespace

extern "C" {

const char* sgmf_status_name(sgmf_status status) {
  constexpr const char* names[] = {"SGMF_OK",
                                   "SGMF_CANCELLED",
                                   "SGMF_INVALID_ARGUMENT",
                                   "SGMF_ABI_MISMATCH",
                                   "SGMF_NOT_FOUND",
                                   "SGMF_PACKAGE_REFUSED",
                                   "SGMF_INPUT_REFUSED",
                                   "SGMF_BUDGET_TOO_SMALL",
                                   "SGMF_OUT_OF_MEMORY",
                                   "SGMF_BACKEND_MISSING",
                                   "SGMF_BACKEND_FAILED",
                                   "SGMF_BUSY",
                                   "SGMF_DEFECT",
                                   "SGMF_UNUSABLE"};
  return status >= SGMF_OK && status <= SGMF_UNUSABLE ? names[status] : "unknown";
}

uint32_t sgmf_abi_version(void) { return SGMF_ABI_VERSION; }

const char* sgmf_version(void) { return SGMF_LIBRARY_VERSION; }

sgmf_status sgmf_open(uint32_t abi_version, const sgmf_open_options* options, sgmf_model** model,
                      char* message, uint64_t message_size) {
  Message said;
  std::unique_ptr<sgmf_model> opened;
  const sgmf_status status = attempt(said, [&] {
    if (!model) {
      throw StatusError(SGMF_INVALID_ARGUMENT, "model is NULL; expected where to put the handle");
    }
    opened = open_checked(abi_version, options);
  });
  if (model) *model = opened.release();
  if (message && message_size > 0) copy_text(said.text(), message, message_size);
  return status;
}

void sgmf_close(sgmf_model* model) { delete model; }

const char* sgmf_message(const sgmf_model* model) {
  return model ? model->message.text() : "the handle is NULL; expected one from sgmf_open";
}

sgmf_status sgmf_get_info(sgmf_model* model, sgmf_info* info) {
  return call(model, [&](Model& content) { write_struct(info, content.info(), "sgmf_info"); });
}

sgmf_status sgmf_get_input(sgmf_model* model, int32_t index, sgmf_input* input) {
  return call(model, [&](Model& content) {
    const auto& spec = content.manifest().spec.preprocessing;
    sgmf_input found{};
    found.name = entry(spec.channels, index, "input").c_str();
    found.intensities = intensities(entry(spec.normalization, index, "input").scheme);
    write_struct(input, found, "sgmf_input");
  });
}

sgmf_status sgmf_get_label(sgmf_model* model, int32_t index, sgmf_label* label) {
  return call(model, [&](Model& content) {
    const sgmf::Label& own = entry(content.manifest().labels, index, "label");
    sgmf_label found{};
    found.value = own.value;
    found.name = own.name.c_str();
    write_struct(label, found, "sgmf_label");
  });
}

sgmf_status sgmf_get_region(sgmf_model* model, int32_t index, sgmf_region* region) {
  return call(model, [&](Model& content) {
    const sgmf::Region& own = entry(content.manifest().regions, index, "region");
    sgmf_region found{};
    found.value = own.value;
    found.name = own.name.c_str();
    found.labels = own.labels.data();
    found.label_count = static_cast<int64_t>(own.labels.size());
    write_struct(region, found, "sgmf_region");
  });
}

sgmf_status sgmf_run(sgmf_model* model, const sgmf_volume* volume, const sgmf_labels* labels,
                     const sgmf_run_options* options) {
  return call(model, [&](Model& content) {
    content.run(read_struct(volume, "sgmf_volume"), read_struct(labels, "sgmf_labels"),
                options ? read_struct(options, "sgmf_run_options") : sgmf_run_options{});
  });
}

sgmf_status sgmf_warm_up(sgmf_model* model) {
  return call(model, [](Model& content) { content.warm_up(); });
}

void sgmf_cancel(sgmf_model* model) {
  if (model) model->content.cancel();
}

sgmf_status sgmf_least_budget(sgmf_model* model, const sgmf_volume* volume,
                              const sgmf_labels* labels, int64_t* bytes) {
  return call(model, [&](Model& content) {
    if (!bytes) throw StatusError(SGMF_INVALID_ARGUMENT, "bytes is NULL");
    *bytes = content.least_budget(read_struct(volume, "sgmf_volume"),
                                  read_struct(labels, "sgmf_labels"));
  });
}

sgmf_status sgmf_get_statistics(sgmf_model* model, sgmf_statistics* statistics) {
  return call(model, [&](Model& content) {
    write_struct(statistics, content.statistics(), "sgmf_statistics");
  });
}

}  // extern "C"
