// Attention on tensor cores, forward and backward, for 16-bit values: softmax(scale q k^T) v for each head (Vaswani et
// al. 2017), tile by tile with a running maximum and sum (Milakov and Gimelshein 2018; Dao 2023).
//
// A block of 4 warps owns 64 rows of one head of one sentence (padded: [B, T, H, K]) or segment (packed: [N, H, K]).
// Warps own 16 rows each. Nothing is added atomically, so the bits are the same in every run.
#include "mma.cuh"

constexpr int THREADS = 128;
constexpr int TILE = 64;

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
    i64 random_row;  // number of the first query row for the dropout counter
    __device__ __forceinline__ bool empty() const { return sentence < 0; }
};

// The tile number blockIdx.x of all queries (or, if KEYS, of all keys): for packed rows the segments are searched.
template <bool PACKED, bool KEYS>
__device__ __forceinline__ Part find(const Shape& s, const int* lengths, const int* q_offsets, const int* k_offsets) {
    Part p;
    int head = blockIdx.y;
    if (!PACKED) {
        int tiles = ((KEYS ? s.keys : s.queries) + TILE - 1) / TILE;
        int b = blockIdx.x / tiles;
        p.sentence = b;
        p.start = blockIdx.x % tiles * TILE;
        p.q_first = b * s.queries;
        p.q_rows = s.queries;
        p.k_first = b * s.keys;
        p.k_rows = lengths ? min(max(lengths[b], 0), s.keys) : s.keys;
        p.random_row = (i64(b) * s.heads + head) * s.queries;
        return p;
    }
    const int* offsets = KEYS ? k_offsets : q_offsets;
    int lane = threadIdx.x % WARP, wanted = blockIdx.x;
    p.sentence = -1;
    for (int base = 0; base < s.segments; base += WARP) {
        int i = base + lane;
        int tiles = i < s.segments ? (offsets[i + 1] - offsets[i] + TILE - 1) / TILE : 0;
        int upto = tiles;
        for (int o = 1; o < WARP; o *= 2) {
            int below = __shfl_up_sync(~0u, upto, o);
            if (lane >= o) upto += below;
        }
        u32 found = __ballot_sync(~0u, wanted < upto);
        if (found) {
            int at = __ffs(found) - 1;
            int end = __shfl_sync(~0u, upto, at), own = __shfl_sync(~0u, tiles, at);
            p.sentence = base + at;
            p.start = (wanted - (end - own)) * TILE;
            break;
        }
        wanted -= __shfl_sync(~0u, upto, WARP - 1);
    }
    if (p.sentence < 0) return p;
    p.q_first = q_offsets[p.sentence];
    p.q_rows = q_offsets[p.sentence + 1] - p.q_first;
    p.k_first = k_offsets[p.sentence];
    p.k_rows = k_offsets[p.sentence + 1] - p.k_first;
    p.random_row = i64(head) * s.queries + p.q_first;
    return p;
}

