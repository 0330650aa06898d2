// Layer norm (Ba, Kiros and Hinton 2016), RMS norm (Zhang and Sennrich 2019) and add + dropout + layer norm, forward and
// backward. Rows are [rows, width]; values of type T, weights of type W, statistics in the type of computation.
//
// GROUP threads own a row: a warp of a block of four, or a block of 256. A thread holds L groups of N neighbouring
// columns in registers, so a row is read once; it takes rows in turn and keeps its columns' weights.
#include "common.cuh"

enum { LAYER, RMS, ADD };

template <typename T, typename A, int N> __device__ __forceinline__ void read(A (&to)[N], const T* from) {
    Pack<T, N> p = *reinterpret_cast<const Pack<T, N>*>(from);
#pragma unroll
    for (int j = 0; j < N; ++j) to[j] = load(p.at[j]);
}
// Leaves in `from` what is written, or would be if `to` were there.
template <typename T, typename A, int N> __device__ __forceinline__ void write(T* to, A (&from)[N]) {
    Pack<T, N> p;
#pragma unroll
    for (int j = 0; j < N; ++j) {
        p.at[j] = store<T>(from[j]);
        from[j] = load(p.at[j]);
    }
    if (to) *reinterpret_cast<Pack<T, N>*>(to) = p;
}
// Weights may lie at any multiple of 16 bytes or, with N = 1, anywhere.
template <typename W, typename A, int N> __device__ __forceinline__ void read_weights(A (&to)[N], const W* from) {
    constexpr int M = sizeof(W) * N > 16 ? 16 / sizeof(W) : N;
#pragma unroll
    for (int i = 0; i < N; i += M) {
        Pack<W, M> p = *reinterpret_cast<const Pack<W, M>*>(from + i);
#pragma unroll
        for (int j = 0; j < M; ++j) to[i + j] = load(p.at[j]);
    }
}

// Dropout of N neighbours from element `at`, a multiple of N: what is kept is multiplied by `keep`.
struct Dropout {
    u64 draw;
    double keep;
    u32 threshold;
};
template <typename A, int N>
__device__ __forceinline__ void drop(A (&v)[N], const i64* state, const Dropout& d, u64 at) {
    Words w = philox(u64(state[0]), u64(state[1]) + d.draw, at / 8);
    int shift = at % 8;
#pragma unroll
    for (int j = 0; j < N; ++j) {
        u32 lane = 0;
#pragma unroll
        for (int s = 0; s < 8; s += N)
            if (shift == s) lane = lane16(w, s + j);
        v[j] = lane >= d.threshold ? v[j] * A(d.keep) : A(0);
    }
}

