// The fibers behind cuda_runtime.h.
#include <csetjmp>
#include <cstring>
#include <memory>
#include <vector>

#include <ucontext.h>

#include "cuda_runtime.h"

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace sgmf::cuda {
alignas(16) float4 shared_memory[4096];  // what the kernels declare as extern
}  // namespace sgmf::cuda

namespace {

constexpr unsigned most_threads = 1024;
constexpr unsigned warp_threads = 32;
constexpr std::size_t most_shared_bytes = 48 << 10;
constexpr std::size_t stack_bytes = 64 << 10;
constexpr unsigned char poison = 0xff;  // as a float: NaN

enum class Wait { none, warp, block, done };

struct Fiber {
  std::unique_ptr<char[]> stack{new char[stack_bytes]};
  ucontext_t context;
  jmp_buf resume;
  bool started = false;
  Wait wait = Wait::none;
  float offered[2];  // to the other lanes: in turns, so that one barrier is enough
  unsigned turn = 0;
};

std::vector<Fiber> fibers;
Fiber* running;
jmp_buf scheduler;
const cuda_on_host::Launch* present;
int (*launch_with)(cudaStream_t stream, int (*work)(void*), void* data) = nullptr;
bool descending = false;
unsigned first_block = 0;
const char* failure = "";

// Hands over to the scheduler until the reason to wait is gone.
void wait_for(Wait reason) {
  running->wait = reason;
  if (!_setjmp(running->resume)) _longjmp(scheduler, 1);
}

void live() {
  for (;;) {
    present->run_thread();
    wait_for(Wait::done);
  }
}

void resume(unsigned thread) {
  running = &fibers[thread];
  threadIdx = dim3(thread, 0, 0);
  if (_setjmp(scheduler)) return;
  if (running->started) _longjmp(running->resume, 1);
  running->started = true;
  getcontext(&running->context);
  running->context.uc_stack = {running->stack.get(), 0, stack_bytes};
  running->context.uc_link = nullptr;
  makecontext(&running->context, live, 0);
  setcontext(&running->context);
}

bool all_wait(unsigned begin, unsigned end, Wait reason) {
  for (unsigned i = begin; i < end; ++i) {
    if (fibers[i].wait != reason) return false;
  }
  return true;
}

void release(unsigned begin, unsigned end) {
  for (unsigned i = begin; i < end; ++i) fibers[i].wait = Wait::none;
}

// Whether any thread may go on.
bool open_barriers(unsigned threads) {
  if (all_wait(0, threads, Wait::block)) {
    release(0, threads);
    return true;
  }
  bool opened = false;
  for (unsigned warp = 0; warp < threads; warp += warp_threads) {
    if (!all_wait(warp, warp + warp_threads, Wait::warp)) continue;
    release(warp, warp + warp_threads);
    opened = true;
  }
  return opened;
}

bool run_block(unsigned threads) {
  release(0, threads);
  do {
    for (unsigned i = 0; i < threads; ++i) {
      const unsigned thread = descending ? threads - 1 - i : i;
      if (fibers[thread].wait == Wait::none) resume(thread);
    }
    if (all_wait(0, threads, Wait::done)) return true;
  } while (open_barriers(threads));
  failure = "threads of a block wait for others that do not come";
  fibers.clear();  // their stacks hold unfinished calls
  return false;
}

bool is_poison(const unsigned char* begin, const unsigned char* end) {
  for (; begin < end; ++begin) {
    if (*begin != poison) return false;
  }
  return true;
}

}  // namespace

void __syncthreads() { wait_for(Wait::block); }

float __shfl_xor_sync(unsigned lanes, float value, int distance) {
  if (lanes != 0xffffffffu) return NAN;
  const unsigned turn = running->turn++ % 2;
  running->offered[turn] = value;
  wait_for(Wait::warp);
  return fibers[threadIdx.x ^ static_cast<unsigned>(distance)].offered[turn];
}

namespace {

cudaError_t run(const cuda_on_host::Launch& launch) {
  const cudaLaunchConfig_t& config = launch.config;
  const unsigned threads = config.blockDim.x;
  if (!threads || threads > most_threads || threads % warp_threads || !config.gridDim.x ||
      config.dynamicSmemBytes > most_shared_bytes) {
    return cudaErrorInvalidValue;
  }
  if (fibers.size() < threads) fibers = std::vector<Fiber>(most_threads);
  present = &launch;
  blockDim = config.blockDim;
  gridDim = config.gridDim;
  auto* shared = reinterpret_cast<unsigned char*>(sgmf::cuda::shared_memory);
  const unsigned char* shared_end = shared + sizeof(sgmf::cuda::shared_memory);
  for (unsigned block = first_block; block < gridDim.x; ++block) {
    blockIdx = dim3(block, 0, 0);
    std::memset(shared, poison, sizeof(sgmf::cuda::shared_memory));
    if (!run_block(threads)) return cudaErrorLaunchFailure;
    if (!is_poison(shared + config.dynamicSmemBytes, shared_end)) {
      failure = "a block wrote behind its shared memory";
      return cudaErrorLaunchFailure;
    }
  }
  return cudaSuccess;
}

int run_later(void* launch) {
  const std::unique_ptr<const cuda_on_host::Launch> owned(
      static_cast<const cuda_on_host::Launch*>(launch));
  return run(*owned);
}

}  // namespace

cudaError_t cuda_on_host::start(std::unique_ptr<const Launch> launch) {
  const cudaStream_t stream = launch->config.stream;
  if (!launch_with || !stream) return run(*launch);
  return launch_with(stream, run_later, const_cast<Launch*>(launch.release()))
             ? cudaErrorInvalidValue
             : cudaSuccess;
}

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorLaunchFailure ? failure : "invalid argument";
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = 8;
  return cudaSuccess;
}

// The order in which the threads of a block run up to each barrier.
extern "C" __attribute__((visibility("default"))) void cuda_on_host_descending(int value) {
  descending = value;
}

// Leaves out the blocks before this one: of tensors that are too large to be computed whole.
extern "C" __attribute__((visibility("default"))) void cuda_on_host_first_block(unsigned block) {
  first_block = block;
}

// Lets launches wait for their turn in streams of a driver: its function `launch`.
extern "C" __attribute__((visibility("default"))) void cuda_on_host_launch_with(
    int (*launch)(cudaStream_t, int (*)(void*), void*)) {
  launch_with = launch;
}