// Which weights of a 64x64 tile dropout keeps: bit j % 8 of byte j / 8 of a query row.
struct Kept {
    unsigned char at[TILE][TILE / 8];
    __device__ __forceinline__ void draw(const Shape& s, const Part& p, u64 seed, u64 offset, int query, int key) {
        for (int i = threadIdx.x; i < TILE * TILE / 8; i += THREADS) {
            int row = i / (TILE / 8), eight = i % (TILE / 8);
            u64 element = u64(p.random_row + query + row) * s.random_stride + key + eight * 8;
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
    }
    __device__ __forceinline__ bool operator()(int query, int key) const { return at[query][key / 8] >> key % 8 & 1; }
};

// d += A B^T for 16 rows `a` (K/16 fragments) and the 64 rows of a tile.
template <typename T, int K>
__device__ __forceinline__ void rows_by_tile(float (&d)[8][4], const u32 (&a)[K / 16][4], const Tile<T, TILE, K>& tile) {
#pragma unroll
    for (int n = 0; n < 4; ++n)
#pragma unroll
        for (int k = 0; k < K / 16; ++k) {
            u32 b[4];
            tile.b_transposed(b, n * 16, k * 16);
            mma<T>(d[2 * n], a[k], b[0], b[1]);
            mma<T>(d[2 * n + 1], a[k], b[2], b[3]);
        }
}
// d += P tile, where P [16, 64] is held as accumulators and the tile is [64, K].
template <typename T, int K>
__device__ __forceinline__ void weights_by_tile(float (&d)[K / 8][4], const float (&p)[8][4], const Tile<T, TILE, K>& tile) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        u32 a[4] = {pack<T>(p[2 * k][0], p[2 * k][1]), pack<T>(p[2 * k][2], p[2 * k][3]),
                    pack<T>(p[2 * k + 1][0], p[2 * k + 1][1]), pack<T>(p[2 * k + 1][2], p[2 * k + 1][3])};
#pragma unroll
        for (int n = 0; n < K / 16; ++n) {
            u32 b[4];
            tile.b(b, k * 16, n * 16);
            mma<T>(d[2 * n], a, b[0], b[1]);
            mma<T>(d[2 * n + 1], a, b[2], b[3]);
        }
    }
}
template <typename T, int K>
__device__ __forceinline__ void load_rows(u32 (&a)[K / 16][4], const Tile<T, TILE, K>& tile, int row) {
#pragma unroll
    for (int k = 0; k < K / 16; ++k) tile.a(a[k], row, k * 16);
}
// 16 rows of accumulators [16, K] times `factor` to global memory; rows from `rows` on are left out.
template <typename T, int K>
__device__ __forceinline__ void write_rows(T* to, i64 stride, const float (&d)[K / 8][4], int row, int rows, float f0, float f1) {
    int lane = threadIdx.x % WARP, r0 = row + lane / 4, r1 = r0 + 8, c = lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < K / 8; ++n) {
        if (r0 < rows) *reinterpret_cast<u32*>(to + r0 * stride + n * 8 + c) = pack<T>(d[n][0] * f0, d[n][1] * f0);
        if (r1 < rows) *reinterpret_cast<u32*>(to + r1 * stride + n * 8 + c) = pack<T>(d[n][2] * f1, d[n][3] * f1);
    }
}
template <int N> __device__ __forceinline__ void clear(float (&d)[N][4]) {
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) d[n][i] = 0.f;
}
// Rows of y that no segment holds (packed) are zeros.
template <typename T>
__device__ __forceinline__ void clear_tail(T* y, i64 stride, int width, int first, int rows, int head) {
    for (int r = first + int(blockIdx.x); r < rows; r += gridDim.x)
        for (int c = threadIdx.x; c < width; c += THREADS) y[r * stride + head * width + c] = T(0.f);
}

extern __shared__ __align__(16) unsigned char shared_memory[];

