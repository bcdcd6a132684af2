// Check that a network holds all of its data itself.
//
// A tensor of an ONNX model may name a file, by any path, or an address in this process's memory
// (the location "*/_ORT_MEM_ADDR_/*"), and libraries that read models follow either. Packages hold
// no such tensor, so bytes that have one are refused before a library sees them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sgmf::onnxruntime {

// Reason not to open a serialised model, worded to follow the name of its file; nothing for a model
// that holds all of its data. Tensors are checked wherever they may be: in initialisers, sparse
// ones, attributes, graphs within graphs, functions, training graphs. Content that is no ONNX
// model, such as a model in ONNX Runtime's own format, is a reason too.
std::optional<std::string> reason_to_refuse(std::string_view model);

}  // namespace sgmf::onnxruntime
