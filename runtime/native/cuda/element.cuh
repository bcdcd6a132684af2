// Storage types of the kernels' tensors, and the functions of the scan in float32.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace sgmf::cuda {

constexpr float log2_e = 1.44269504088896341f;

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__half x) { return __half2float(x); }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

__device__ inline void from_float(float x, float* p) { *p = x; }
__device__ inline void from_float(float x, __half* p) { *p = __float2half_rn(x); }
__device__ inline void from_float(float x, __nv_bfloat16* p) { *p = __float2bfloat16_rn(x); }

// Reads values that nothing writes while the kernel runs, all of them before the first is used, so
// that a thread waits for the memory once. The empty use keeps the compiler from moving a load
// behind a branch around its use.
template <typename T, int count, typename Place>
__device__ inline void load_together(const T* from, float (&values)[count], Place place) {
#pragma unroll
  for (int i = 0; i < count; ++i) {
#ifdef __CUDA_ARCH__
    values[i] = to_float(__ldg(from + place(i)));
#else
    values[i] = to_float(from[place(i)]);
#endif
  }
#ifdef __CUDA_ARCH__
#pragma unroll
  for (int i = 0; i < count; ++i) asm volatile("" : "+f"(values[i]));
#endif
}

// 2^x to two units in the last place in one instruction; results below 2^-126 become zero, which
// exp2f would spend three more instructions on.
__device__ inline float exp2_flushed(float x) {
#ifdef __CUDA_ARCH__
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  const float y = exp2f(x);
  return y < 0x1p-126f ? 0.0f : y;
#endif
}

// max(x, 0) + log1p(exp(-|x|)). Above 20 this equals x to float32, which is the published cut-off.
// log1p(t) = 2 atanh(t / (2 + t)), a minimax fit in s^2 on [0, 1/9] to 4e-9, keeps its relative
// accuracy as t goes to zero.
__device__ inline float softplus(float x) {
  const float t = expf(-fabsf(x));
  const float s = __fdividef(t, 2.0f + t);
  const float q = s * s;
  float p = 0.1408921331167221f;
  p = fmaf(p, q, 0.1398036926984787f);
  p = fmaf(p, q, 0.20012442767620087f);
  p = fmaf(p, q, 0.3333315849304199f);
  p = fmaf(p, q, 1.0f);
  return fmaf(s + s, p, fmaxf(0.0f, x));
}

// Beyond -87, where __fdividef gives zero, so does the gate to 1e-36.
__device__ inline float silu(float x) { return __fdividef(x, 1.0f + expf(-x)); }

}  // namespace sgmf::cuda