template <typename T, int K, bool PACKED>
__global__ void __launch_bounds__(THREADS)
attention_forward(T* y, float* lse, const T* q, const T* k, const T* v, const int* lengths, const int* q_offsets,
                  const int* k_offsets, const i64* state, Shape s) {
#if __CUDA_ARCH__ >= 800
    typedef Tile<T, TILE, K> Rows;
    Rows *ks = reinterpret_cast<Rows*>(shared_memory), *vs = ks + 2;  // two of each: one is filled, one is used
    __shared__ Kept kept;
    int head = blockIdx.y, key_head = head / (s.heads / s.key_heads);
    if (PACKED) {
        int end = q_offsets[s.segments];
        clear_tail(y, s.y_stride, K, end, s.queries, head);
        for (int r = end + blockIdx.x * THREADS + threadIdx.x; r < s.queries; r += gridDim.x * THREADS)
            lse[i64(head) * s.queries + r] = 0.f;
    }
    Part p = find<PACKED, false>(s, lengths, q_offsets, k_offsets);
    if (p.empty()) return;
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, row = warp * 16 + lane / 4, column = lane % 4 * 2;
    const T* keys = k + p.k_first * s.k_stride + key_head * K;
    const T* values = v + p.k_first * s.v_stride + key_head * K;

    u32 a[K / 16][4];
    ks[1].template fill<THREADS>(q + (p.q_first + p.start) * s.q_stride + head * K, s.q_stride, p.q_rows - p.start);
    ks[0].template fill<THREADS>(keys, s.k_stride, p.k_rows);
    vs[0].template fill<THREADS>(values, s.v_stride, p.k_rows);
    group_copies();
    arrived<0>();
    __syncthreads();
    load_rows<T, K>(a, ks[1], warp * 16);
    __syncthreads();
    float scale = s.scale * LOG2E;  // weights are powers of 2
    float out[K / 8][4], top[2] = {-INF, -INF}, total[2] = {0.f, 0.f};
    clear(out);
    int shift = s.causal ? (PACKED ? p.k_rows : s.keys) - p.q_rows : 0;  // query i sees keys up to i + shift
    int seen = s.causal ? min(p.k_rows, p.start + TILE + shift) : p.k_rows;
    u64 seed = 0, offset = 0;
    if (s.threshold) seed = state[0], offset = state[1] + s.draw;
    int side = 0;
    for (int first = 0; first < seen; first += TILE, side ^= 1) {
        int next = first + TILE;
        if (next < seen) {
            ks[side ^ 1].template fill<THREADS>(keys + next * s.k_stride, s.k_stride, p.k_rows - next);
            vs[side ^ 1].template fill<THREADS>(values + next * s.v_stride, s.v_stride, p.k_rows - next);
            group_copies();
            arrived<1>();
        } else
            arrived<0>();
        if (s.threshold) kept.draw(s, p, seed, offset, p.start, first);
        __syncthreads();
        float w[8][4];
        clear(w);
        rows_by_tile<T, K>(w, a, ks[side]);
        bool whole = next <= p.k_rows && (!s.causal || next - 1 <= p.start + shift);  // every query sees every key
        float now[2] = {-INF, -INF};
#pragma unroll
        for (int n = 0; n < 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) w[n][i] *= scale;
        if (!whole)
#pragma unroll
            for (int n = 0; n < 8; ++n)
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    int key = first + n * 8 + column + i % 2, query = p.start + row + i / 2 * 8;
                    if (key >= p.k_rows || (s.causal && key > query + shift)) w[n][i] = -INF;
                }
#pragma unroll
        for (int n = 0; n < 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) now[i / 2] = fmaxf(now[i / 2], w[n][i]);
        float factor[2], base[2];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            now[r] = fmaxf(now[r], __shfl_xor_sync(~0u, now[r], 1));
            now[r] = fmaxf(now[r], __shfl_xor_sync(~0u, now[r], 2));
            float higher = fmaxf(top[r], now[r]);
            base[r] = higher == -INF ? 0.f : higher;
            factor[r] = exp2_fast(top[r] - base[r]);
            top[r] = higher;
            total[r] *= factor[r];
        }
#pragma unroll
        for (int n = 0; n < 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                w[n][i] = exp2_fast(w[n][i] - base[i / 2]);
                total[i / 2] += w[n][i];
            }
        if (s.threshold)
#pragma unroll
            for (int n = 0; n < 8; ++n)
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    w[n][i] = kept(row + i / 2 * 8, n * 8 + column + i % 2) ? w[n][i] * s.keep : 0.f;
#pragma unroll
        for (int n = 0; n < K / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) out[n][i] *= factor[i / 2];
        weights_by_tile<T, K>(out, w, vs[side]);
        __syncthreads();
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        total[r] += __shfl_xor_sync(~0u, total[r], 1);
        total[r] += __shfl_xor_sync(~0u, total[r], 2);
        int at = p.start + row + r * 8;
        i64 place = PACKED ? i64(head) * s.queries + p.q_first + at : (i64(p.sentence) * s.heads + head) * s.queries + at;
        if (lane % 4 == 0 && at < p.q_rows) lse[place] = total[r] > 0.f ? top[r] / LOG2E + __logf(total[r]) : 0.f;
        total[r] = total[r] > 0.f ? 1.f / total[r] : 0.f;
    }
    write_rows<T, K>(y + (p.q_first + p.start) * s.y_stride + head * K, s.y_stride, out, warp * 16, p.q_rows - p.start,
                     total[0], total[1]);
#endif
}

// delta[r] = sum of gy y over a row of a head, as lse lies.
template <typename T, int K>
__global__ void __launch_bounds__(THREADS)
attention_delta(float* delta, const T* gy, const T* y, int rows, int heads, int per_sentence) {
    i64 i = (i64(blockIdx.x) * THREADS + threadIdx.x) / (K / 8);  // K / 8 threads a row of a head
    int part = threadIdx.x % (K / 8);
    if (i >= i64(rows) * heads) return;
    typedef Pack<T, 8> Words8;
    Words8 a = reinterpret_cast<const Words8*>(gy)[i * (K / 8) + part], b = reinterpret_cast<const Words8*>(y)[i * (K / 8) + part];
    float sum = 0.f;
#pragma unroll
    for (int j = 0; j < 8; ++j) sum += load(a.at[j]) * load(b.at[j]);
#pragma unroll
    for (int o = K / 16; o; o /= 2) sum += __shfl_xor_sync(~0u, sum, o);
    i64 row = i / heads;
    int head = i % heads;
    i64 place = (row / per_sentence * heads + head) * per_sentence + row % per_sentence;
    if (part == 0) delta[place] = sum;
}