// A product that joins no sum: h - h is 0 only if both are rounded.
__device__ __forceinline__ float times(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ double times(double a, double b) { return __dmul_rn(a, b); }

template <int GROUP, typename A> __device__ __forceinline__ A group_sum(A x, A* room) {
    return GROUP == WARP ? warp_sum(x) : block_sum(x, room);
}
constexpr __device__ int threads(int group) { return group == WARP ? 4 * WARP : group; }

template <typename T, typename W, int N, int L, int GROUP, int KIND>
__global__ void __launch_bounds__(threads(GROUP))
norm_forward(T* y, T* total, typename Compute<T>::type* means, typename Compute<T>::type* rstds, const T* x,
             const T* branch, const W* w, const W* b, const i64* state, int rows, int width, double eps, Dropout d) {
    typedef typename Compute<T>::type A;
    __shared__ A room[8];
    int lane = threadIdx.x % GROUP, step = gridDim.x * (threads(GROUP) / GROUP);
    A scale[L][N], shift[L][N];
#pragma unroll
    for (int l = 0; l < L; ++l) {
        int c = (l * GROUP + lane) * N;
        if (c < width) {
            read_weights(scale[l], w + c);
            if (KIND != RMS) read_weights(shift[l], b + c);
        }
    }
    for (int row = blockIdx.x * (threads(GROUP) / GROUP) + threadIdx.x / GROUP; row < rows; row += step) {
        A v[L][N], mean = 0, squares = 0;
#pragma unroll
        for (int l = 0; l < L; ++l) {
            int c = (l * GROUP + lane) * N;
            i64 at = i64(row) * width + c;
            if (c >= width) continue;
            read(v[l], x + at);
            if (KIND == ADD) {
                A more[N];
                read(more, branch + at);
                if (state) drop(more, state, d, at);
#pragma unroll
                for (int j = 0; j < N; ++j) v[l][j] += more[j];
                write(total ? total + at : total, v[l]);
            }
#pragma unroll
            for (int j = 0; j < N; ++j) mean += v[l][j];
        }
        mean = KIND == RMS ? A(0) : group_sum<GROUP>(mean, room) / A(width);
#pragma unroll
        for (int l = 0; l < L; ++l)
            if ((l * GROUP + lane) * N < width)
#pragma unroll
                for (int j = 0; j < N; ++j) squares += (v[l][j] - mean) * (v[l][j] - mean);
        A rstd = A(1) / sqrt(group_sum<GROUP>(squares, room) / A(width) + A(eps));
        if (lane == 0) {
            if (means) means[row] = mean;
            if (rstds) rstds[row] = rstd;
        }
        if (!y) continue;
#pragma unroll
        for (int l = 0; l < L; ++l) {
            int c = (l * GROUP + lane) * N;
            if (c >= width) continue;
#pragma unroll
            for (int j = 0; j < N; ++j) {
                v[l][j] = (v[l][j] - mean) * rstd * scale[l][j];
                if (KIND != RMS) v[l][j] += shift[l][j];
            }
            write(y + i64(row) * width + c, v[l]);
        }
    }
}

// gx (ADD: the sum with `more`, and gbranch, the same through dropout), and for each block the sums of its rows for gw and
// gb: parts [blocks, 2, width], for RMS [blocks, 1, width]. A block owns a stretch of rows.
template <typename T, typename W, int N, int L, int GROUP, int KIND>
__global__ void __launch_bounds__(threads(GROUP))
norm_backward(T* gx, T* gbranch, typename Compute<T>::type* parts, const T* g, const T* more, const T* x, const W* w,
              const typename Compute<T>::type* means, const typename Compute<T>::type* rstds, const i64* state, int rows,
              int width, Dropout d) {
    typedef typename Compute<T>::type A;
    extern __shared__ __align__(16) unsigned char memory[];
    A* sums = reinterpret_cast<A*>(memory);  // [2, width], for warps
    __shared__ A room[8];
    constexpr int STEP = threads(GROUP) / GROUP;
    int warp = threadIdx.x / GROUP, lane = threadIdx.x % GROUP;
    A to_w[L][N], to_b[L][N], scale[L][N];
#pragma unroll
    for (int l = 0; l < L; ++l) {
        int c = (l * GROUP + lane) * N;
#pragma unroll
        for (int j = 0; j < N; ++j) to_w[l][j] = to_b[l][j] = scale[l][j] = A(0);
        if (c < width) read_weights(scale[l], w + c);
    }
    int first = i64(rows) * blockIdx.x / gridDim.x, last = i64(rows) * (blockIdx.x + 1) / gridDim.x;
    for (int row = first + warp; row < last; row += STEP) {
        A mean = KIND == RMS ? A(0) : means[row], rstd = rstds[row], total = 0, along = 0;
        Pack<T, N> gs[L], xs[L];  // as they lie: half the registers
#pragma unroll
        for (int l = 0; l < L; ++l) {
            int c = (l * GROUP + lane) * N;
            if (c >= width) continue;
            gs[l] = *reinterpret_cast<const Pack<T, N>*>(g + i64(row) * width + c);
            xs[l] = *reinterpret_cast<const Pack<T, N>*>(x + i64(row) * width + c);
        }
#pragma unroll
        for (int l = 0; l < L; ++l) {
            if ((l * GROUP + lane) * N >= width) continue;
#pragma unroll
            for (int j = 0; j < N; ++j) {
                A grad = load(gs[l].at[j]), unit = (load(xs[l].at[j]) - mean) * rstd;
                to_w[l][j] += grad * unit;
                to_b[l][j] += grad;
                grad = times(grad, scale[l][j]);
                total += grad;
                along += grad * unit;
            }
        }
        total = KIND == RMS ? A(0) : group_sum<GROUP>(total, room) / A(width);
        along = group_sum<GROUP>(along, room) / A(width);
#pragma unroll
        for (int l = 0; l < L; ++l) {
            int c = (l * GROUP + lane) * N;
            i64 at = i64(row) * width + c;
            if (c >= width) continue;
            A v[N], other[N];
            if (KIND == ADD) read(other, more + at);
#pragma unroll
            for (int j = 0; j < N; ++j) {
                A unit = (load(xs[l].at[j]) - mean) * rstd;
                v[j] = rstd * (times(load(gs[l].at[j]), scale[l][j]) - total - unit * along) + (KIND == ADD ? other[j] : A(0));
            }
            if (gx) write(gx + at, v);
            if (KIND == ADD && gbranch) {
                drop(v, state, d, at);
                write(gbranch + at, v);
            }
        }
    }
    constexpr int SUMS = KIND == RMS ? 1 : 2;
    A* to = parts + i64(blockIdx.x) * SUMS * width;
    // Warps add their sums one after the other: a fixed order.
    for (int turn = 0; turn < STEP; ++turn) {
        if (warp == turn)
#pragma unroll
            for (int l = 0; l < L; ++l)
#pragma unroll
                for (int j = 0; j < N; ++j) {
                    int c = (l * GROUP + lane) * N + j;
                    if (c >= width) continue;
                    if (turn) to_w[l][j] += sums[c], to_b[l][j] += sums[width + c];
                    if (turn < STEP - 1) sums[c] = to_w[l][j], sums[width + c] = to_b[l][j];
                    else {
                        to[c] = to_w[l][j];
                        if (SUMS == 2) to[width + c] = to_b[l][j];
                    }
                }
        __syncthreads();
    }
}

// gw and gb from the parts [blocks, gridDim.y, width], in a fixed order: 32 threads a column take every 32nd part.
template <typename W, typename A>
__global__ void __launch_bounds__(1024) norm_sums(W* gw, W* gb, const A* parts, int blocks, int width) {
    __shared__ A room[WARP][WARP + 1];
    int column = blockIdx.x * WARP + threadIdx.x, which = blockIdx.y;
    W* to = which ? gb : gw;
    if (!to) return;
    A sum = 0;
    if (column < width)
#pragma unroll 4
        for (int i = threadIdx.y; i < blocks; i += WARP) sum += parts[(i64(i) * gridDim.y + which) * width + column];
    room[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    sum = warp_sum(room[threadIdx.x][threadIdx.y]);
    column = blockIdx.x * WARP + threadIdx.y;
    if (threadIdx.x == 0 && column < width) to[column] = store<W>(sum);
}
