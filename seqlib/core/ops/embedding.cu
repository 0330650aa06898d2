// Rows of a table by id, and the gradient: rows of equal ids are added in their order, so that the bits are the same in
// every run. Ids outside the table raise the flag `bad` and read or write nothing.
#include "common.cuh"

constexpr int CHUNK = 64;  // rows of one id that one warp adds

template <typename T, typename I, int N>
__global__ void embedding(T* y, const I* ids, const T* table, int* bad, i64 rows, int size, int width) {
    int per_row = width / N;
    i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= rows * per_row) return;
    typedef Pack<T, N> P;
    i64 row = i / per_row, id = ids[row];
    int column = i % per_row * N;
    if (id < 0 || id >= size) {
        *bad = 1;
        return;
    }
    *reinterpret_cast<P*>(y + row * width + column) = *reinterpret_cast<const P*>(table + id * width + column);
}

// counts[id] += 1; integers, so the order does not matter.
template <typename I> __global__ void embedding_count(int* counts, const I* ids, int* bad, int rows, int size) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= rows) return;
    i64 id = ids[i];
    if (id < 0 || id >= size) *bad = 1;
    else atomicAdd(counts + id, 1);
}

// starts[id] = sum of counts below it; one block of 1024 threads.
__global__ void __launch_bounds__(1024) embedding_scan(int* starts, const int* counts, int size) {
    __shared__ int sums[32];
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, per = (size + 1023) / 1024;
    int first = min(size, int(threadIdx.x) * per), last = min(size, first + per), own = 0;
    for (int i = first; i < last; ++i) own += counts[i];
    int upto = own;
    for (int o = 1; o < WARP; o *= 2) {
        int below = __shfl_up_sync(~0u, upto, o);
        if (lane >= o) upto += below;
    }
    if (lane == WARP - 1) sums[warp] = upto;
    __syncthreads();
    if (warp == 0) {
        int total = sums[lane];
        for (int o = 1; o < WARP; o *= 2) {
            int below = __shfl_up_sync(~0u, total, o);
            if (lane >= o) total += below;
        }
        sums[lane] = total;
    }
    __syncthreads();
    int at = upto - own + (warp ? sums[warp - 1] : 0);
    for (int i = first; i < last; ++i) {
        starts[i] = at;
        at += counts[i];
    }
}

// order[starts[id] + rank] = row, where rank counts earlier rows with that id: every row looks at all before it.
template <typename I>
__global__ void __launch_bounds__(128) embedding_order(int* order, const int* starts, const I* ids, int rows, int size) {
    __shared__ Pack<int, 4> fours[256];
    int* tile = fours[0].at;
    int i = blockIdx.x * 128 + threadIdx.x, own = i < rows ? int(ids[i]) : -1, rank = 0;
    int end = min(rows, int(blockIdx.x + 1) * 128);
    for (int base = 0; base < end; base += 1024) {
        __syncthreads();
        for (int j = threadIdx.x; j < 1024; j += 128) tile[j] = base + j < end ? int(ids[base + j]) : -2;
        __syncthreads();
        int stop = min(1024, i - base);
        int j = 0;
#pragma unroll 4
        for (; j + 4 <= stop; j += 4) {
            Pack<int, 4> four = fours[j / 4];
#pragma unroll
            for (int l = 0; l < 4; ++l) rank += four.at[l] == own;
        }
        for (; j < stop; ++j) rank += tile[j] == own;
    }
    if (own >= 0 && own < size) order[starts[own] + rank] = i;
}

// A warp adds CHUNK rows of one id. An id with more of them leaves its sums in parts, two places for every CHUNK
// positions: the first chunk of an id and a later one may begin in the same stretch.
template <typename T, typename A, typename I, int N>
__global__ void embedding_sum(A* out, A* parts, const T* g, const int* starts, const int* counts, const int* order,
                              const I* ids, int rows, int size, int width) {
    int k = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (k >= rows) return;
    int row = order[k];
    if (row < 0) return;  // beyond the rows whose ids are in the table
    int id = int(ids[row]), rank = k - starts[id], count = counts[id];
    if (rank % CHUNK) return;
    int end = min(count - rank, CHUNK);
    A* to = count <= CHUNK ? out + i64(id) * width : parts + (i64(k / CHUNK) * 2 + (rank ? 0 : 1)) * width;
    for (int c = lane * N; c < width; c += WARP * N) {
        A sum[N];
#pragma unroll
        for (int j = 0; j < N; ++j) sum[j] = A(0);
        for (int i = 0; i < end; ++i) {
            Pack<T, N> p = *reinterpret_cast<const Pack<T, N>*>(g + i64(order[k + i]) * width + c);
#pragma unroll
            for (int j = 0; j < N; ++j) sum[j] += load(p.at[j]);
        }
#pragma unroll
        for (int j = 0; j < N; ++j) to[c + j] = sum[j];
    }
}

// The parts of ids with more than CHUNK rows, added in order.
template <typename A, typename I>
__global__ void embedding_parts(A* out, const A* parts, const int* starts, const int* counts, const int* order,
                                const I* ids, int rows, int width) {
    int k = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (k >= rows || order[k] < 0) return;
    int id = int(ids[order[k]]), count = counts[id];
    if (k != starts[id] || count <= CHUNK) return;
    for (int c = lane; c < width; c += WARP) {
        A sum = parts[(i64(k / CHUNK) * 2 + 1) * width + c];
        for (int done = CHUNK; done < count; done += CHUNK) sum += parts[i64((k + done) / CHUNK) * 2 * width + c];
        out[i64(id) * width + c] = sum;
    }
}
