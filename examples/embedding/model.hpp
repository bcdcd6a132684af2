// A handle of libsgmf as a C++ object: closed when it goes, errors as exceptions.
#pragma once

#include <sgmf.h>

#include <memory>
#include <stdexcept>
#include <string>

class ModelError : public std::runtime_error {
 public:
  ModelError(sgmf_status code, const std::string& message)
      : std::runtime_error(std::string(sgmf_status_name(code)) + ": " + message),
        status(code) {}
  const sgmf_status status;
};

// A struct of sgmf.h, zero but for its size.
template <typename T>
T sized() {
  T value{};
  value.struct_size = sizeof value;
  return value;
}

class Model {
 public:
  explicit Model(const std::string& package) {
    auto options = sized<sgmf_open_options>();
    options.package_path = package.c_str();
    sgmf_model* model = nullptr;
    char message[1024];
    const sgmf_status status =
        sgmf_open(SGMF_ABI_VERSION, &options, &model, message, sizeof message);
    if (status != SGMF_OK) throw ModelError(status, message);
    model_.reset(model);
  }

  void warm_up() { require(sgmf_warm_up(model_.get())); }

  sgmf_info info() {
    auto info = sized<sgmf_info>();
    require(sgmf_get_info(model_.get(), &info));
    return info;
  }

  sgmf_statistics statistics() {
    auto statistics = sized<sgmf_statistics>();
    require(sgmf_get_statistics(model_.get(), &statistics));
    return statistics;
  }

  // `go_on` is asked after each tile; false stops. Returns whether the labels are complete.
  template <typename GoOn>
  bool run(const sgmf_volume& volume, const sgmf_labels& labels, GoOn go_on) {
    auto options = sized<sgmf_run_options>();
    options.user_data = &go_on;
    options.progress = [](void* data, int64_t, int64_t) -> int32_t {
      return (*static_cast<GoOn*>(data))() ? 0 : 1;
    };
    const sgmf_status status = sgmf_run(model_.get(), &volume, &labels, &options);
    if (status == SGMF_CANCELLED) return false;
    require(status);
    return true;
  }

 private:
  struct Close {
    void operator()(sgmf_model* model) const { sgmf_close(model); }
  };

  void require(sgmf_status status) const {
    if (status != SGMF_OK) throw ModelError(status, sgmf_message(model_.get()));
  }

  std::unique_ptr<sgmf_model, Close> model_;
};
