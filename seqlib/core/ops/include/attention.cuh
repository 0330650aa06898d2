// What attention's kernels share: the shape of a problem, which part of it a block works on, and rows of results.
#pragma once
#include "mma.cuh"

// Where q, k, v and the rest lie. Strides count values between rows; a row holds heads side by side.
struct Shape {
    int batch, queries, keys, heads, key_heads, segments, causal;
    i64 q_stride, k_stride, v_stride, y_stride, gq_stride, gk_stride, gv_stride;
    float scale;
    u32 threshold;  // of dropout; 0: none
    float keep;     // what kept weights are multiplied by
    i64 draw;
    i64 random_stride;  // of the dropout counter from one query row to the next
};

// The part of a problem that a block works on: rows of queries and keys, and the first row of its tile.
struct Part {
    int sentence, q_first, q_rows, k_first, k_rows, start;
    int shift;  // causal: query i sees keys up to i + shift
    i64 place;  // of the head's first query row in lse and delta, and its number for the dropout counter

    __device__ __forceinline__ bool empty() const { return sentence < 0; }
    template <bool PACKED> __device__ __forceinline__ i64 place_of(const Shape& s, int head) const {
        return PACKED ? i64(head) * s.queries + q_first : (i64(sentence) * s.heads + head) * s.queries;
    }
    __device__ __forceinline__ bool visible(const Shape& s, int query, int key) const {
        return key < k_rows && (!s.causal || key <= query + shift);
    }
    // The keys that any of the block's queries sees.
    __device__ __forceinline__ int keys_seen(const Shape& s, int rows) const {
        return s.causal ? min(k_rows, min(start + rows, q_rows) + shift) : k_rows;
    }
    // The first tile of queries that see any of the block's keys.
    __device__ __forceinline__ int first_query(const Shape& s, int rows) const {
        return s.causal ? max(0, start - shift) / rows * rows : 0;
    }
};

// The tile number blockIdx.x, of ROWS rows, of all queries (or, if KEYS, of all keys). For packed rows segment i has the
// numbers from i + offsets[i] / ROWS up to those of the next one, at least as many as it has tiles, so that it is found by a
// search; a number too many has no tile. Of causal queries the last tiles, which have most to do, come first.
template <bool PACKED, bool KEYS, int ROWS>
__device__ __forceinline__ Part find(const Shape& s, int head, const int* lengths, const int* q_offsets, const int* k_offsets) {
    Part p;
    int tile = 0, tiles = ((KEYS ? s.keys : s.queries) + ROWS - 1) / ROWS;
    if (!PACKED) {
        int b = blockIdx.x / tiles;
        tile = blockIdx.x % tiles;
        p.sentence = b;
        p.q_first = b * s.queries;
        p.q_rows = s.queries;
        p.k_first = b * s.keys;
        p.k_rows = lengths ? min(max(lengths[b], 0), s.keys) : s.keys;
        p.shift = s.keys - p.q_rows;
    } else {
        const int* offsets = KEYS ? k_offsets : q_offsets;
        int lane = threadIdx.x % WARP, wanted = blockIdx.x;
        p.sentence = -1;
        if (wanted >= s.segments + offsets[s.segments] / ROWS) return p;
        int low = 0, high = s.segments;
        while (high - low > 1) {
            int step = (high - low + WARP - 1) / WARP, i = low + lane * step;
            u32 before = __ballot_sync(~0u, i < high && i + offsets[i] / ROWS <= wanted);
            low += (WARP - 1 - __clz(before)) * step;
            high = min(high, low + step);
        }
        tile = wanted - low - offsets[low] / ROWS;
        tiles = (offsets[low + 1] - offsets[low] + ROWS - 1) / ROWS;
        if (tile >= tiles) return p;
        p.sentence = low;
        p.q_first = q_offsets[p.sentence];
        p.q_rows = q_offsets[p.sentence + 1] - p.q_first;
        p.k_first = k_offsets[p.sentence];
        p.k_rows = k_offsets[p.sentence + 1] - p.k_first;
        p.shift = p.k_rows - p.q_rows;
    }
    p.start = (!KEYS && s.causal ? tiles - 1 - tile : tile) * ROWS;
    p.place = p.place_of<PACKED>(s, head);
    return p;
}

