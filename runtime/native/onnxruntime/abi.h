// The slots of ONNX Runtime's C ABI that the op library uses, and nothing else.
//
// PyPI's onnxruntime carries the library but no headers. The C ABI only ever grows at its end, so
// a slot keeps its place: OrtApi is a table of function pointers read by index, OrtCustomOp a
// struct laid out as of version 18. Slots and members bear their official names;
// tests/runtime/native/onnxruntime/test_onnxruntime_abi.py compares every one with the official
// header where that is installed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ort {

constexpr uint32_t api_version = 18;  // ONNX Runtime 1.18: KernelContext_GetScratchBuffer
constexpr uint32_t custom_op_version = 18;

struct Status;
struct KernelInfo;
struct KernelContext;
struct Value;
struct ShapeInfo;
struct ShapeInferContext;
struct CustomOpDomain;
struct SessionOptions;
struct Env;
struct Session;
struct TypeInfo;
struct MemoryInfo;

enum ElementType : int { float32 = 1, float16 = 10, bfloat16 = 16 };
enum Characteristic : int { required = 0, optional = 1 };
enum MemoryType : int { default_memory = 0 };
enum ErrorCode : int { fail = 1, invalid_argument = 2 };
enum AllocatorType : int { device_allocator = 0 };
enum LoggingLevel : int { log_fatal = 4 };

struct ApiBase {
  const void* const* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

enum Slot : size_t {
  CreateStatus = 0,
  GetErrorMessage = 2,
  CreateEnv = 3,
  DisableTelemetryEvents = 6,
  CreateSessionFromArray = 8,
  Run = 9,
  CreateSessionOptions = 10,
  DisableMemPattern = 17,
  SetSessionLogSeverityLevel = 22,
  SetIntraOpNumThreads = 24,
  CreateCustomOpDomain = 26,
  CustomOpDomain_Add = 27,
  AddCustomOpDomain = 28,
  SessionGetInputCount = 30,
  SessionGetOutputCount = 31,
  SessionGetInputTypeInfo = 33,
  SessionGetOutputTypeInfo = 34,
  SessionGetInputName = 36,
  SessionGetOutputName = 37,
  CreateTensorWithDataAsOrtValue = 49,
  GetTensorMutableData = 51,
  CastTypeInfoToTensorInfo = 55,
  GetTensorElementType = 60,
  GetDimensionsCount = 61,
  GetDimensions = 62,
  GetSymbolicDimensions = 63,
  GetTensorTypeAndShape = 65,
  CreateCpuMemoryInfo = 69,
  AllocatorFree = 76,
  GetAllocatorWithDefaultOptions = 78,
  KernelInfoGetAttribute_float = 85,
  KernelInfoGetAttribute_int64 = 86,
  KernelContext_GetInputCount = 88,
  KernelContext_GetInput = 90,
  KernelContext_GetOutput = 91,
  ReleaseEnv = 92,
  ReleaseStatus = 93,
  ReleaseMemoryInfo = 94,
  ReleaseSession = 95,
  ReleaseValue = 96,
  ReleaseTypeInfo = 98,
  ReleaseTensorTypeAndShapeInfo = 99,
  ReleaseSessionOptions = 100,
  ReleaseCustomOpDomain = 101,
  AddSessionConfigEntry = 130,
  ReleaseAllocator = 132,
  KernelInfoGetAttributeArray_float = 162,
  KernelInfoGetAttributeArray_int64 = 163,
  RegisterAllocator = 176,
  KernelContext_GetGPUComputeStream = 193,
  GetTensorMemoryInfo = 194,
  HasSessionConfigEntry = 237,
  GetSessionConfigEntry = 238,
  KernelInfoGetConstantInput_tensor = 249,
  KernelContext_GetAllocator = 253,
  ShapeInferContext_GetInputTypeShape = 268,
  ShapeInferContext_SetOutputTypeShape = 270,
  KernelContext_ParallelFor = 274,
  KernelContext_GetScratchBuffer = 277,
};

// Version 18 of OrtAllocator.
struct Allocator {
  uint32_t version;
  void* (*Alloc)(Allocator*, size_t);
  void (*Free)(Allocator*, void*);
  const MemoryInfo* (*Info)(const Allocator*);
  void* (*Reserve)(Allocator*, size_t);
};

// Version 18 of OrtCustomOp.
struct CustomOp {
  uint32_t version;
  void* (*CreateKernel)(const CustomOp*, const void* const*, const KernelInfo*);
  const char* (*GetName)(const CustomOp*);
  const char* (*GetExecutionProviderType)(const CustomOp*);
  int (*GetInputType)(const CustomOp*, size_t);
  size_t (*GetInputTypeCount)(const CustomOp*);
  int (*GetOutputType)(const CustomOp*, size_t);
  size_t (*GetOutputTypeCount)(const CustomOp*);
  void (*KernelCompute)(void*, KernelContext*);
  void (*KernelDestroy)(void*);
  int (*GetInputCharacteristic)(const CustomOp*, size_t);
  int (*GetOutputCharacteristic)(const CustomOp*, size_t);
  int (*GetInputMemoryType)(const CustomOp*, size_t);
  int (*GetVariadicInputMinArity)(const CustomOp*);
  int (*GetVariadicInputHomogeneity)(const CustomOp*);
  int (*GetVariadicOutputMinArity)(const CustomOp*);
  int (*GetVariadicOutputHomogeneity)(const CustomOp*);
  Status* (*CreateKernelV2)(const CustomOp*, const void* const*, const KernelInfo*, void**);
  Status* (*KernelComputeV2)(void*, KernelContext*);
  Status* (*InferOutputShapeFn)(const CustomOp*, ShapeInferContext*);
  int (*GetStartVersion)(const CustomOp*);
  int (*GetEndVersion)(const CustomOp*);
  size_t (*GetMayInplace)(int**, int**);
  void (*ReleaseMayInplace)(int*, int*);
  size_t (*GetAliasMap)(int**, int**);
  void (*ReleaseAliasMap)(int*, int*);
};

// The table of functions, as methods. Each returns nullptr or a status that its caller owns.
class Api {
 public:
  explicit Api(const void* const* table) : table_(table) {}

