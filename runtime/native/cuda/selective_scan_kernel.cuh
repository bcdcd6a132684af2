// The selective scan on a GPU, in up to three passes.
//
// The sequence is cut into chunks that run side by side: the first pass finds the state that each
// chunk leaves behind when it starts from zero, the second turns these into the states that the
// chunks start from, and the third runs every chunk from there and writes y.
//
// A thread holds the states of one channel, or its share of them, in registers; lanes of a warp
// are neighbouring channels. A tile of tokens is staged in shared memory as float32: steps and u
// of the block's channels, and B and C, which all of them share. So each input is read once in a
// pass, whatever its type.
//
// The first pass reads u, delta and B, which the third reads again: about half as many bytes
// again as are needed. Both passes take an exponential for each state, of which a multiprocessor
// does 16 in a clock cycle. With 16 states and float16 these take longer than the memory of a
// Jetson or a data-centre GPU; with fewer states, float32, or narrow memory the second reading
// shows.
#pragma once

#include "cuda/element.cuh"
#include "cuda/scan_plan.h"
#include "kernels/interface/selective_scan.h"

namespace sgmf::cuda {

struct Scan {
  sgmf_selective_scan_args args;
  ScanPlan plan;
  float* state;     // (batch, chunks, states, channels): after each chunk, then before it
  float* step_sum;  // (batch, chunks, channels)
};

extern __shared__ float4 shared_memory[];

// What a block stages of `tile_tokens` tokens.
struct Tile {
  float2* tokens;      // [token][channel of the panel]: step and u, then step and y
  float* projections;  // [token][lane]: B of the lane's states, then C
};

inline std::size_t tile_bytes(const ScanPlan& plan) {
  return sizeof(float) * tile_tokens * (2 * plan.panel + plan.token_stride);
}

__device__ inline Tile shared_tile(const ScanPlan& plan) {
  auto* tokens = reinterpret_cast<float2*>(shared_memory);
  return {tokens, reinterpret_cast<float*>(tokens + tile_tokens * plan.panel)};
}

// The stretch of the sequence and the channels of this block.
struct Place {
  int batch;
  int chunk;
  int channel;  // first of the panel
  int begin;    // logical tokens: token 0 comes first whichever way the scan runs
  int end;
};

__device__ inline Place place_of_block(const Scan& scan, int chunks) {
  const int panels = scan.plan.panels;
  Place place;
  place.channel = static_cast<int>(blockIdx.x % panels) * scan.plan.panel;
  place.chunk = static_cast<int>(blockIdx.x / panels % chunks);
  place.batch = static_cast<int>(blockIdx.x / panels / chunks);
  const int length = static_cast<int>(scan.args.length);
  const int chunk = static_cast<int>(scan.plan.chunk);
  place.begin = place.chunk * chunk;
  place.end = length - place.begin > chunk ? place.begin + chunk : length;
  return place;
}

// Tokens of a tile in a tensor of (batch, length, width): the first and the way to the next.
struct Rows {
  int64_t first;
  int64_t stride;
};

__device__ inline Rows rows_from(const Scan& scan, const Place& place, int token, int64_t width) {
  const int64_t row = scan.args.reverse ? scan.args.length - 1 - token : token;
  return {(place.batch * scan.args.length + row) * width, scan.args.reverse ? -width : width};
}

// Loads that a thread has under way at once: a batch waits for the memory once. In place of what
// lies behind the end it takes the first or last element again, since behind a branch each load
// would wait for the one before.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr int batch_tokens = 4;  // eight spill registers there
#else
constexpr int batch_tokens = 8;
#endif
constexpr int batch_projections = 4;

// While a tile is staged and stored, a thread has one channel and every lanes-th token of it. What
// it stages for channels beyond the last is never stored.
struct Column {
  int number;      // of the panel's channels
  int channel;     // of the tensors; the last for those beyond
  int first;       // token
  int64_t at;      // of that token in the tensors
  int64_t stride;  // to the thread's next token

  __device__ Column(const Scan& scan, const Place& place, int begin) {
    number = threadIdx.x % scan.plan.panel;
    const int last = static_cast<int>(scan.args.channels) - 1;
    channel = place.channel + number < last ? place.channel + number : last;
    first = threadIdx.x / scan.plan.panel;
    const Rows rows = rows_from(scan, place, begin, scan.args.channels);
    at = rows.first + first * rows.stride + channel;
    stride = scan.plan.lanes * rows.stride;
  }