// The gradients of keys and values: a block owns 64 keys and goes through the queries. With SHORT it owns a sentence of
// at most 64 queries and 64 keys, and makes the gradient of queries as well.
template <typename T, int K, bool PACKED, bool SHORT>
__global__ void __launch_bounds__(THREADS)
attention_backward_keys(T* gq, T* gk, T* gv, const T* gy, const T* q, const T* k, const T* v, const float* lse,
                        const float* delta, const int* lengths, const int* q_offsets, const int* k_offsets,
                        const i64* state, Shape s) {
#if __CUDA_ARCH__ >= 800
    typedef Tile<T, TILE, K> Rows;
    constexpr int SIDES = SHORT ? 1 : 2;  // of two tiles one is filled while the other is used
    Rows *qs = reinterpret_cast<Rows*>(shared_memory), *gs = qs + SIDES;
    Rows& ks = gs[SIDES];  // SHORT only
    __shared__ Tile<T, SHORT ? TILE : 1, TILE> scores;                       // the gradient of scores, [key][query]
    __shared__ Kept kept;
    __shared__ float row_lse[SIDES][TILE], row_delta[SIDES][TILE];
    int key_head = blockIdx.y, group = s.heads / s.key_heads;
    if (PACKED) {
        int end = k_offsets[s.segments];
        if (gk) clear_tail(gk, s.gk_stride, K, end, s.keys, key_head);
        if (gv) clear_tail(gv, s.gv_stride, K, end, s.keys, key_head);
    }
    Part p = find<PACKED, true>(s, lengths, q_offsets, k_offsets);
    if (p.empty()) return;
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, row = warp * 16 + lane / 4, column = lane % 4 * 2;

    u32 key_rows[K / 16][4], value_rows[K / 16][4];
    Rows& staged = SHORT ? ks : qs[0];
    gs[0].template fill<THREADS>(v + (p.k_first + p.start) * s.v_stride + key_head * K, s.v_stride, p.k_rows - p.start);
    staged.template fill<THREADS>(k + (p.k_first + p.start) * s.k_stride + key_head * K, s.k_stride, p.k_rows - p.start);
    group_copies();
    arrived<0>();
    __syncthreads();
    load_rows<T, K>(key_rows, staged, warp * 16);
    load_rows<T, K>(value_rows, gs[0], warp * 16);
    __syncthreads();
    float scale = s.scale * LOG2E;
    float to_keys[K / 8][4], to_values[K / 8][4];
    clear(to_keys);
    clear(to_values);
    int shift = s.causal ? (PACKED ? p.k_rows : s.keys) - p.q_rows : 0;
    u64 seed = 0, offset = 0;
    if (s.threshold) seed = state[0], offset = state[1] + s.draw;
    for (int member = 0; member < group; ++member) {
        int head = key_head * group + member;
        Part own = p;
        own.random_row = PACKED ? i64(head) * s.queries + p.q_first : (i64(p.sentence) * s.heads + head) * s.queries;
        i64 places = PACKED ? i64(head) * s.queries + p.q_first : (i64(p.sentence) * s.heads + head) * s.queries;
        int from = s.causal ? max(0, p.start - shift) / TILE * TILE : 0;  // earlier queries see none of these keys
        auto fetch = [&](int at, int to) {  // the tile of queries from `at` on
            int rows = p.q_rows - at;
            qs[to].template fill<THREADS>(q + (p.q_first + at) * s.q_stride + head * K, s.q_stride, rows);
            gs[to].template fill<THREADS>(gy + (p.q_first + at) * s.y_stride + head * K, s.y_stride, rows);
            if (threadIdx.x < TILE) {
                i64 place = places + (int(threadIdx.x) < rows ? at + int(threadIdx.x) : 0);
                copy4(&row_lse[to][threadIdx.x], lse + place, threadIdx.x < rows);
                copy4(&row_delta[to][threadIdx.x], delta + place, threadIdx.x < rows);
            }
            group_copies();
        };
        int side = 0;
        if (from < p.q_rows) fetch(from, 0);
        for (int first = from; first < p.q_rows; first += TILE, side ^= SIDES - 1) {
            int next = first + TILE;
            if (SIDES == 2 && next < p.q_rows) {
                fetch(next, side ^ 1);
                arrived<1>();
            } else
                arrived<0>();
            if (s.threshold) kept.draw(s, own, seed, offset, first, p.start);
            __syncthreads();
            float w[8][4], g[8][4];
            clear(w);
            clear(g);
            rows_by_tile<T, K>(w, key_rows, qs[side]);
            rows_by_tile<T, K>(g, value_rows, gs[side]);
            bool whole = p.start + TILE <= p.k_rows && next <= p.q_rows && (!s.causal || p.start + TILE - 1 <= first + shift);
#pragma unroll
            for (int n = 0; n < 8; ++n)
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    w[n][i] = w[n][i] * scale - row_lse[side][n * 8 + column + i % 2] * LOG2E;
            if (!whole)
#pragma unroll
                for (int n = 0; n < 8; ++n)
#pragma unroll
                    for (int i = 0; i < 4; ++i) {
                        int query = first + n * 8 + column + i % 2, key = p.start + row + i / 2 * 8;
                        bool visible = key < p.k_rows && query < p.q_rows && (!s.causal || key <= query + shift);
                        if (!visible) w[n][i] = -INF;
                    }
#pragma unroll
            for (int n = 0; n < 8; ++n)
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    int at = n * 8 + column + i % 2;
                    float weight = exp2_fast(w[n][i]);
                    float factor = s.threshold ? (kept(at, row + i / 2 * 8) ? s.keep : 0.f) : 1.f;
                    w[n][i] = weight * factor;
                    g[n][i] = weight * (g[n][i] * factor - row_delta[side][at]);
                }
            weights_by_tile<T, K>(to_values, w, gs[side]);
            weights_by_tile<T, K>(to_keys, g, qs[side]);
            if (SHORT) {
#pragma unroll
                for (int n = 0; n < 8; ++n) {
                    T* to = scores.at + row * scores.pitch + n * 8 + column;
                    *reinterpret_cast<u32*>(to) = pack<T>(g[n][0], g[n][1]);
                    *reinterpret_cast<u32*>(to + 8 * scores.pitch) = pack<T>(g[n][2], g[n][3]);
                }
                __syncthreads();
                float to_queries[K / 8][4];
                clear(to_queries);
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    u32 a[4];
                    scores.a_transposed(a, i * 16, warp * 16);
#pragma unroll
                    for (int n = 0; n < K / 16; ++n) {
                        u32 b[4];
                        ks.b(b, i * 16, n * 16);
                        mma<T>(to_queries[2 * n], a, b[0], b[1]);
                        mma<T>(to_queries[2 * n + 1], a, b[2], b[3]);
                    }
                }
                if (gq)
                    write_rows<T, K>(gq + (p.q_first + first) * s.gq_stride + head * K, s.gq_stride, to_queries, warp * 16,
                                     p.q_rows - first, s.scale, s.scale);
            }
            __syncthreads();
        }
    }
    // Keys beyond a sentence's length get zeros.
    int rows = PACKED ? p.k_rows - p.start : s.keys - p.start;
    i64 first = p.k_first + p.start;
    if (gk) write_rows<T, K>(gk + first * s.gk_stride + key_head * K, s.gk_stride, to_keys, warp * 16, rows, s.scale, s.scale);
    if (gv) write_rows<T, K>(gv + first * s.gv_stride + key_head * K, s.gv_stride, to_values, warp * 16, rows, 1.f, 1.f);