  Status* create_status(ErrorCode code, const char* text) const {
    return slot<Status* (*)(int, const char*)>(CreateStatus)(code, text);
  }
  const char* message(const Status* status) const {
    return slot<const char* (*)(const Status*)>(GetErrorMessage)(status);
  }
  void release_status(Status* status) const { slot<void (*)(Status*)>(ReleaseStatus)(status); }

  Status* create_domain(const char* name, CustomOpDomain** out) const {
    return slot<Status* (*)(const char*, CustomOpDomain**)>(CreateCustomOpDomain)(name, out);
  }
  void release_domain(CustomOpDomain* domain) const {
    slot<void (*)(CustomOpDomain*)>(ReleaseCustomOpDomain)(domain);
  }
  Status* add_op(CustomOpDomain* domain, const CustomOp* op) const {
    return slot<Status* (*)(CustomOpDomain*, const CustomOp*)>(CustomOpDomain_Add)(domain, op);
  }
  Status* add_domain(SessionOptions* options, CustomOpDomain* domain) const {
    return slot<Status* (*)(SessionOptions*, CustomOpDomain*)>(AddCustomOpDomain)(options, domain);
  }
  Status* add_config(SessionOptions* options, const char* key, const char* value) const {
    return slot<Status* (*)(SessionOptions*, const char*, const char*)>(AddSessionConfigEntry)(
        options, key, value);
  }
  Status* has_config(const SessionOptions* options, const char* key, int* out) const {
    return slot<Status* (*)(const SessionOptions*, const char*, int*)>(HasSessionConfigEntry)(
        options, key, out);
  }
  Status* config(const SessionOptions* options, const char* key, char* out, size_t* size) const {
    return slot<Status* (*)(const SessionOptions*, const char*, char*, size_t*)>(
        GetSessionConfigEntry)(options, key, out, size);
  }

  Status* int_attribute(const KernelInfo* info, const char* name, int64_t* out) const {
    return slot<Status* (*)(const KernelInfo*, const char*, int64_t*)>(
        KernelInfoGetAttribute_int64)(info, name, out);
  }
  Status* float_attribute(const KernelInfo* info, const char* name, float* out) const {
    return slot<Status* (*)(const KernelInfo*, const char*, float*)>(KernelInfoGetAttribute_float)(
        info, name, out);
  }
  // These two tell the number of values in `size` where `out` is nullptr.
  Status* array_attribute(const KernelInfo* info, const char* name, float* out,
                          size_t* size) const {
    return slot<Status* (*)(const KernelInfo*, const char*, float*, size_t*)>(
        KernelInfoGetAttributeArray_float)(info, name, out, size);
  }
  Status* array_attribute(const KernelInfo* info, const char* name, int64_t* out,
                          size_t* size) const {
    return slot<Status* (*)(const KernelInfo*, const char*, int64_t*, size_t*)>(
        KernelInfoGetAttributeArray_int64)(info, name, out, size);
  }
  // The value of an input that is an initializer, which the session keeps; `is_constant` is 0 for
  // others.
  Status* constant_input(const KernelInfo* info, size_t index, int* is_constant,
                         const Value** out) const {
    return slot<Status* (*)(const KernelInfo*, size_t, int*, const Value**)>(
        KernelInfoGetConstantInput_tensor)(info, index, is_constant, out);
  }
  Status* input_count(const KernelContext* context, size_t* out) const {
    return slot<Status* (*)(const KernelContext*, size_t*)>(KernelContext_GetInputCount)(context,
                                                                                         out);
  }
  Status* input(const KernelContext* context, size_t index, const Value** out) const {
    return slot<Status* (*)(const KernelContext*, size_t, const Value**)>(KernelContext_GetInput)(
        context, index, out);
  }
  Status* output(KernelContext* context, size_t index, const int64_t* shape, size_t rank,
                 Value** out) const {
    return slot<Status* (*)(KernelContext*, size_t, const int64_t*, size_t, Value**)>(
        KernelContext_GetOutput)(context, index, shape, rank, out);
  }
  Status* parallel_for(const KernelContext* context, void (*task)(void*, size_t), size_t total,
                       size_t batches, void* data) const {
    return slot<Status* (*)(const KernelContext*, void (*)(void*, size_t), size_t, size_t, void*)>(
        KernelContext_ParallelFor)(context, task, total, batches, data);
  }

