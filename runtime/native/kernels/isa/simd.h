// One vector of floats for each instruction set, with the few operations the kernels need.
//
// A kernel source is compiled once per instruction set; SGMF_ISA names the namespace, so the
// copies never collide. lane_count floats advance together. min and max return their second
// operand where either is NaN, so that a NaN survives clamping in every version.
//
// Each has its Indices, lane_count of them: permute(a, i) is the vector of a[i[0]], a[i[1]] and so
// on. even_of and odd_of give every other float of a, then of b; zip_low and zip_high undo that.
// load_lanes and store_lanes touch
// only the first `lanes` floats of memory.
//
// add_exponent(a, t) multiplies a by 2^n, where t is n + integer_magic: adding the magic number
// leaves an integer in the low bits of a float. a and the product must be normal numbers.
#pragma once

#include "kernels/element.h"

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace SGMF_ISA {

constexpr float integer_magic = 12582912.0f;  // 1.5 * 2^23

#if defined(__AVX512F__)

constexpr int lane_count = 16;
struct Vec {
  __m512 v;
};

inline Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline Vec load(const Half* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
inline Vec load(const BFloat* p) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
}
inline void store(float* p, Vec a) { _mm512_storeu_ps(p, a.v); }
inline void store(Half* p, Vec a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}
inline Vec splat(float x) { return {_mm512_set1_ps(x)}; }
inline Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline Vec min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
inline Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Vec abs(Vec a) { return {_mm512_abs_ps(a.v)}; }
inline Vec add_exponent(Vec a, Vec t) {
  const __m512i n = _mm512_slli_epi32(_mm512_castps_si512(t.v), 23);
  return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a.v), n))};
}

struct Indices {
  __m512i v;
};
inline Indices load_indices(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
inline Vec permute(Vec a, Indices i) { return {_mm512_permutexvar_ps(i.v, a.v)}; }

inline Vec even_of(Vec a, Vec b) {
  const __m512i i = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
  return {_mm512_permutex2var_ps(a.v, i, b.v)};
}
inline Vec odd_of(Vec a, Vec b) {
  const __m512i i = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
  return {_mm512_permutex2var_ps(a.v, i, b.v)};
}
inline Vec zip_low(Vec a, Vec b) {
  const __m512i i = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return {_mm512_permutex2var_ps(a.v, i, b.v)};
}
inline Vec zip_high(Vec a, Vec b) {
  const __m512i i = _mm512_set_epi32(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8);
  return {_mm512_permutex2var_ps(a.v, i, b.v)};
}

inline Vec load_lanes(const float* p, int lanes) {
  return {_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << lanes) - 1), p)};
}
inline void store_lanes(float* p, Vec a, int lanes) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << lanes) - 1), a.v);
}

#elif defined(__AVX2__)

constexpr int lane_count = 8;
struct Vec {
  __m256 v;
};

inline Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
inline Vec load(const Half* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
inline Vec load(const BFloat* p) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16))};
}
inline void store(float* p, Vec a) { _mm256_storeu_ps(p, a.v); }
inline void store(Half* p, Vec a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}
inline Vec splat(float x) { return {_mm256_set1_ps(x)}; }
inline Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline Vec min(Vec a, Vec b) { return {_mm256_min_ps(a.v, b.v)}; }
inline Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
inline Vec abs(Vec a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)}; }
inline Vec add_exponent(Vec a, Vec t) {
  const __m256i n = _mm256_slli_epi32(_mm256_castps_si256(t.v), 23);
  return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a.v), n))};
}

struct Indices {
  __m256i v;
};
inline Indices load_indices(const int32_t* p) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))};
}
inline Vec permute(Vec a, Indices i) { return {_mm256_permutevar8x32_ps(a.v, i.v)}; }