  // The i-th of the thread's next tokens if it exists, else the first.
  __device__ int64_t place(int i, bool exists) const { return exists ? at + i * stride : at; }
};

template <typename T>
__device__ void stage_tokens(const Scan& scan, const Place& place, int begin, int tokens,
                             const Tile& tile) {
  Column column(scan, place, begin);
  const float bias = scan.args.delta_bias ? scan.args.delta_bias[column.channel] : 0.0f;
  const auto* delta = static_cast<const T*>(scan.args.delta);
  const auto* u = static_cast<const T*>(scan.args.u);
  const int lanes = scan.plan.lanes;
  for (int t = column.first; t < tokens; t += batch_tokens * lanes) {
    float steps[batch_tokens], values[batch_tokens];
    const auto place = [&](int i) { return column.place(i, t + i * lanes < tokens); };
    load_together(delta, steps, place);
    load_together(u, values, place);
#pragma unroll
    for (int i = 0; i < batch_tokens; ++i) {
      if (t + i * lanes >= tokens) break;
      float step = steps[i] + bias;
      if (scan.args.delta_softplus) step = softplus(step);
      tile.tokens[(t + i * lanes) * scan.plan.panel + column.number] = make_float2(step, values[i]);
    }
    column.at += batch_tokens * column.stride;
  }
}

// B, and C if it is used. States beyond the last are staged as zero.
template <typename T, int group, bool has_c>
__device__ void stage_projections(const Scan& scan, const Place& place, int begin, int tokens,
                                  float* staged) {
  const unsigned padded = group * scan.plan.lanes;  // a power of two, as is `group`
  const unsigned count = tokens * padded, states = scan.args.states;
  const auto* b = static_cast<const T*>(scan.args.B);
  const auto* c = static_cast<const T*>(scan.args.C);
  const Rows rows = rows_from(scan, place, begin, scan.args.states);
  const int shift = __ffs(padded) - 1;
  for (unsigned first = threadIdx.x; first < count; first += batch_projections * blockDim.x) {
    float b_values[batch_projections], c_values[batch_projections];
    const auto place = [&](int i) {
      const unsigned at = min(first + i * blockDim.x, count - 1);
      return rows.first + (at >> shift) * rows.stride + min(at & (padded - 1), states - 1);
    };
    load_together(b, b_values, place);
    if (has_c) load_together(c, c_values, place);
#pragma unroll
    for (int i = 0; i < batch_projections; ++i) {
      const unsigned at = min(first + i * blockDim.x, count - 1);
      const unsigned t = at >> shift, n = at & (padded - 1);
      float* slot = staged + t * scan.plan.token_stride + n / group * scan.plan.lane_stride;
      slot[n % group] = n < states ? b_values[i] : 0.0f;
      if (has_c) slot[n % group + group] = n < states ? c_values[i] : 0.0f;
    }
  }
}

template <typename T, int group, bool write_y>
__device__ void stage(const Scan& scan, const Place& place, int begin, int tokens,
                      const Tile& tile) {
  stage_tokens<T>(scan, place, begin, tokens, tile);
  stage_projections<T, group, write_y>(scan, place, begin, tokens, tile.projections);
}

template <typename T>
__device__ void store(const Scan& scan, const Place& place, int begin, int tokens,
                      const Tile& tile) {
  Column column(scan, place, begin);
  if (place.channel + column.number >= scan.args.channels) return;
  const auto* z = static_cast<const T*>(scan.args.z);
  auto* y = static_cast<T*>(scan.args.y);
  const int lanes = scan.plan.lanes;
  for (int t = column.first; t < tokens; t += batch_tokens * lanes) {
    float gates[batch_tokens];
    if (z) {
      load_together(z, gates, [&](int i) { return column.place(i, t + i * lanes < tokens); });
    }
#pragma unroll
    for (int i = 0; i < batch_tokens; ++i) {
      if (t + i * lanes >= tokens) break;
      const float sum = tile.tokens[(t + i * lanes) * scan.plan.panel + column.number].y;
      from_float(z ? sum * silu(gates[i]) : sum, y + column.at + i * column.stride);
    }
    column.at += batch_tokens * column.stride;
  }
}

// The states that one thread carries along its chunk.
template <int group>
struct States {
  float a[group];  // times log2(e), so that exp becomes exp2
  float h[group];

  __device__ static int number(const Scan& scan, int i) {
    return static_cast<int>(threadIdx.x % scan.plan.lanes) * group + i;
  }