  // The stream of the device that a kernel must enqueue on; nullptr on the CPU.
  Status* compute_stream(const KernelContext* context, void** out) const {
    return slot<Status* (*)(const KernelContext*, void**)>(KernelContext_GetGPUComputeStream)(
        context, out);
  }
  Status* memory_info(const Value* value, const MemoryInfo** out) const {
    return slot<Status* (*)(const Value*, const MemoryInfo**)>(GetTensorMemoryInfo)(value, out);
  }
  Status* allocator(const KernelContext* context, const MemoryInfo* where, Allocator** out) const {
    return slot<Status* (*)(const KernelContext*, const MemoryInfo*, Allocator**)>(
        KernelContext_GetAllocator)(context, where, out);
  }
  void release_allocator(Allocator* allocator) const {
    slot<void (*)(Allocator*)>(ReleaseAllocator)(allocator);
  }
  // Memory for this kernel's stream; to be freed through the allocator of the same place.
  Status* scratch(const KernelContext* context, const MemoryInfo* where, size_t bytes,
                  void** out) const {
    return slot<Status* (*)(const KernelContext*, const MemoryInfo*, size_t, void**)>(
        KernelContext_GetScratchBuffer)(context, where, bytes, out);
  }
  Status* free(Allocator* allocator, void* memory) const {
    return slot<Status* (*)(Allocator*, void*)>(AllocatorFree)(allocator, memory);
  }

  Status* tensor_data(Value* value, void** out) const {
    return slot<Status* (*)(Value*, void**)>(GetTensorMutableData)(value, out);
  }
  Status* shape_info(const Value* value, ShapeInfo** out) const {
    return slot<Status* (*)(const Value*, ShapeInfo**)>(GetTensorTypeAndShape)(value, out);
  }
  void release_shape_info(ShapeInfo* info) const {
    slot<void (*)(ShapeInfo*)>(ReleaseTensorTypeAndShapeInfo)(info);
  }
  Status* rank(const ShapeInfo* info, size_t* out) const {
    return slot<Status* (*)(const ShapeInfo*, size_t*)>(GetDimensionsCount)(info, out);
  }
  Status* dimensions(const ShapeInfo* info, int64_t* out, size_t count) const {
    return slot<Status* (*)(const ShapeInfo*, int64_t*, size_t)>(GetDimensions)(info, out, count);
  }
  Status* symbolic_dimensions(const ShapeInfo* info, const char** out, size_t count) const {
    return slot<Status* (*)(const ShapeInfo*, const char**, size_t)>(GetSymbolicDimensions)(
        info, out, count);
  }

  Status* input_type_shape(const ShapeInferContext* context, size_t index, ShapeInfo** out) const {
    return slot<Status* (*)(const ShapeInferContext*, size_t, ShapeInfo**)>(
        ShapeInferContext_GetInputTypeShape)(context, index, out);
  }
  Status* set_output_type_shape(const ShapeInferContext* context, size_t index,
                                const ShapeInfo* info) const {
    return slot<Status* (*)(const ShapeInferContext*, size_t, const ShapeInfo*)>(
        ShapeInferContext_SetOutputTypeShape)(context, index, info);
  }