#endif
}

// The gradient of queries: a block owns 64 queries and goes through the keys.
template <typename T, int K, bool PACKED>
__global__ void __launch_bounds__(THREADS)
attention_backward_queries(T* gq, const T* gy, const T* q, const T* k, const T* v, const float* lse, const float* delta,
                           const int* lengths, const int* q_offsets, const int* k_offsets, const i64* state, Shape s) {
#if __CUDA_ARCH__ >= 800
    typedef Tile<T, TILE, K> Rows;
    Rows *ks = reinterpret_cast<Rows*>(shared_memory), *vs = ks + 2;
    __shared__ Kept kept;
    int head = blockIdx.y, key_head = head / (s.heads / s.key_heads);
    if (PACKED) clear_tail(gq, s.gq_stride, K, q_offsets[s.segments], s.queries, head);
    Part p = find<PACKED, false>(s, lengths, q_offsets, k_offsets);
    if (p.empty()) return;
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, row = warp * 16 + lane / 4, column = lane % 4 * 2;
    const T* keys = k + p.k_first * s.k_stride + key_head * K;
    const T* values = v + p.k_first * s.v_stride + key_head * K;

    u32 query_rows[K / 16][4], grad_rows[K / 16][4];
    ks[1].template fill<THREADS>(q + (p.q_first + p.start) * s.q_stride + head * K, s.q_stride, p.q_rows - p.start);
    vs[1].template fill<THREADS>(gy + (p.q_first + p.start) * s.y_stride + head * K, s.y_stride, p.q_rows - p.start);
    ks[0].template fill<THREADS>(keys, s.k_stride, p.k_rows);
    vs[0].template fill<THREADS>(values, s.v_stride, p.k_rows);
    group_copies();
    arrived<0>();
    __syncthreads();
    load_rows<T, K>(query_rows, ks[1], warp * 16);
    load_rows<T, K>(grad_rows, vs[1], warp * 16);
    __syncthreads();
    float scale = s.scale * LOG2E;
    float own_lse[2] = {0.f, 0.f}, own_delta[2] = {0.f, 0.f};
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        int at = p.start + row + r * 8;
        i64 place = PACKED ? i64(head) * s.queries + p.q_first + at : (i64(p.sentence) * s.heads + head) * s.queries + at;
        if (at < p.q_rows) own_lse[r] = lse[place] * LOG2E, own_delta[r] = delta[place];
    }
    float out[K / 8][4];
    clear(out);
    int shift = s.causal ? (PACKED ? p.k_rows : s.keys) - p.q_rows : 0;
    int seen = s.causal ? min(p.k_rows, p.start + TILE + shift) : p.k_rows;
    u64 seed = 0, offset = 0;
    if (s.threshold) seed = state[0], offset = state[1] + s.draw;
    int side = 0;
    for (int first = 0; first < seen; first += TILE, side ^= 1) {
        int next = first + TILE;
        if (next < seen) {
            ks[side ^ 1].template fill<THREADS>(keys + next * s.k_stride, s.k_stride, p.k_rows - next);
            vs[side ^ 1].template fill<THREADS>(values + next * s.v_stride, s.v_stride, p.k_rows - next);
            group_copies();
            arrived<1>();
        } else
            arrived<0>();
        if (s.threshold) kept.draw(s, p, seed, offset, p.start, first);
        __syncthreads();
        float w[8][4], g[8][4];
        clear(w);
        clear(g);
        rows_by_tile<T, K>(w, query_rows, ks[side]);
        rows_by_tile<T, K>(g, grad_rows, vs[side]);
        bool whole = next <= p.k_rows && p.start + TILE <= p.q_rows && (!s.causal || next - 1 <= p.start + shift);
#pragma unroll
        for (int n = 0; n < 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) w[n][i] = w[n][i] * scale - own_lse[i / 2];
        if (!whole)
#pragma unroll
            for (int n = 0; n < 8; ++n)
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    int key = first + n * 8 + column + i % 2, query = p.start + row + i / 2 * 8;
                    bool visible = key < p.k_rows && query < p.q_rows && (!s.causal || key <= query + shift);
                    if (!visible) w[n][i] = -INF;
                }
#pragma unroll
        for (int n = 0; n < 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                float factor = s.threshold ? (kept(row + i / 2 * 8, n * 8 + column + i % 2) ? s.keep : 0.f) : 1.f;
                g[n][i] = exp2_fast(w[n][i]) * (g[n][i] * factor - own_delta[i / 2]);
            }
        weights_by_tile<T, K>(out, g, ks[side]);
        __syncthreads();
    }
    write_rows<T, K>(gq + (p.q_first + p.start) * s.gq_stride + head * K, s.gq_stride, out, warp * 16, p.q_rows - p.start,
                     s.scale, s.scale);
#endif
}