  // `carried` is the state of the first channel, or null for zero.
  __device__ void load(const Scan& scan, int channel, const float* carried) {
#pragma unroll
    for (int i = 0; i < group; ++i) {
      const int n = number(scan, i);
      const bool inside = channel < scan.args.channels && n < scan.args.states;
      a[i] = inside ? scan.args.A[channel * scan.args.states + n] * log2_e : 0.0f;
      h[i] = inside && carried ? carried[n * scan.args.channels + channel] : 0.0f;
    }
  }

  __device__ void store(const Scan& scan, int channel, float* carried) const {
#pragma unroll
    for (int i = 0; i < group; ++i) {
      const int n = number(scan, i);
      if (channel < scan.args.channels && n < scan.args.states) {
        carried[n * scan.args.channels + channel] = h[i];
      }
    }
  }

  // `staged` is B and C of this lane.
  __device__ void advance(const float* staged, float step, float drive) {
#pragma unroll
    for (int i = 0; i < group; i += 4) {
      const float4 b = *reinterpret_cast<const float4*>(staged + i);
      h[i] = fmaf(exp2_flushed(step * a[i]), h[i], drive * b.x);
      h[i + 1] = fmaf(exp2_flushed(step * a[i + 1]), h[i + 1], drive * b.y);
      h[i + 2] = fmaf(exp2_flushed(step * a[i + 2]), h[i + 2], drive * b.z);
      h[i + 3] = fmaf(exp2_flushed(step * a[i + 3]), h[i + 3], drive * b.w);
    }
  }

  // The sum of C h over this lane's states.
  __device__ float project(const float* staged) const {
    float even = 0.0f, odd = 0.0f;
#pragma unroll
    for (int i = 0; i < group; i += 4) {
      const float4 c = *reinterpret_cast<const float4*>(staged + group + i);
      even = fmaf(h[i], c.x, even);
      odd = fmaf(h[i + 1], c.y, odd);
      even = fmaf(h[i + 2], c.z, even);
      odd = fmaf(h[i + 3], c.w, odd);
    }
    return even + odd;
  }
};

__device__ inline float sum_over_lanes(float x, int lanes) {
  for (int distance = lanes / 2; distance; distance /= 2) {
    x += __shfl_xor_sync(0xffffffffu, x, distance);
  }
  return x;
}

template <int group, bool write_y>
__device__ void stage_elements(const Scan& scan, const Place& place, int begin, int tokens,
                               const Tile& tile) {
  switch (scan.args.element_type) {
    case SGMF_FLOAT32: return stage<float, group, write_y>(scan, place, begin, tokens, tile);
    case SGMF_FLOAT16: return stage<__half, group, write_y>(scan, place, begin, tokens, tile);
    default: return stage<__nv_bfloat16, group, write_y>(scan, place, begin, tokens, tile);
  }
}

__device__ inline void store_elements(const Scan& scan, const Place& place, int begin, int tokens,
                                      const Tile& tile) {
  switch (scan.args.element_type) {
    case SGMF_FLOAT32: return store<float>(scan, place, begin, tokens, tile);
    case SGMF_FLOAT16: return store<__half>(scan, place, begin, tokens, tile);
    default: return store<__nv_bfloat16>(scan, place, begin, tokens, tile);
  }
}

// The third pass, or, with `write_y` false, the first: every chunk but the last from zero, for
// the state after it and the sum of its steps.
template <int group, bool write_y>
__global__ void __launch_bounds__(most_threads, resident_blocks) run_chunks(const Scan scan) {
  const Place place = place_of_block(scan, scan.plan.chunks - (write_y ? 0 : 1));
  const Tile tile = shared_tile(scan.plan);
  const int column = threadIdx.x / scan.plan.lanes;
  const int lane = threadIdx.x % scan.plan.lanes;
  const int channel = place.channel + column;
  const int64_t chunk = static_cast<int64_t>(place.batch) * scan.plan.chunks + place.chunk;
  float* carried = scan.state + chunk * scan.args.states * scan.args.channels;
  const bool skips = write_y && scan.args.D && channel < scan.args.channels;
  const float skip = skips ? scan.args.D[channel] : 0.0f;
  float step_sum = 0.0f;
  States<group> states;
  states.load(scan, channel, write_y && place.chunk ? carried : nullptr);
  for (int begin = place.begin; begin < place.end; begin += tile_tokens) {
    const int tokens = place.end - begin < tile_tokens ? place.end - begin : tile_tokens;
    stage_elements<group, write_y>(scan, place, begin, tokens, tile);
    __syncthreads();
    const float* projections = tile.projections + lane * scan.plan.lane_stride;
    float2* staged = tile.tokens + column;
#pragma unroll 2
    for (int t = 0; t < tokens; ++t) {
      const float step = staged->x, u = staged->y;
      states.advance(projections, step, step * u);
      if (write_y) {
        const float sum = sum_over_lanes(states.project(projections), scan.plan.lanes);
        if (lane == 0) staged->y = fmaf(skip, u, sum);
      } else {
        step_sum += step;
      }
      projections += scan.plan.token_stride;
      staged += scan.plan.panel;
    }
    __syncthreads();
    if (write_y) store_elements(scan, place, begin, tokens, tile);
  }
  if (write_y) return;
  states.store(scan, channel, carried);
  if (lane == 0 && channel < scan.args.channels) {
    scan.step_sum[chunk * scan.args.channels + channel] = step_sum;
  }
}

// The second pass: a block takes `carry_columns` pairs of state and channel, its rows of threads
// neighbouring spans of `carry_span` chunks.
constexpr int carry_columns = 32;
constexpr int carry_rows = 8;
constexpr int carry_span = 16;

inline std::size_t carry_bytes() { return sizeof(float) * 2 * carry_rows * carry_columns; }

// One thread's chunks: what each multiplies the state by and what it adds.
struct CarrySpan {
  float decay[carry_span];
  float end[carry_span];