  // Texts that are given must outlive the environment.
  Status* create_env(LoggingLevel level, const char* name, Env** out) const {
    return slot<Status* (*)(int, const char*, Env**)>(CreateEnv)(level, name, out);
  }
  Status* disable_telemetry(const Env* env) const {
    return slot<Status* (*)(const Env*)>(DisableTelemetryEvents)(env);
  }
  // The environment borrows the allocator, whose functions may throw std::bad_alloc.
  Status* register_allocator(Env* env, Allocator* allocator) const {
    return slot<Status* (*)(Env*, Allocator*)>(RegisterAllocator)(env, allocator);
  }
  void release(Env* env) const { slot<void (*)(Env*)>(ReleaseEnv)(env); }
  Status* create_options(SessionOptions** out) const {
    return slot<Status* (*)(SessionOptions**)>(CreateSessionOptions)(out);
  }
  void release(SessionOptions* options) const {
    slot<void (*)(SessionOptions*)>(ReleaseSessionOptions)(options);
  }
  Status* disable_mem_pattern(SessionOptions* options) const {
    return slot<Status* (*)(SessionOptions*)>(DisableMemPattern)(options);
  }
  Status* set_log_level(SessionOptions* options, LoggingLevel level) const {
    return slot<Status* (*)(SessionOptions*, int)>(SetSessionLogSeverityLevel)(options, level);
  }
  Status* set_threads(SessionOptions* options, int threads) const {
    return slot<Status* (*)(SessionOptions*, int)>(SetIntraOpNumThreads)(options, threads);
  }
  Status* create_session(const Env* env, const void* model, size_t size,
                         const SessionOptions* options, Session** out) const {
    return slot<Status* (*)(const Env*, const void*, size_t, const SessionOptions*, Session**)>(
        CreateSessionFromArray)(env, model, size, options, out);
  }
  void release(Session* session) const { slot<void (*)(Session*)>(ReleaseSession)(session); }

  // Of inputs or outputs, as the slot says.
  Status* count(Slot of, const Session* session, size_t* out) const {
    return slot<Status* (*)(const Session*, size_t*)>(of)(session, out);
  }
  Status* type_info(Slot of, const Session* session, size_t index, TypeInfo** out) const {
    return slot<Status* (*)(const Session*, size_t, TypeInfo**)>(of)(session, index, out);
  }
  // The text is to be freed through the allocator.
  Status* name(Slot of, const Session* session, size_t index, Allocator* allocator,
               char** out) const {
    return slot<Status* (*)(const Session*, size_t, Allocator*, char**)>(of)(session, index,
                                                                             allocator, out);
  }
  void release(TypeInfo* info) const { slot<void (*)(TypeInfo*)>(ReleaseTypeInfo)(info); }
  // The shape belongs to the type; nullptr where that is no tensor.
  Status* tensor_info(const TypeInfo* type, const ShapeInfo** out) const {
    return slot<Status* (*)(const TypeInfo*, const ShapeInfo**)>(CastTypeInfoToTensorInfo)(type,
                                                                                           out);
  }
  Status* element_type(const ShapeInfo* info, int* out) const {
    return slot<Status* (*)(const ShapeInfo*, int*)>(GetTensorElementType)(info, out);
  }
  // Not to be released.
  Status* default_allocator(Allocator** out) const {
    return slot<Status* (*)(Allocator**)>(GetAllocatorWithDefaultOptions)(out);
  }

  Status* create_cpu_memory_info(MemoryInfo** out) const {
    return slot<Status* (*)(int, int, MemoryInfo**)>(CreateCpuMemoryInfo)(device_allocator,
                                                                          default_memory, out);
  }
  void release(MemoryInfo* info) const { slot<void (*)(MemoryInfo*)>(ReleaseMemoryInfo)(info); }
  // A tensor over memory of the caller.
  Status* create_tensor(const MemoryInfo* where, void* data, size_t bytes, const int64_t* shape,
                        size_t rank, ElementType type, Value** out) const {
    return slot<Status* (*)(const MemoryInfo*, void*, size_t, const int64_t*, size_t, int,
                            Value**)>(CreateTensorWithDataAsOrtValue)(where, data, bytes, shape,
                                                                      rank, type, out);
  }
  void release(Value* value) const { slot<void (*)(Value*)>(ReleaseValue)(value); }
  // Names and values are arrays of `inputs` and `outputs` entries; values that are given for the
  // outputs are written into.
  Status* run(Session* session, const char* const* input_names, const Value* const* input_values,
              size_t inputs, const char* const* output_names, size_t outputs,
              Value** output_values) const {
    return slot<Status* (*)(Session*, const void*, const char* const*, const Value* const*, size_t,
                            const char* const*, size_t, Value**)>(Run)(
        session, nullptr, input_names, input_values, inputs, output_names, outputs, output_values);
  }

 private:
  template <typename F>
  F slot(Slot index) const {
    return reinterpret_cast<F>(const_cast<void*>(table_[index]));
  }
  const void* const* table_;
};

}  // namespace ort
