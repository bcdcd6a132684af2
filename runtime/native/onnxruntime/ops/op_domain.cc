#include "onnxruntime/ops/op_domain.h"

#include <utility>

namespace sgmf::onnxruntime {

OpDomain::OpDomain(const ort::Api& api, Ops ops) : api_(api), ops_(std::move(ops)) {
  require(api_.create_domain("segmaformer", &domain_));
  for (const auto& op : ops_) {
    if (ort::Status* failed = api_.add_op(domain_, op.get())) {
      api_.release_domain(domain_);
      throw StatusError{failed};
    }
  }
}

OpDomain::~OpDomain() { api_.release_domain(domain_); }

void OpDomain::add_to(ort::SessionOptions* options) const {
  require(api_.add_domain(options, domain_));
}

}  // namespace sgmf::onnxruntime
