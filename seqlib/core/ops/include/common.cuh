// What every kernel shares: conversions, reductions over a warp or a block, and the Philox generator.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned long long u64;
typedef long long i64;
typedef __nv_bfloat16 bf16;
typedef __half f16;

constexpr int WARP = 32;
#define INF __int_as_float(0x7f800000)

// The type in which a kernel computes on values of type T.
template <typename T> struct Compute { typedef float type; };
template <> struct Compute<double> { typedef double type; };

__device__ __forceinline__ float load(float x) { return x; }
__device__ __forceinline__ double load(double x) { return x; }
__device__ __forceinline__ float load(bf16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float load(f16 x) { return __half2float(x); }

template <typename T> __device__ __forceinline__ T store(float x) { return T(x); }
template <> __device__ __forceinline__ bf16 store<bf16>(float x) { return __float2bfloat16_rn(x); }
template <> __device__ __forceinline__ f16 store<f16>(float x) { return __float2half_rn(x); }
template <typename T> __device__ __forceinline__ T store(double x) { return T(x); }
template <> __device__ __forceinline__ bf16 store<bf16>(double x) { return __float2bfloat16_rn(float(x)); }
template <> __device__ __forceinline__ f16 store<f16>(double x) { return __float2half_rn(float(x)); }

// exp and log as exact as values of type T deserve: 2 ulp and a little more for 16 bits, 1 ulp for float.
template <typename T> __device__ __forceinline__ float exp_for(float x) { return __expf(x); }
template <> __device__ __forceinline__ float exp_for<float>(float x) { return expf(x); }
template <typename T> __device__ __forceinline__ float log_for(float x) { return __logf(x); }
template <> __device__ __forceinline__ float log_for<float>(float x) { return logf(x); }

// N values of type T moved as one access of up to 16 bytes.
template <typename T, int N> struct alignas(sizeof(T) * N) Pack { T at[N]; };
template <typename T> struct Wide { static constexpr int lanes = 16 / sizeof(T); typedef Pack<T, lanes> type; };

template <typename A> __device__ __forceinline__ A warp_sum(A x) {
    for (int o = WARP / 2; o; o /= 2) x += __shfl_xor_sync(~0u, x, o);
    return x;
}
template <typename A> __device__ __forceinline__ A warp_max(A x) {
    for (int o = WARP / 2; o; o /= 2) x = max(x, __shfl_xor_sync(~0u, x, o));
    return x;
}

// The sum over a block, the same in every thread; `room` holds one value a warp. Fixed order: same bits every time.
template <typename A> __device__ __forceinline__ A block_sum(A x, A* room) {
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
    x = warp_sum(x);
    __syncthreads();
    if (lane == 0) room[warp] = x;
    __syncthreads();
    x = lane < warps ? room[lane] : A(0);
    return warp_sum(x);
}
template <typename A> __device__ __forceinline__ A block_max(A x, A* room) {
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
    x = warp_max(x);
    __syncthreads();
    if (lane == 0) room[warp] = x;
    __syncthreads();
    x = lane < warps ? room[lane] : room[0];
    return warp_max(x);
}

// The tensor of a block: `first` counts the blocks of all tensors before each one.
template <int N> __device__ __forceinline__ int owner(const int (&first)[N], int block) {
    int low = 0, high = N - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (first[middle] <= block) low = middle;
        else high = middle - 1;
    }
    return low;
}

// Philox4x32-10 (Salmon et al. 2011): key = seed, counter = (block, offset). Element i of a drawn array uses
// block i / 8, lane i % 8 of 16 bits, low half of a word first (seqlib/core/philox.py).
struct Words { u32 at[4]; };

__device__ __forceinline__ Words philox(u64 seed, u64 offset, u64 block) {
    u32 x0 = u32(block), x1 = u32(block >> 32), x2 = u32(offset), x3 = u32(offset >> 32);
    u32 k0 = u32(seed), k1 = u32(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        u32 low0 = 0xD2511F53u * x0, high0 = __umulhi(0xD2511F53u, x0);
        u32 low1 = 0xCD9E8D57u * x2, high1 = __umulhi(0xCD9E8D57u, x2);
        x0 = high1 ^ x1 ^ k0;
        x2 = high0 ^ x3 ^ k1;
        x1 = low1;
        x3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{x0, x1, x2, x3}};
}
__device__ __forceinline__ u32 lane16(const Words& w, int lane) { return w.at[lane >> 1] >> (16 * (lane & 1)) & 0xFFFFu; }
