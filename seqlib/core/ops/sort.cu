// The k greatest of rows [rows, width], k ≤ 64: a block of 256 threads a row. NaN counts as greater than all numbers, and
// of equal elements the lower index comes first, as in sort.py.
#include "common.cuh"

constexpr int THREADS = 256, LARGEST = 64;

// A key that orders as (value, lower index) does: bits of the value made monotone above, the index upside down below.
template <typename T> __device__ __forceinline__ u64 key_of(T x, int at) {
    float value = load(x) + 0.0f;  // -0 is 0
    u32 bits = value != value ? ~0u : __float_as_uint(value);
    if (value == value) bits = bits >> 31 ? ~bits : bits | 0x80000000u;
    return u64(bits) << 32 | (0xFFFFFFFFu - u32(at));
}

__device__ __forceinline__ u64 greatest(u64 key, u64* room) {
    key = warp_max(key);
    if (threadIdx.x % WARP == 0) room[threadIdx.x / WARP] = key;
    __syncthreads();
    for (int w = 0; w < THREADS / WARP; ++w) key = max(key, room[w]);
    __syncthreads();
    return key;
}

// Thread t has the packs of LANES columns t, t + 256, …. The k greatest elements lie with the k threads whose own greatest are greatest:
// were one elsewhere, each of those k threads would have an element before it. So after one pass only k threads' columns
// are looked at, k times by all threads: each time for the greatest key below the last one.
template <typename T, int LANES>
__global__ void __launch_bounds__(THREADS) top_k(T* values, int* indices, const T* x, int width, int k) {
    __shared__ u64 own[THREADS], room[THREADS / WARP];
    __shared__ int owners[LARGEST];
    const T* row = x + i64(blockIdx.x) * width;
    u64 best = 0;
#pragma unroll 4
    for (int p = threadIdx.x; p < width / LANES; p += THREADS) {
        Pack<T, LANES> held = reinterpret_cast<const Pack<T, LANES>*>(row)[p];
        for (int n = 0; n < LANES; ++n) best = max(best, key_of(held.at[n], p * LANES + n));
    }
    own[threadIdx.x] = best;
    __syncthreads();
    int before = 0;
    for (int t = 0; t < THREADS; ++t) before += own[t] > best || (own[t] == best && t < threadIdx.x);
    if (before < k) owners[before] = threadIdx.x;
    __syncthreads();
    int places = (width / LANES + THREADS - 1) / THREADS * LANES, all = places * k;
    u64 last = ~u64(0);
    for (int n = 0; n < k; ++n) {
        u64 next = 0;
        for (int i = threadIdx.x; i < all; i += THREADS) {
            int place = i % places, c = (owners[i / places] + place / LANES * THREADS) * LANES + place % LANES;
            if (c < width) {
                u64 key = key_of(row[c], c);
                if (key < last) next = max(next, key);
            }
        }
        last = greatest(next, room);
        if (threadIdx.x == 0) {
            int at = int(0xFFFFFFFFu - u32(last));
            i64 to = i64(blockIdx.x) * k + n;
            if (values) values[to] = row[at];
            if (indices) indices[to] = at;
        }
    }
}
