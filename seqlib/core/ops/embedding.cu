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

// A stable order of rows by id, in three launches. First, of each tile of 1024 rows: how many of its earlier rows have a
// row's id, and how many rows an id has, counts [tiles, size] (whole numbers: the order of adding does not matter).
constexpr int TILE = 1024;
template <typename I>
__global__ void __launch_bounds__(TILE)
embedding_rank(int* ranks, int* counts, const I* ids, int* bad, int rows, int size) {
    __shared__ Pack<int, 4> fours[TILE / 4];
    int* tile = fours[0].at;
    int i = blockIdx.x * TILE + threadIdx.x, rank = 0;
    i64 id = i < rows ? i64(ids[i]) : -1;
    bool good = id >= 0 && id < size;
    int own = good ? int(id) : -1;
    tile[threadIdx.x] = own;
    __syncthreads();
    if (i >= rows) return;
    if (!good) {
        *bad = 1;
        return;
    }
    int whole = threadIdx.x / WARP * (WARP / 4);
    for (int j = 0; j < whole; ++j) {
        Pack<int, 4> four = fours[j];
#pragma unroll
        for (int l = 0; l < 4; ++l) rank += four.at[l] == own;
    }
    for (int j = whole * 4; j < threadIdx.x; ++j) rank += tile[j] == own;
    ranks[i] = rank;
    atomicAdd(counts + i64(blockIdx.x) * size + own, 1);
}

// Then of each id: counts become those of the tiles before; totals; and within blocks of 1024 ids, where each one's rows
// start, and how many rows a block has.
__global__ void __launch_bounds__(TILE)
embedding_starts(int* starts, int* totals, int* sums, int* counts, int tiles, int size) {
    __shared__ int room[WARP];
    int id = blockIdx.x * TILE + threadIdx.x, lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, total = 0;
    if (id < size) {
        for (int t = 0; t < tiles; ++t) {
            int* at = counts + i64(t) * size + id;
            int own = *at;
            *at = total;
            total += own;
        }
        totals[id] = total;
    }
    int upto = total;
    for (int o = 1; o < WARP; o *= 2) {
        int below = __shfl_up_sync(~0u, upto, o);
        if (lane >= o) upto += below;
    }
    if (lane == WARP - 1) room[warp] = upto;
    __syncthreads();
    int before = 0;
    for (int w = 0; w < warp; ++w) before += room[w];
    if (id < size) starts[id] = before + upto - total;
    if (threadIdx.x == TILE - 1) sums[blockIdx.x] = before + upto;
}

// Last: order[first[id] + rank] = row.
template <typename I>
__global__ void __launch_bounds__(TILE)
embedding_order(int* order, int* first, const int* ranks, const int* starts, const int* sums, const int* counts,
                const I* ids, int rows, int size) {
    __shared__ int before[TILE];  // the rows of all blocks of ids before each one
    int blocks = (size + TILE - 1) / TILE, i = blockIdx.x * TILE + threadIdx.x;
    if (threadIdx.x < blocks) {
        int sum = 0;
        for (int b = 0; b < threadIdx.x; ++b) sum += sums[b];
        before[threadIdx.x] = sum;
    }
    __syncthreads();
    if (i < size) first[i] = starts[i] + before[i / TILE];
    i64 id = i < rows ? i64(ids[i]) : -1;
    if (id >= 0 && id < size)
        order[starts[id] + before[id / TILE] + counts[i64(i / TILE) * size + id] + ranks[i]] = i;
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