  // The chunk whose end is not known has none after it.
  __device__ void load(const Scan& scan, int64_t batch, int64_t chunk, int64_t column, float a) {
#pragma unroll
    for (int i = 0; i < carry_span; ++i) {
      const int64_t at = batch * scan.plan.chunks + chunk + i;
      const bool known = chunk + i < scan.plan.chunks - 1;
      const int64_t channel = column % scan.args.channels;
      end[i] = known ? scan.state[at * scan.args.states * scan.args.channels + column] : 0.0f;
      const float steps = known ? scan.step_sum[at * scan.args.channels + channel] : 0.0f;
      decay[i] = exp2_flushed(steps * a);
    }
  }

  // Leaves before each chunk the state that it starts from.
  __device__ void store(const Scan& scan, int64_t batch, int64_t chunk, int64_t column,
                        float carry) const {
#pragma unroll
    for (int i = 0; i < carry_span; ++i) {
      const int64_t at = batch * scan.plan.chunks + chunk + i;
      if (chunk + i < scan.plan.chunks) {
        scan.state[at * scan.args.states * scan.args.channels + column] = carry;
      }
      carry = fmaf(decay[i], carry, end[i]);
    }
  }
};

__global__ void __launch_bounds__(carry_rows* carry_columns) pass_carries(const Scan scan) {
  const int64_t columns = scan.args.states * scan.args.channels;
  const int64_t blocks = (columns + carry_columns - 1) / carry_columns;
  const int64_t batch = blockIdx.x / blocks;
  const int row = threadIdx.x / carry_columns;
  const int64_t column = blockIdx.x % blocks * carry_columns + threadIdx.x % carry_columns;
  const bool inside = column < columns;
  const int64_t n = column / scan.args.channels, channel = column % scan.args.channels;
  const float a = inside ? scan.args.A[channel * scan.args.states + n] * log2_e : 0.0f;
  auto* decays = reinterpret_cast<float*>(shared_memory);  // [row][column], over a thread's span
  float* ends = decays + carry_rows * carry_columns;
  float carry = 0.0f;
  for (int64_t first = 0; first < scan.plan.chunks; first += carry_rows * carry_span) {
    const int64_t chunk = first + row * carry_span;
    CarrySpan span;
    if (inside) span.load(scan, batch, chunk, column, a);
    float decay = 1.0f, end = 0.0f;
#pragma unroll
    for (int i = 0; i < carry_span; ++i) {
      decay *= span.decay[i];
      end = fmaf(span.decay[i], end, span.end[i]);
    }
    decays[threadIdx.x] = decay;
    ends[threadIdx.x] = end;
    __syncthreads();
    float start = carry;
    for (int r = 0; r < carry_rows; ++r) {
      const int at = r * carry_columns + threadIdx.x % carry_columns;
      if (r == row) start = carry;
      carry = fmaf(decays[at], carry, ends[at]);
    }
    __syncthreads();
    if (inside) span.store(scan, batch, chunk, column, start);
  }
}

}  // namespace sgmf::cuda
