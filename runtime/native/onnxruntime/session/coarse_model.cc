#include "onnxruntime/session/coarse_model.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <utility>
#include <vector>

#include "onnxruntime/protobuf.h"
#include "python/coarse_model.h"

namespace sgmf::onnxruntime {
namespace {

using protobuf::Field;
using protobuf::Reader;
using std::string_view;

// Numbers of fields in onnx.proto.
enum Model : uint64_t { model_graph = 7 };
enum Graph : uint64_t { graph_node = 1, graph_output = 12, graph_value_info = 13 };
enum Node : uint64_t {
  node_input = 1,
  node_output = 2,
  node_op_type = 4,
  node_attribute = 5,
  node_domain = 7
};
enum Attribute : uint64_t { attribute_name = 1, attribute_floats = 7 };
enum ValueInfo : uint64_t { value_info_name = 1 };

// Length-delimited, as protobuf writes it.
void append(std::string& message, uint64_t number, string_view content) {
  const auto varint = [&](uint64_t value) {
    for (; value >= 0x80; value >>= 7) message += static_cast<char>(value | 0x80);
    message += static_cast<char>(value);
  };
  varint(number << 3 | 2);
  varint(content.size());
  message += content;
}

string_view text(string_view message, uint64_t number) {
  string_view found;
  Field field;
  for (Reader reader(message); reader.next(field);) {
    if (field.number == number) found = field.content;
  }
  return found;
}

std::vector<string_view> all(string_view message, uint64_t number) {
  std::vector<string_view> found;
  Field field;
  for (Reader reader(message); reader.next(field);) {
    if (field.number == number) found.push_back(field.content);
  }
  return found;
}

// Three whole numbers; nothing otherwise. Packed or one by one, floats are four bytes each.
std::optional<std::array<int64_t, 3>> scales_of(string_view node) {
  std::string bytes;
  for (const string_view attribute : all(node, node_attribute)) {
    if (text(attribute, attribute_name) != "scales") continue;
    for (const string_view floats : all(attribute, attribute_floats)) bytes += floats;
  }
  std::array<float, 3> values;
  if (bytes.size() != sizeof values) return std::nullopt;
  std::memcpy(values.data(), bytes.data(), sizeof values);
  std::array<int64_t, 3> scales;
  for (int axis = 0; axis < 3; ++axis) {
    if (!(values[axis] >= 1 && values[axis] <= 1024)) return std::nullopt;
    scales[axis] = static_cast<int64_t>(values[axis]);
    if (static_cast<float>(scales[axis]) != values[axis]) return std::nullopt;
  }
  return scales;
}

bool is_upsampling(string_view node) {
  return text(node, node_op_type) == "Upsample" && text(node, node_domain) == "segmaformer";
}

// What is noted of a value; empty if nothing.
string_view value_info(string_view graph, string_view name) {
  for (const string_view info : all(graph, graph_value_info)) {
    if (text(info, value_info_name) == name) return info;
  }
  return {};
}

// `graph` without its last node, with `output` as its output.
std::string shortened(string_view graph, string_view last, string_view output) {
  std::string result;
  result.reserve(graph.size());
  Field field;
  for (Reader reader(graph); reader.next(field);) {
    const bool is_last = field.number == graph_node && field.content.data() == last.data();
    const bool is_noted = field.number == graph_value_info && field.content.data() == output.data();
    if (is_last || is_noted) continue;
    if (field.number == graph_output) {
      append(result, graph_output, output);
    } else {
      result += field.whole;
    }
  }
  return result;
}

std::optional<CoarseModel> shortened(string_view model) {
  const std::vector<string_view> graphs = all(model, model_graph);
  if (graphs.size() != 1) return std::nullopt;
  const string_view graph = graphs.front();
  const std::vector<string_view> nodes = all(graph, graph_node);
  const std::vector<string_view> outputs = all(graph, graph_output);
  if (nodes.empty() || outputs.size() != 1 || !is_upsampling(nodes.back())) return std::nullopt;
  const string_view last = nodes.back();
  if (all(last, node_input).size() != 1) return std::nullopt;
  if (text(last, node_output) != text(outputs.front(), value_info_name)) return std::nullopt;
  const string_view coarse = value_info(graph, text(last, node_input));
  const auto scales = scales_of(last);
  if (coarse.empty() || !scales) return std::nullopt;
  std::string result;
  result.reserve(model.size());
  Field field;
  for (Reader reader(model); reader.next(field);) {
    if (field.number == model_graph) {
      append(result, model_graph, shortened(graph, last, coarse));
    } else {
      result += field.whole;
    }
  }
  return CoarseModel{std::move(result), *scales};
}

}  // namespace

std::optional<CoarseModel> without_last_upsampling(string_view model) {
  try {
    return shortened(model);
  } catch (const protobuf::Malformed&) {
    return std::nullopt;  // ONNX Runtime says what is wrong with it
  }
}

}  // namespace sgmf::onnxruntime

extern "C" int64_t sgmf_without_last_upsampling(const void* model, int64_t size, void* shorter,
                                                int64_t scales[3]) {
  try {
    const auto found = sgmf::onnxruntime::without_last_upsampling(
        {static_cast<const char*>(model), static_cast<std::size_t>(size)});
    if (!found || found->model.size() > static_cast<std::size_t>(size)) return 0;
    if (shorter) std::memcpy(shorter, found->model.data(), found->model.size());
    std::copy(found->scales.begin(), found->scales.end(), scales);
    return static_cast<int64_t>(found->model.size());
  } catch (const std::exception&) {
    return -1;
  }
}
