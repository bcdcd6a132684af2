#include "onnxruntime/ops/tensor_memory.h"

#include "onnxruntime/status.h"

#if defined(__linux__)
#include "system/page_pool.h"

namespace sgmf::onnxruntime {
namespace {

struct PoolAllocator : ort::Allocator {
  explicit PoolAllocator(const ort::Api& api) : ort::Allocator{} {
    version = ort::custom_op_version;
    require(api.create_cpu_memory_info(&info));
    Alloc = Reserve = [](Allocator* self, size_t bytes) {
      return static_cast<PoolAllocator*>(self)->pool.allocate(bytes);
    };
    Free = [](Allocator* self, void* memory) {
      static_cast<PoolAllocator*>(self)->pool.free(memory);
    };
    Info = [](const Allocator* self) -> const ort::MemoryInfo* {
      return static_cast<const PoolAllocator*>(self)->info;
    };
  }
  PagePool pool;
  ort::MemoryInfo* info = nullptr;
};

bool succeeds(const ort::Api& api, ort::Status* status) {
  if (status) api.release_status(status);
  return !status;
}

// Gives the environment that Python's ONNX Runtime has made the pool, which is never freed.
// Releases whose Python module keeps its environment to itself, 1.20 among them, refuse to make
// another.
bool register_pool(const ort::Api& api) {
  ort::Env* env = nullptr;
  if (!succeeds(api, api.create_env(ort::log_fatal, "segmaformer", &env))) return false;
  const bool is_there = succeeds(api, api.register_allocator(env, new PoolAllocator(api)));
  api.release(env);
  return is_there;
}

}  // namespace

void use_page_pool(const ort::Api& api, ort::SessionOptions* options) {
  static const bool is_there = register_pool(api);
  if (is_there) require(api.add_config(options, "session.use_env_allocators", "1"));
}

}  // namespace sgmf::onnxruntime
#else
namespace sgmf::onnxruntime {

void use_page_pool(const ort::Api&, ort::SessionOptions*) {}

}  // namespace sgmf::onnxruntime
#endif
