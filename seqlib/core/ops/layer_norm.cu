// Layer normalisation (Ba, Kiros and Hinton 2016): a warp a row. Rows are [rows, width]; x and y of type T, weights of
// type W, statistics in the type of computation.
#include "common.cuh"

constexpr int WARPS = 4;

template <typename T, typename A, int N> __device__ __forceinline__ void read(A (&to)[N], const T* from) {
    Pack<T, N> p = *reinterpret_cast<const Pack<T, N>*>(from);
#pragma unroll
    for (int j = 0; j < N; ++j) to[j] = load(p.at[j]);
}
template <typename T, typename A, int N> __device__ __forceinline__ void write(T* to, const A (&from)[N]) {
    Pack<T, N> p;
#pragma unroll
    for (int j = 0; j < N; ++j) p.at[j] = store<T>(from[j]);
    *reinterpret_cast<Pack<T, N>*>(to) = p;
}

// N values are moved at a time: 16 bytes of T where the width allows, else 1.
template <typename T, typename W, int N>
__global__ void layer_norm_forward(T* y, typename Compute<T>::type* means, typename Compute<T>::type* rstds, const T* x,
                                   const W* w, const W* b, int rows, int width, double eps) {
    typedef typename Compute<T>::type A;
    int row = blockIdx.x * WARPS + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (row >= rows) return;
    const T* from = x + i64(row) * width;
    A sum = 0;
    for (int c = lane * N; c < width; c += WARP * N) {
        A v[N];
        read(v, from + c);
#pragma unroll
        for (int j = 0; j < N; ++j) sum += v[j];
    }
    A mean = warp_sum(sum) / A(width), squares = 0;
    for (int c = lane * N; c < width; c += WARP * N) {
        A v[N];
        read(v, from + c);
#pragma unroll
        for (int j = 0; j < N; ++j) squares += (v[j] - mean) * (v[j] - mean);
    }
    A rstd = A(1) / sqrt(warp_sum(squares) / A(width) + A(eps));
    if (lane == 0) {
        if (means) means[row] = mean;
        if (rstds) rstds[row] = rstd;
    }
    if (!y) return;
    for (int c = lane * N; c < width; c += WARP * N) {
        A v[N], scale[N], shift[N];
        read(v, from + c);
        read(scale, w + c);
        read(shift, b + c);
#pragma unroll
        for (int j = 0; j < N; ++j) v[j] = (v[j] - mean) * rstd * scale[j] + shift[j];
        write(y + i64(row) * width + c, v);
    }
}

// gx, and for each block the sums of its rows for gw and gb: parts [blocks, 2, width]. A block's warps take its rows in
// turn; each lane keeps the sums of its own columns, at most L groups of N.
template <typename T, typename W, int N, int L>
__global__ void layer_norm_backward(T* gx, typename Compute<T>::type* parts, const T* g, const T* x, const W* w,
                                    const typename Compute<T>::type* means, const typename Compute<T>::type* rstds,
                                    int rows, int width) {
    typedef typename Compute<T>::type A;
    extern __shared__ __align__(16) unsigned char memory[];
    A* sums = reinterpret_cast<A*>(memory);  // [2, width]
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    A to_w[L][N], to_b[L][N], scale[L][N];
#pragma unroll
    for (int l = 0; l < L; ++l) {
        int c = (l * WARP + lane) * N;
#pragma unroll
        for (int j = 0; j < N; ++j) to_w[l][j] = to_b[l][j] = scale[l][j] = A(0);
        if (c < width) read(scale[l], w + c);
    }
    int first = i64(rows) * blockIdx.x / gridDim.x, last = i64(rows) * (blockIdx.x + 1) / gridDim.x;
    for (int row = first + warp; row < last; row += WARPS) {
        A grad[L][N], unit[L][N], mean = means[row], rstd = rstds[row], total = 0, along = 0;
#pragma unroll
        for (int l = 0; l < L; ++l) {
            int c = (l * WARP + lane) * N;
            if (c < width) {
                read(grad[l], g + i64(row) * width + c);
                read(unit[l], x + i64(row) * width + c);
#pragma unroll
                for (int j = 0; j < N; ++j) {
                    unit[l][j] = (unit[l][j] - mean) * rstd;
                    to_w[l][j] += grad[l][j] * unit[l][j];
                    to_b[l][j] += grad[l][j];
                    grad[l][j] *= scale[l][j];
                    total += grad[l][j];
                    along += grad[l][j] * unit[l][j];
                }
            }
        }
        total = warp_sum(total) / A(width);
        along = warp_sum(along) / A(width);
        if (gx)
#pragma unroll
            for (int l = 0; l < L; ++l) {
                int c = (l * WARP + lane) * N;
                if (c < width) {
#pragma unroll
                    for (int j = 0; j < N; ++j) unit[l][j] = rstd * (grad[l][j] - total - unit[l][j] * along);
                    write(gx + i64(row) * width + c, unit[l]);
                }
            }
    }
    // Warps add their sums one after the other: a fixed order.
    for (int turn = 0; turn < WARPS; ++turn) {
        if (warp == turn)
#pragma unroll
            for (int l = 0; l < L; ++l) {
                int c = (l * WARP + lane) * N;
                if (c < width)
#pragma unroll
                    for (int j = 0; j < N; ++j) {
                        sums[c + j] = turn ? sums[c + j] + to_w[l][j] : to_w[l][j];
                        sums[width + c + j] = turn ? sums[width + c + j] + to_b[l][j] : to_b[l][j];
                    }
            }
        __syncthreads();
    }
    A* to = parts + i64(blockIdx.x) * 2 * width;
    for (int c = threadIdx.x; c < 2 * width; c += blockDim.x) to[c] = sums[c];
}

// gw and gb from the parts [blocks, 2, width], summed in order; 8 threads a column take every eighth part.
template <typename W, typename A>
__global__ void layer_norm_sums(W* gw, W* gb, const A* parts, int blocks, int width) {
    __shared__ A room[8][WARP];
    int column = blockIdx.x * WARP + threadIdx.x, which = blockIdx.y;
    A sum = 0;
    if (column < width)
        for (int i = threadIdx.y; i < blocks; i += 8) sum += parts[(i64(i) * 2 + which) * width + column];
    room[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y || column >= width) return;
    for (int i = 1; i < 8; ++i) sum += room[i][threadIdx.x];
    W* to = which ? gb : gw;
    if (to) to[column] = store<W>(sum);
}