// Which weights of a tile dropout keeps: bit j % 8 of byte j / 8 of a query row. A warp draws what it reads.
template <int QUERIES, int KEYS> struct KeptWeights {
    unsigned char at[QUERIES][KEYS / 8];

    // For the warp's 16 queries and all keys of the tile at (query, key) or, if OF_KEYS, for its 16 keys and all queries.
    template <bool OF_KEYS>
    __device__ __forceinline__ void draw(const Shape& s, const i64* state, i64 place, int query, int key) {
        constexpr int across = OF_KEYS ? 2 : KEYS / 8, rows = OF_KEYS ? QUERIES : 16;
        int warp = threadIdx.x / WARP;
        u64 seed = state[0], offset = state[1] + s.draw;
        __syncwarp();
        for (int i = threadIdx.x % WARP; i < rows * across; i += WARP) {
            int row = i / across + (OF_KEYS ? 0 : warp * 16), eight = i % across + (OF_KEYS ? warp * 2 : 0);
            u64 element = u64(place + query + row) * s.random_stride + key + eight * 8;
            int shift = element % 8;
            u32 bits = 0;
            Words w = philox(seed, offset, element / 8);
#pragma unroll
            for (int j = 0; j < 8; ++j) bits |= u32(lane16(w, j) >= s.threshold) << j;
            if (shift) {
                w = philox(seed, offset, element / 8 + 1);
#pragma unroll
                for (int j = 0; j < 8; ++j) bits |= u32(lane16(w, j) >= s.threshold) << (j + 8);
            }
            at[row][eight] = bits >> shift;
        }
        __syncwarp();
    }
    __device__ __forceinline__ bool operator()(int query, int key) const { return at[query][key / 8] >> key % 8 & 1; }
};

template <int N> __device__ __forceinline__ void clear(float (&d)[N][4]) {
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) d[n][i] = 0.f;
}
// A block's rows of accumulators (16 a warp, [16, K]) times a factor for each of a thread's two rows, to global memory
// through the warp's rows of `room`; rows from `rows` on are left out.
template <typename T, int K, typename Room>
__device__ __forceinline__ void write_rows(T* to, i64 stride, const float (&d)[K / 8][4], Room& room, int rows, float f0, float f1) {
    int lane = threadIdx.x % WARP, first = threadIdx.x / WARP * 16, row = first + lane / 4;
    __syncwarp();
#pragma unroll
    for (int n = 0; n < K / 8; ++n) {
        int column = n * 8 + lane % 4 * 2;
        *reinterpret_cast<u32*>(room.at + room.place(row, column)) = pack<T>(d[n][0] * f0, d[n][1] * f0);
        *reinterpret_cast<u32*>(room.at + room.place(row + 8, column)) = pack<T>(d[n][2] * f1, d[n][3] * f1);
    }
    __syncwarp();
#pragma unroll
    for (int i = lane; i < 16 * K / 8; i += WARP) {
        int r = first + i / (K / 8), column = i % (K / 8) * 8;
        typedef Pack<T, 8> Eight;
        if (r < rows) *reinterpret_cast<Eight*>(to + r * stride + column) = *reinterpret_cast<const Eight*>(room.at + room.place(r, column));
    }
}
// Rows that no segment holds (packed) are zeros.
template <typename T, int THREADS>
__device__ __forceinline__ void clear_rows(T* y, i64 stride, int width, int first, int rows, int head) {
    for (int r = first + int(blockIdx.x); r < rows; r += gridDim.x)
        for (int c = threadIdx.x; c < width; c += THREADS) y[r * stride + head * width + c] = T(0.f);
}
template <int THREADS, typename T>
__device__ __forceinline__ void clear_tail(T* y, float* lse, const Shape& s, int width, int end, int head) {
    clear_rows<T, THREADS>(y, s.y_stride, width, end, s.queries, head);
    for (int r = end + blockIdx.x * THREADS + threadIdx.x; r < s.queries; r += gridDim.x * THREADS)
        lse[i64(head) * s.queries + r] = 0.f;
}
