#include "onnxruntime/self_contained.h"

#include <algorithm>
#include <cstring>
#include <exception>

#include "kernels/interface/self_contained.h"
#include "onnxruntime/protobuf.h"
#include "package/printable.h"

namespace sgmf::onnxruntime {
namespace {

using protobuf::Field;
using protobuf::Reader;
using std::string_view;

enum class Kind { model, training, function, graph, node, attribute, sparse_tensor, tensor };

// Fields of onnx.proto through which a tensor can be reached.
struct Child {
  Kind parent;
  uint64_t field;
  Kind kind;
};
constexpr Child children[] = {
    {Kind::model, 7, Kind::graph},
    {Kind::model, 20, Kind::training},
    {Kind::model, 25, Kind::function},
    {Kind::training, 1, Kind::graph},
    {Kind::training, 2, Kind::graph},
    {Kind::function, 7, Kind::node},
    {Kind::function, 11, Kind::attribute},
    {Kind::graph, 1, Kind::node},
    {Kind::graph, 5, Kind::tensor},
    {Kind::graph, 15, Kind::sparse_tensor},
    {Kind::node, 5, Kind::attribute},
    {Kind::attribute, 5, Kind::tensor},
    {Kind::attribute, 6, Kind::graph},
    {Kind::attribute, 10, Kind::tensor},
    {Kind::attribute, 11, Kind::graph},
    {Kind::attribute, 22, Kind::sparse_tensor},
    {Kind::attribute, 23, Kind::sparse_tensor},
    {Kind::sparse_tensor, 1, Kind::tensor},
    {Kind::sparse_tensor, 2, Kind::tensor},
};
constexpr uint64_t model_graph = 7;
enum Tensor : uint64_t { tensor_name = 8, tensor_external_data = 13, tensor_data_location = 14 };

constexpr int deepest = 100;  // as libraries read messages
constexpr std::size_t longest_name = 60;
constexpr string_view ort_format = "ORTM";  // from the fifth byte

struct Outside {
  string_view tensor;
};

void check_tensor(string_view tensor) {
  string_view name;
  bool outside = false;
  Field field;
  for (Reader reader(tensor); reader.next(field);) {
    if (field.number == tensor_name) name = field.content;
    outside = outside || field.number == tensor_external_data ||
              (field.number == tensor_data_location && (field.value || !field.content.empty()));
  }
  if (outside) throw Outside{name};
}

const Child* child_of(Kind parent, uint64_t number) {
  const Child* found = std::find_if(
      std::begin(children), std::end(children),
      [&](const Child& child) { return child.parent == parent && child.field == number; });
  return found == std::end(children) ? nullptr : found;
}

void check(string_view message, Kind kind, int depth) {
  if (depth > deepest) throw protobuf::Malformed();
  if (kind == Kind::tensor) return check_tensor(message);
  Field field;
  for (Reader reader(message); reader.next(field);) {
    const Child* child = child_of(kind, field.number);
    if (!child) continue;
    // A reader takes a known field of another wire type for an unknown one; no writer makes any.
    if (field.wire != protobuf::Wire::length_delimited) throw protobuf::Malformed();
    check(field.content, child->kind, depth + 1);
  }
}

bool has_graph(string_view model) {
  Field field;
  for (Reader reader(model); reader.next(field);) {
    if (field.number == model_graph) return true;
  }
  return false;
}

}  // namespace

std::optional<std::string> reason_to_refuse(string_view model) {
  try {
    if (model.size() < 8 || model.substr(4, 4) == ort_format || !has_graph(model)) {
      return "is no ONNX model";
    }
    check(model, Kind::model, 0);
    return std::nullopt;
  } catch (const Outside& outside) {
    return "has a tensor, " +
           printable(std::string(outside.tensor.substr(0, longest_name)), longest_name) +
           ", whose data lies outside it, in another file or at an address in memory";
  } catch (const protobuf::Malformed&) {
    return "is no ONNX model";
  }
}

}  // namespace sgmf::onnxruntime

extern "C" int32_t sgmf_reason_to_refuse(const void* model, int64_t size, char* reason,
                                         int64_t room) {
  try {
    const auto found = sgmf::onnxruntime::reason_to_refuse(
        {static_cast<const char*>(model), static_cast<std::size_t>(size)});
    if (!found) return 0;
    const std::size_t length = std::min(found->size(), static_cast<std::size_t>(room) - 1);
    std::memcpy(reason, found->data(), length);
    reason[length] = '\0';
    return 1;
  } catch (const std::exception&) {
    return -1;
  }
}
