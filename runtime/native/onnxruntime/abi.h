// The slots of ONNX Runtime's C ABI that the op library uses, and nothing else.
//
// PyPI's onnxruntime carries the library but no headers. The C ABI only ever grows at its end, so
// a slot keeps its place: OrtApi is a table of function pointers read by index, OrtCustomOp a
// struct laid out as of version 17. tests/runtime/native/test_onnxruntime_abi.py compares every
// index and offset with the official header where that is installed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ort {

constexpr uint32_t api_version = 17;  // ONNX Runtime 1.17, the first with KernelContext_ParallelFor

struct Status;
struct KernelInfo;
struct KernelContext;
struct Value;
struct ShapeInfo;
struct ShapeInferContext;
struct CustomOpDomain;
struct SessionOptions;

enum ElementType : int { undefined = 0, float32 = 1, float16 = 10, bfloat16 = 16 };
enum Characteristic : int { required = 0, optional = 1 };
enum MemoryType : int { default_memory = 0 };
enum ErrorCode : int { fail = 1, invalid_argument = 2 };

struct ApiBase {
  const void* const* (*get_api)(uint32_t version);
  const char* (*get_version)();
};

// A table of functions behind a pointer to its first slot.
class Api {
 public:
  explicit Api(const void* const* table) : table_(table) {}

  Status* create_status(ErrorCode code, const char* text) const {
    return slot<Status* (*)(int, const char*)>(0)(code, text);
  }
  Status* create_domain(const char* name, CustomOpDomain** out) const {
    return slot<Status* (*)(const char*, CustomOpDomain**)>(26)(name, out);
  }
  Status* add_op(CustomOpDomain* domain, const struct CustomOp* op) const {
    return slot<Status* (*)(CustomOpDomain*, const CustomOp*)>(27)(domain, op);
  }
  Status* add_domain(SessionOptions* options, CustomOpDomain* domain) const {
    return slot<Status* (*)(SessionOptions*, CustomOpDomain*)>(28)(options, domain);
  }
  Status* tensor_data(Value* value, void** out) const {
    return slot<Status* (*)(Value*, void**)>(51)(value, out);
  }
  Status* element_type(const ShapeInfo* info, int* out) const {
    return slot<Status* (*)(const ShapeInfo*, int*)>(60)(info, out);
  }
  Status* rank(const ShapeInfo* info, size_t* out) const {
    return slot<Status* (*)(const ShapeInfo*, size_t*)>(61)(info, out);
  }
  Status* dimensions(const ShapeInfo* info, int64_t* out, size_t count) const {
    return slot<Status* (*)(const ShapeInfo*, int64_t*, size_t)>(62)(info, out, count);
  }
  Status* shape_info(const Value* value, ShapeInfo** out) const {
    return slot<Status* (*)(const Value*, ShapeInfo**)>(65)(value, out);
  }
  Status* int_attribute(const KernelInfo* info, const char* name, int64_t* out) const {
    return slot<Status* (*)(const KernelInfo*, const char*, int64_t*)>(86)(info, name, out);
  }
  Status* input_count(const KernelContext* context, size_t* out) const {
    return slot<Status* (*)(const KernelContext*, size_t*)>(88)(context, out);
  }
  Status* input(const KernelContext* context, size_t index, const Value** out) const {
    return slot<Status* (*)(const KernelContext*, size_t, const Value**)>(90)(context, index, out);
  }
  Status* output(KernelContext* context, size_t index, const int64_t* shape, size_t rank, Value** out) const {
    return slot<Status* (*)(KernelContext*, size_t, const int64_t*, size_t, Value**)>(91)(
        context, index, shape, rank, out);
  }
  void release_status(Status* status) const { slot<void (*)(Status*)>(93)(status); }
  void release_shape_info(ShapeInfo* info) const { slot<void (*)(ShapeInfo*)>(99)(info); }
  Status* parallel_for(const KernelContext* context, void (*task)(void*, size_t), size_t total,
                       size_t batches, void* data) const {
    return slot<Status* (*)(const KernelContext*, void (*)(void*, size_t), size_t, size_t, void*)>(274)(
        context, task, total, batches, data);
  }

 private:
  template <typename F>
  F slot(size_t index) const {
    return reinterpret_cast<F>(const_cast<void*>(table_[index]));
  }
  const void* const* table_;
};

struct CustomOp {
  uint32_t version;
  void* (*create_kernel)(const CustomOp*, const void* const*, const KernelInfo*);
  const char* (*get_name)(const CustomOp*);
  const char* (*get_provider)(const CustomOp*);
  int (*get_input_type)(const CustomOp*, size_t);
  size_t (*get_input_count)(const CustomOp*);
  int (*get_output_type)(const CustomOp*, size_t);
  size_t (*get_output_count)(const CustomOp*);
  void (*compute)(void*, KernelContext*);
  void (*destroy)(void*);
  int (*get_input_characteristic)(const CustomOp*, size_t);
  int (*get_output_characteristic)(const CustomOp*, size_t);
  int (*get_input_memory_type)(const CustomOp*, size_t);
  int (*get_variadic_input_min_arity)(const CustomOp*);
  int (*get_variadic_input_homogeneity)(const CustomOp*);
  int (*get_variadic_output_min_arity)(const CustomOp*);
  int (*get_variadic_output_homogeneity)(const CustomOp*);
  Status* (*create_kernel_v2)(const CustomOp*, const void* const*, const KernelInfo*, void**);
  Status* (*compute_v2)(void*, KernelContext*);
  Status* (*infer_output_shape)(const CustomOp*, ShapeInferContext*);
  int (*get_start_version)(const CustomOp*);
  int (*get_end_version)(const CustomOp*);
};

}  // namespace ort
