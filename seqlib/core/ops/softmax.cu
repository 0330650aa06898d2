// softmax and log_softmax of rows [rows, width] and their gradients: GROUP threads a row, a warp (eight to a block) or a
// block of 256. Rows are read again from the cache.
#include "common.cuh"

template <typename T> __device__ __forceinline__ float power(float x) { return exp_for<T>(x); }
template <typename T> __device__ __forceinline__ double power(double x) { return exp(x); }

template <int GROUP, typename A> __device__ __forceinline__ A group_sum(A x, A* room) {
    return GROUP == WARP ? warp_sum(x) : block_sum(x, room);
}
template <int GROUP, typename A> __device__ __forceinline__ A group_max(A x, A* room) {
    return GROUP == WARP ? warp_max(x) : block_max(x, room);
}
template <int GROUP> __device__ __forceinline__ i64 own_row() {
    return GROUP == WARP ? i64(blockIdx.x) * 8 + threadIdx.x / WARP : i64(blockIdx.x);
}

template <typename T, int GROUP, bool LOG>
__global__ void __launch_bounds__(256) softmax(T* y, const T* x, i64 rows, int width) {
    typedef typename Compute<T>::type A;
    __shared__ A room[8];
    i64 row = own_row<GROUP>();
    if (row >= rows) return;
    const T* from = x + row * width;
    T* to = y + row * width;
    A top = -INF, sum = 0;
    for (int c = threadIdx.x % GROUP; c < width; c += GROUP) top = max(top, A(load(from[c])));
    top = group_max<GROUP>(top, room);
    for (int c = threadIdx.x % GROUP; c < width; c += GROUP) sum += power<T>(load(from[c]) - top);
    sum = group_sum<GROUP>(sum, room);
    A scale = A(1) / sum, shift = log(sum);
    for (int c = threadIdx.x % GROUP; c < width; c += GROUP) {
        A v = load(from[c]) - top;
        to[c] = store<T>(LOG ? v - shift : power<T>(v) * scale);
    }
}

// gx = y (g - sum of g y), or for LOG g - exp(y) times the sum of g.
template <typename T, int GROUP, bool LOG>
__global__ void __launch_bounds__(256) softmax_gradient(T* gx, const T* g, const T* y, i64 rows, int width) {
    typedef typename Compute<T>::type A;
    __shared__ A room[8];
    i64 row = own_row<GROUP>();
    if (row >= rows) return;
    const T *gs = g + row * width, *ys = y + row * width;
    A sum = 0;
    for (int c = threadIdx.x % GROUP; c < width; c += GROUP) sum += LOG ? A(load(gs[c])) : load(gs[c]) * load(ys[c]);
    sum = group_sum<GROUP>(sum, room);
    for (int c = threadIdx.x % GROUP; c < width; c += GROUP) {
        A grad = load(gs[c]), v = load(ys[c]);
        gx[row * width + c] = store<T>(LOG ? grad - power<T>(v) * sum : v * (grad - sum));
    }
}

// log of the sum of exp of each row: a block of 256 threads a row, 16 bytes a load where rows are aligned.
template <typename T, int LANES>
__global__ void __launch_bounds__(256) logsumexp(T* y, const T* x, int width) {
    typedef typename Compute<T>::type A;
    typedef Pack<T, LANES> Loaded;
    __shared__ A room[8];
    const Loaded* row = reinterpret_cast<const Loaded*>(x + i64(blockIdx.x) * width);
    A top = -INF, sum = 0;
#pragma unroll 4
    for (int c = threadIdx.x; c < width / LANES; c += 256) {
        Loaded part = row[c];
        for (int n = 0; n < LANES; ++n) top = max(top, A(load(part.at[n])));
    }
    top = block_max(top, room);
    A shift = top > -INF && top < INF ? top : A(0);
#pragma unroll 4
    for (int c = threadIdx.x; c < width / LANES; c += 256) {
        Loaded part = row[c];
        for (int n = 0; n < LANES; ++n) sum += power<T>(load(part.at[n]) - shift);
    }
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) y[blockIdx.x] = store<T>(log(sum) + shift);
}
