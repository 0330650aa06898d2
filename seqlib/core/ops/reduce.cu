// Reductions of x seen as [outer, along, inner] over its middle axis, in a fixed order: sum (times a factor), max, min.
#include "common.cuh"

enum { SUM, MAX, MIN };

template <typename T> struct Sum { typedef typename Compute<T>::type type; };
template <> struct Sum<int> { typedef int type; };
template <> struct Sum<i64> { typedef i64 type; };
template <> struct Sum<bool> { typedef int type; };
__device__ __forceinline__ int load(int x) { return x; }
__device__ __forceinline__ i64 load(i64 x) { return x; }
__device__ __forceinline__ int load(bool x) { return x; }
template <typename O> __device__ __forceinline__ O store(int x) { return O(x); }
template <typename O> __device__ __forceinline__ O store(i64 x) { return O(x); }

template <int OP, typename A> __device__ __forceinline__ A meet(A a, A b) {
    if (OP == SUM) return a + b;
    if (a != a) return a;  // NaN wins
    if (b != b) return b;
    return (OP == MAX) == (a > b) ? a : b;
}

// A running value. Sums of float are compensated (Kahan 1965): a thread may add many thousands.
template <int OP, typename A> struct Running {
    A value;
    __device__ __forceinline__ void add(A x) { value = meet<OP>(value, x); }
};
template <> struct Running<SUM, float> {
    float value, lost;
    __device__ __forceinline__ void add(float x) {
        float y = x - lost, sum = value + y;
        lost = isfinite(sum) ? (sum - value) - y : 0.f;
        value = sum;
    }
};

// inner = 1: a warp (or, with BLOCK, 256 threads) a row.
template <typename T, typename O, int OP, bool BLOCK>
__global__ void reduce_rows(O* out, const T* x, i64 rows, int along, double factor) {
    typedef typename Sum<T>::type A;
    constexpr int GROUP = BLOCK ? 256 : WARP;
    __shared__ A room[8];
    i64 row = BLOCK ? i64(blockIdx.x) : i64(blockIdx.x) * 8 + threadIdx.x / WARP;
    int lane = BLOCK ? threadIdx.x : threadIdx.x % WARP;
    if (row >= rows) return;
    const T* from = x + row * along;
    Running<OP, A> run{OP == SUM ? A(0) : A(load(from[0]))};
    for (int i = lane; i < along; i += GROUP) run.add(A(load(from[i])));
    A value = run.value;
    for (int o = WARP / 2; o; o /= 2) value = meet<OP>(value, A(__shfl_xor_sync(~0u, value, o)));
    if (BLOCK) {
        if (threadIdx.x % WARP == 0) room[threadIdx.x / WARP] = value;
        __syncthreads();
        value = room[0];
        for (int i = 1; i < 8; ++i) value = meet<OP>(value, room[i]);
    }
    if (lane == 0) out[row] = OP == SUM && factor != 1.0 ? store<O>(value * factor) : store<O>(value);
}

// A block of 32 by 8 threads takes 32 V columns of a part of the middle axis, V of 16 bytes together: out [outer, parts,
// inner].
template <typename T, typename O, int OP>
__global__ void __launch_bounds__(256) reduce_columns(O* out, const T* x, int along, i64 inner, double factor) {
    typedef typename Sum<T>::type A;
    constexpr int V = 16 / sizeof(T);
    __shared__ A room[8][WARP * V];
    i64 column = (i64(blockIdx.x) * WARP + threadIdx.x) * V;
    int first = i64(along) * blockIdx.y / gridDim.y, last = i64(along) * (blockIdx.y + 1) / gridDim.y;
    const T* from = x + i64(blockIdx.z) * along * inner + column;
    int count = column < inner ? int(min(inner - column, i64(V))) : 0;
    bool wide = inner % V == 0 && reinterpret_cast<u64>(x) % 16 == 0;
    Running<OP, A> run[V] = {};
    if (count) {
#pragma unroll
        for (int v = 0; v < V; ++v) run[v].value = OP == SUM || v >= count ? A(0) : A(load(from[i64(first) * inner + v]));
        int i = first + threadIdx.y;
        for (; wide && i + 24 < last; i += 32) {  // four rows at a time
            Pack<T, V> p[4];
#pragma unroll
            for (int k = 0; k < 4; ++k) p[k] = *reinterpret_cast<const Pack<T, V>*>(from + i64(i + 8 * k) * inner);
#pragma unroll
            for (int v = 0; v < V; ++v) {
                A a = meet<OP>(A(load(p[0].at[v])), A(load(p[1].at[v])));
                run[v].add(meet<OP>(a, meet<OP>(A(load(p[2].at[v])), A(load(p[3].at[v])))));
            }
        }
        for (; i < last; i += 8) {
            Pack<T, V> p;
            if (wide) p = *reinterpret_cast<const Pack<T, V>*>(from + i64(i) * inner);
            else
#pragma unroll
                for (int v = 0; v < V; ++v)
                    if (v < count) p.at[v] = from[i64(i) * inner + v];
#pragma unroll
            for (int v = 0; v < V; ++v)
                if (v < count) run[v].add(A(load(p.at[v])));
        }
#pragma unroll
        for (int v = 0; v < V; ++v) room[threadIdx.y][threadIdx.x * V + v] = run[v].value;
    }
    __syncthreads();
    i64 place = (i64(blockIdx.z) * gridDim.y + blockIdx.y) * inner;
    for (int c = threadIdx.y * WARP + threadIdx.x; c < WARP * V; c += 256) {
        i64 at = i64(blockIdx.x) * WARP * V + c;
        if (at >= inner) return;
        A value = room[0][c];
        for (int i = 1; i < 8; ++i) value = meet<OP>(value, room[i][c]);
        out[place + at] = OP == SUM && factor != 1.0 ? store<O>(value * factor) : store<O>(value);
    }
}