// Shuffles stay within halves: quarters in the order a, b, a, b.
inline Vec sort_quarters(__m256 a) {
  return {_mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(a), 0b11011000))};
}
inline Vec even_of(Vec a, Vec b) { return sort_quarters(_mm256_shuffle_ps(a.v, b.v, 0b10001000)); }
inline Vec odd_of(Vec a, Vec b) { return sort_quarters(_mm256_shuffle_ps(a.v, b.v, 0b11011101)); }
inline Vec zip_low(Vec a, Vec b) {
  const __m256 low = _mm256_unpacklo_ps(a.v, b.v);
  return {_mm256_permute2f128_ps(low, _mm256_unpackhi_ps(a.v, b.v), 0x20)};
}
inline Vec zip_high(Vec a, Vec b) {
  const __m256 low = _mm256_unpacklo_ps(a.v, b.v);
  return {_mm256_permute2f128_ps(low, _mm256_unpackhi_ps(a.v, b.v), 0x31)};
}

inline Vec load_lanes(const float* p, int lanes) {
  const __m256i place = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
  return {_mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes), place))};
}
// By halves: a masked store is slow on AMD's processors.
inline void store_lanes(float* p, Vec a, int lanes) {
  if (lanes == lane_count) return store(p, a);
  __m128 rest = _mm256_castps256_ps128(a.v);
  if (lanes & 4) {
    _mm_storeu_ps(p, rest);
    rest = _mm256_extractf128_ps(a.v, 1);
    p += 4;
  }
  if (lanes & 2) {
    _mm_storel_pi(reinterpret_cast<__m64*>(p), rest);
    rest = _mm_movehl_ps(rest, rest);
    p += 2;
  }
  if (lanes & 1) _mm_store_ss(p, rest);
}

#elif defined(__ARM_NEON)

constexpr int lane_count = 4;
struct Vec {
  float32x4_t v;
};

