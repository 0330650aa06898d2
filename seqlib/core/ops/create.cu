// Arrays made from nothing.
#include "common.cuh"

// start + step i, in float64 (or int64 for integers), then in the array's type.
template <typename T, typename A> __global__ void iota(T* y, A start, A step, i64 size) {
    i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < size) y[i] = T(start + step * A(i));
}

// Stretches of bytes copied, a block a chunk of one of them.
constexpr int COPIES = 64, CHUNK = 16384;
struct Copies {
    char* to[COPIES];
    const char* from[COPIES];
    i64 size[COPIES];
    int first[COPIES];
};
__global__ void __launch_bounds__(256) copies(const __grid_constant__ Copies all) {
    int t = owner(all.first, blockIdx.x);
    i64 start = i64(blockIdx.x - all.first[t]) * CHUNK, end = min(start + CHUNK, all.size[t]);
    char* to = all.to[t];
    const char* from = all.from[t];
    if ((u64(to) | u64(from) | u64(all.size[t])) % 16 == 0) {
        typedef Pack<int, 4> P;
#pragma unroll
        for (i64 i = start + threadIdx.x * 16; i < end; i += 256 * 16)
            *reinterpret_cast<P*>(to + i) = *reinterpret_cast<const P*>(from + i);
    } else
        for (i64 i = start + threadIdx.x; i < end; i += 256) to[i] = from[i];
}