inline Vec load(const float* p) { return {vld1q_f32(p)}; }
inline Vec load(const Half* p) { return {vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(&p->bits)))}; }
inline Vec load(const BFloat* p) {
  return {vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(&p->bits), 16))};
}
inline void store(float* p, Vec a) { vst1q_f32(p, a.v); }
inline void store(Half* p, Vec a) { vst1_u16(&p->bits, vreinterpret_u16_f16(vcvt_f16_f32(a.v))); }
inline Vec splat(float x) { return {vdupq_n_f32(x)}; }
inline Vec operator+(Vec a, Vec b) { return {vaddq_f32(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) { return {vsubq_f32(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) { return {vmulq_f32(a.v, b.v)}; }
inline Vec operator/(Vec a, Vec b) { return {vdivq_f32(a.v, b.v)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
inline Vec min(Vec a, Vec b) { return {vbslq_f32(vcltq_f32(a.v, b.v), a.v, b.v)}; }
inline Vec max(Vec a, Vec b) { return {vbslq_f32(vcgtq_f32(a.v, b.v), a.v, b.v)}; }
inline Vec abs(Vec a) { return {vabsq_f32(a.v)}; }
inline Vec add_exponent(Vec a, Vec t) {
  const int32x4_t n = vshlq_n_s32(vreinterpretq_s32_f32(t.v), 23);
  return {vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a.v), n))};
}

struct Indices {
  uint8x16_t v;
};
// The table look-up goes byte by byte.
inline Indices load_indices(const int32_t* p) {
  const uint32x4_t lanes = vreinterpretq_u32_s32(vld1q_s32(p));
  return {vreinterpretq_u8_u32(vmlaq_n_u32(vdupq_n_u32(0x03020100u), lanes, 0x04040404u))};
}
inline Vec permute(Vec a, Indices i) {
  return {vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(a.v), i.v))};
}

inline Vec even_of(Vec a, Vec b) { return {vuzp1q_f32(a.v, b.v)}; }
inline Vec odd_of(Vec a, Vec b) { return {vuzp2q_f32(a.v, b.v)}; }
inline Vec zip_low(Vec a, Vec b) { return {vzip1q_f32(a.v, b.v)}; }
inline Vec zip_high(Vec a, Vec b) { return {vzip2q_f32(a.v, b.v)}; }

#else

// GNU vector extensions: whatever registers the target has. Without a fused multiply-add the error
// of e^x grows with x, to 5e-6 where the power is about 1e-25.
constexpr int lane_count = 4;
typedef float Floats __attribute__((vector_size(4 * lane_count)));
typedef uint32_t Bits __attribute__((vector_size(4 * lane_count)));
struct Vec {
  Floats v;
};

inline Vec load(const float* p) {
  Vec a;
  std::memcpy(&a, p, sizeof(a));
  return a;
}
inline void store(float* p, Vec a) { std::memcpy(p, &a, sizeof(a)); }
inline Vec splat(float x) { return {Floats{} + x}; }
inline Vec operator+(Vec a, Vec b) { return {a.v + b.v}; }
inline Vec operator-(Vec a, Vec b) { return {a.v - b.v}; }
inline Vec operator*(Vec a, Vec b) { return {a.v * b.v}; }
inline Vec operator/(Vec a, Vec b) { return {a.v / b.v}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {a.v * b.v + c.v}; }
inline Vec min(Vec a, Vec b) { return {a.v < b.v ? a.v : b.v}; }
inline Vec max(Vec a, Vec b) { return {a.v > b.v ? a.v : b.v}; }
inline Vec abs(Vec a) {
  return {reinterpret_cast<Floats>(reinterpret_cast<Bits>(a.v) & 0x7fffffffu)};
}
inline Vec add_exponent(Vec a, Vec t) {
  return {
      reinterpret_cast<Floats>(reinterpret_cast<Bits>(a.v) + (reinterpret_cast<Bits>(t.v) << 23))};
}

struct Indices {
  int32_t v[lane_count];
};
inline Indices load_indices(const int32_t* p) {
  Indices i;
  std::memcpy(&i, p, sizeof(i));
  return i;
}
inline Vec permute(Vec a, Indices i) {
  return {Floats{a.v[i.v[0]], a.v[i.v[1]], a.v[i.v[2]], a.v[i.v[3]]}};
}

inline Vec even_of(Vec a, Vec b) { return {Floats{a.v[0], a.v[2], b.v[0], b.v[2]}}; }
inline Vec odd_of(Vec a, Vec b) { return {Floats{a.v[1], a.v[3], b.v[1], b.v[3]}}; }
inline Vec zip_low(Vec a, Vec b) { return {Floats{a.v[0], b.v[0], a.v[1], b.v[1]}}; }
inline Vec zip_high(Vec a, Vec b) { return {Floats{a.v[2], b.v[2], a.v[3], b.v[3]}}; }

template <typename T>
inline Vec load(const T* p) {
  float lanes[lane_count];
  for (int i = 0; i < lane_count; ++i) lanes[i] = to_float(p[i]);
  return load(lanes);
}
inline void store(Half* p, Vec a) {
  for (int i = 0; i < lane_count; ++i) from_float(a.v[i], p + i);
}

#endif

// Rounding to bfloat16 is the same few instructions everywhere, and rare.
inline void store(BFloat* p, Vec a) {
  float lanes[lane_count];
  store(lanes, a);
  for (int i = 0; i < lane_count; ++i) from_float(lanes[i], p + i);
}

template <typename T>
inline Vec load_lanes(const T* p, int lanes) {
  if (lanes == lane_count) return load(p);
  T buffer[lane_count] = {};
  for (int i = 0; i < lanes; ++i) buffer[i] = p[i];
  return load(buffer);
}

template <typename T>
inline void store_lanes(T* p, Vec x, int lanes) {
  if (lanes == lane_count) return store(p, x);
  T buffer[lane_count];
  store(buffer, x);
  for (int i = 0; i < lanes; ++i) p[i] = buffer[i];
}

// Stands for lane_count lanes where compilers shall know that there are as many.
struct AllLanes {};
inline Vec load_lanes(const float* p, AllLanes) { return load(p); }
inline void store_lanes(float* p, Vec x, AllLanes) { store(p, x); }

// Calls f(i, lanes) for the vectors of `size` floats: AllLanes from float i, or the rest of them.
template <typename F>
inline void for_each_vector(int64_t size, F f) {
  int64_t i = 0;
  for (; i + lane_count <= size; i += lane_count) f(i, AllLanes());
  if (i < size) f(i, static_cast<int>(size - i));
}

}  // namespace SGMF_ISA
