// Attention on tensor cores, forward and backward, for 16-bit values: softmax(scale q k^T) v for each head (Vaswani et
// al. 2017), tile by tile with a running maximum and sum (Milakov and Gimelshein 2018; Dao 2023).
//
// A block of 4 warps owns 64 rows of one head of one sentence (padded: [B, T, H, K]) or segment (packed: [N, H, K]).
// Warps own 16 rows each. Nothing is added atomically, so the bits are the same in every run.
#include "attention.cuh"

constexpr int THREADS = 128;
constexpr int TILE = 64;
typedef KeptWeights<TILE, TILE> Kept;

// d += A B^T for 16 rows `a` (K/16 fragments) and the 8 N rows of a tile from `from` on.
template <typename T, int K, int N>
__device__ __forceinline__ void rows_by_tile(float (&d)[N][4], const u32 (&a)[K / 16][4], const Tile<T, TILE, K>& tile, int from = 0) {
#pragma unroll
    for (int n = 0; n < N / 2; ++n)
#pragma unroll
        for (int k = 0; k < K / 16; ++k) {
            u32 b[4];
            tile.b_transposed(b, from + n * 16, k * 16);
            mma<T>(d[2 * n], a[k], b[0], b[1]);
            mma<T>(d[2 * n + 1], a[k], b[2], b[3]);
        }
}
// The same with the 16 rows from `row` on of a tile.
template <typename T, int K, int N>
__device__ __forceinline__ void tile_by_tile(float (&d)[N][4], const Tile<T, TILE, K>& rows, int row, const Tile<T, TILE, K>& tile, int from) {
#pragma unroll
    for (int k = 0; k < K / 16; ++k) {
        u32 a[4], b[4];
        rows.a(a, row, k * 16);
#pragma unroll
        for (int n = 0; n < N / 2; ++n) {
            tile.b_transposed(b, from + n * 16, k * 16);
            mma<T>(d[2 * n], a, b[0], b[1]);
            mma<T>(d[2 * n + 1], a, b[2], b[3]);
        }
    }
}
// d += P tile, where P [16, 8 N] is held as accumulators, for the rows of the tile from `from` on.
template <typename T, int K, int N>
__device__ __forceinline__ void weights_by_tile(float (&d)[K / 8][4], const float (&p)[N][4], const Tile<T, TILE, K>& tile, int from = 0) {
#pragma unroll
    for (int k = 0; k < N / 2; ++k) {
        u32 a[4] = {pack<T>(p[2 * k][0], p[2 * k][1]), pack<T>(p[2 * k][2], p[2 * k][3]),
                    pack<T>(p[2 * k + 1][0], p[2 * k + 1][1]), pack<T>(p[2 * k + 1][2], p[2 * k + 1][3])};
#pragma unroll
        for (int n = 0; n < K / 16; ++n) {
            u32 b[4];
            tile.b(b, from + k * 16, n * 16);
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

extern __shared__ __align__(16) unsigned char shared_memory[];

// With SHORT there are at most 64 keys.
template <typename T, int K, bool PACKED, bool SHORT>
__global__ void __launch_bounds__(THREADS, K > 64 ? 2 : 4)
attention_forward(T* y, float* lse, const T* q, const T* k, const T* v, const int* lengths, const int* q_offsets,
                  const int* k_offsets, const i64* state, Shape s) {
#if __CUDA_ARCH__ >= 800
    typedef Tile<T, TILE, K> Rows;
    constexpr int SIDES = SHORT ? 1 : 2;  // of two tiles one is filled while the other is used
    Rows *ks = reinterpret_cast<Rows*>(shared_memory), *vs = ks + SIDES, *qs = SHORT ? vs + 1 : ks + 1;
    __shared__ Kept kept;
    int head = blockIdx.y, key_head = head / (s.heads / s.key_heads);
    if (PACKED) clear_tail<THREADS>(y, lse, s, K, q_offsets[s.segments], head);
    Part p = find<PACKED, false, TILE>(s, head, lengths, q_offsets, k_offsets);
    if (p.empty()) return;
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, row = warp * 16 + lane / 4, column = lane % 4 * 2;
    const T* keys = k + p.k_first * s.k_stride + key_head * K;
    const T* values = v + p.k_first * s.v_stride + key_head * K;

    u32 a[K / 16][4];
    qs->template fill<THREADS>(q + (p.q_first + p.start) * s.q_stride + head * K, s.q_stride, p.q_rows - p.start);
    ks[0].template fill<THREADS>(keys, s.k_stride, p.k_rows);
    group_copies();
    vs[0].template fill<THREADS>(values, s.v_stride, p.k_rows);
    group_copies();
    float scale = s.scale * LOG2E;  // weights are powers of 2
    float out[K / 8][4], top[2] = {-INF, -INF}, total[2] = {0.f, 0.f};
    clear(out);
    int seen = p.keys_seen(s, TILE), side = 0;
    for (int first = 0; first < seen; first += TILE, side ^= SIDES - 1) {
        int next = first + TILE;
        if (first == 0) arrived<1>();  // the values come while the scores are made
        else arrived<0>();
        __syncthreads();
        if (first == 0) {
            load_rows<T, K>(a, *qs, warp * 16);
            if (!SHORT) __syncthreads();
        }
        if (!SHORT && next < seen) {
            ks[side ^ 1].template fill<THREADS>(keys + next * s.k_stride, s.k_stride, p.k_rows - next);
            vs[side ^ 1].template fill<THREADS>(values + next * s.v_stride, s.v_stride, p.k_rows - next);
            group_copies();
        }
        if (s.threshold) kept.draw<false>(s, state, p.place, p.start, first);
        float w[8][4];
        clear(w);
        rows_by_tile<T, K>(w, a, ks[side]);
        if (!p.visible(s, p.start, next - 1))
#pragma unroll
            for (int n = 0; n < 8; ++n)
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    if (!p.visible(s, p.start + row + i / 2 * 8, first + n * 8 + column + i % 2)) w[n][i] = -INF;
        float factor[2], base[2], now[2] = {-INF, -INF};
#pragma unroll
        for (int n = 0; n < 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) now[i / 2] = fmaxf(now[i / 2], w[n][i]);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            now[r] = fmaxf(now[r], __shfl_xor_sync(~0u, now[r], 1));
            now[r] = fmaxf(now[r], __shfl_xor_sync(~0u, now[r], 2));
            float higher = fmaxf(top[r], now[r] * scale);
            base[r] = higher == -INF ? 0.f : higher;
            factor[r] = exp2_fast(top[r] - base[r]);
            top[r] = higher;
            total[r] *= factor[r];
        }
#pragma unroll
        for (int n = 0; n < 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                w[n][i] = exp2_fast(w[n][i] * scale - base[i / 2]);
                total[i / 2] += w[n][i];
            }
        if (s.threshold)
#pragma unroll
            for (int n = 0; n < 8; ++n)
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    w[n][i] = kept(row + i / 2 * 8, n * 8 + column + i % 2) ? w[n][i] * s.keep : 0.f;
        if (first > 0)
#pragma unroll
            for (int n = 0; n < K / 8; ++n)
#pragma unroll
                for (int i = 0; i < 4; ++i) out[n][i] *= factor[i / 2];
        else {
            if (!SHORT && next < seen) arrived<1>();
            else arrived<0>();
            __syncthreads();
        }
        weights_by_tile<T, K>(out, w, vs[side]);
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        total[r] += __shfl_xor_sync(~0u, total[r], 1);
        total[r] += __shfl_xor_sync(~0u, total[r], 2);
        int at = p.start + row + r * 8;
        if (lane % 4 == 0 && at < p.q_rows) lse[p.place + at] = total[r] > 0.f ? top[r] / LOG2E + __logf(total[r]) : 0.f;
        total[r] = total[r] > 0.f ? 1.f / total[r] : 0.f;
    }
    arrived<0>();
    if (!SHORT || seen <= 0) __syncthreads();
    write_rows<T, K>(y + (p.q_first + p.start) * s.y_stride + head * K, s.y_stride, out, *qs, p.q_rows - p.start, total[0],
                     total[1]);
#endif
}

// delta[r] = sum of gy y over a row of a head, as lse lies.
template <typename T, int K>
__global__ void __launch_bounds__(THREADS)
attention_delta(float* delta, const T* gy, const T* y, int rows, int heads, int per_sentence) {
    constexpr int LANES = K > 64 ? 16 : K > 32 ? 8 : K > 16 ? 4 : 2;  // of a row of a head; K / 8 of them have work
    i64 i = (i64(blockIdx.x) * THREADS + threadIdx.x) / LANES;
    int part = threadIdx.x % LANES;
    bool there = i < i64(rows) * heads;
    float sum = 0.f;
    if (there && part < K / 8) {
        typedef Pack<T, 8> Words8;
        Words8 a = reinterpret_cast<const Words8*>(gy)[i * (K / 8) + part], b = reinterpret_cast<const Words8*>(y)[i * (K / 8) + part];
#pragma unroll
        for (int j = 0; j < 8; ++j) sum += load(a.at[j]) * load(b.at[j]);
    }
#pragma unroll
    for (int o = LANES / 2; o; o /= 2) sum += __shfl_xor_sync(~0u, sum, o);
    i64 row = i / heads;
    int head = i % heads;
    i64 place = (row / per_sentence * heads + head) * per_sentence + row % per_sentence;
    if (there && part == 0) delta[place] = sum;
}

// From scores (of a warp's 16 keys by the 8 N queries from `from` on of the tile at `first`, in w) and the gradient of
// dropped weights (g): dropped weights and the gradient of scores. Queries that are not there have zeros for gy and
// delta, so that they add nothing.
template <int N>
__device__ __forceinline__ void keys_scores(float (&w)[N][4], float (&g)[N][4], const Shape& s, const Part& p, int first, int from,
                                            const float* lses, const float* deltas, const Kept& kept) {
    int lane = threadIdx.x % WARP, row = threadIdx.x / WARP * 16 + lane / 4, column = from + lane % 4 * 2;
    float scale = s.scale * LOG2E;
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) w[n][i] = w[n][i] * scale - lses[n * 8 + column + i % 2] * LOG2E;
    if (!p.visible(s, first + from, p.start + TILE - 1))
#pragma unroll
        for (int n = 0; n < N; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i)
                if (!p.visible(s, first + n * 8 + column + i % 2, p.start + row + i / 2 * 8)) w[n][i] = -INF;
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            int at = n * 8 + column + i % 2;
            float weight = exp2_fast(w[n][i]), factor = s.threshold ? (kept(at, row + i / 2 * 8) ? s.keep : 0.f) : 1.f;
            w[n][i] = weight * factor;
            g[n][i] = weight * (g[n][i] * factor - deltas[at]);
        }
}

// The gradients of keys and values: a block owns 64 keys and goes through the queries.
template <typename T, int K, bool PACKED>
__global__ void __launch_bounds__(THREADS, K > 64 ? 2 : 3)
attention_backward_keys(T* gk, T* gv, const T* gy, const T* q, const T* k, const T* v, const float* lse, const float* delta,
                        const int* lengths, const int* q_offsets, const int* k_offsets, const i64* state, Shape s) {
#if __CUDA_ARCH__ >= 800
    typedef Tile<T, TILE, K> Rows;
    Rows *qs = reinterpret_cast<Rows*>(shared_memory), *gs = qs + 2;  // two of each: one is filled, one is used
    __shared__ Kept kept;
    __shared__ float row_lse[2][TILE], row_delta[2][TILE];
    int key_head = blockIdx.y, group = s.heads / s.key_heads;
    if (PACKED) {
        int end = k_offsets[s.segments];
        if (gk) clear_rows<T, THREADS>(gk, s.gk_stride, K, end, s.keys, key_head);
        if (gv) clear_rows<T, THREADS>(gv, s.gv_stride, K, end, s.keys, key_head);
    }
    Part p = find<PACKED, true, TILE>(s, key_head * group, lengths, q_offsets, k_offsets);
    if (p.empty()) return;
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, row = warp * 16 + lane / 4, column = lane % 4 * 2;
    int from = p.first_query(s, TILE), a_head = max(0, (p.q_rows - from + TILE - 1) / TILE);
    int tiles = a_head * group;  // through all heads that share these keys
    auto fetch = [&](int tile) {
        int head = key_head * group + tile / a_head, at = from + tile % a_head * TILE, to = tile % 2;
        int rows = p.q_rows - at;
        i64 place = p.place_of<PACKED>(s, head);
        qs[to].template fill<THREADS>(q + (p.q_first + at) * s.q_stride + head * K, s.q_stride, rows);
        gs[to].template fill<THREADS>(gy + (p.q_first + at) * s.y_stride + head * K, s.y_stride, rows);
        if (threadIdx.x < TILE) {
            bool there = int(threadIdx.x) < rows;
            place += there ? at + int(threadIdx.x) : 0;
            copy4(&row_lse[to][threadIdx.x], lse + place, there);
            copy4(&row_delta[to][threadIdx.x], delta + place, there);
        }
    };
    u32 key_rows[K / 16][4], value_rows[K / 16][4];
    qs[1].template fill<THREADS>(k + (p.k_first + p.start) * s.k_stride + key_head * K, s.k_stride, p.k_rows - p.start);
    gs[1].template fill<THREADS>(v + (p.k_first + p.start) * s.v_stride + key_head * K, s.v_stride, p.k_rows - p.start);
    group_copies();
    if (tiles > 0) fetch(0);
    group_copies();
    arrived<1>();
    __syncthreads();
    load_rows<T, K>(key_rows, qs[1], warp * 16);
    load_rows<T, K>(value_rows, gs[1], warp * 16);
    float scale = s.scale * LOG2E;
    float to_keys[K / 8][4], to_values[K / 8][4];
    clear(to_keys);
    clear(to_values);
    for (int tile = 0; tile < tiles; ++tile) {
        arrived<0>();
        __syncthreads();
        if (tile + 1 < tiles) fetch(tile + 1);
        group_copies();
        int head = key_head * group + tile / a_head, first = from + tile % a_head * TILE, side = tile % 2;
        if (s.threshold) kept.draw<true>(s, state, p.place_of<PACKED>(s, head), first, p.start);
#pragma unroll 1
        for (int half = 0; half < TILE; half += TILE / 2) {  // all queries at once would take too many registers
            float w[4][4], g[4][4];
            clear(w);
            clear(g);
            rows_by_tile<T, K>(w, key_rows, qs[side], half);
            rows_by_tile<T, K>(g, value_rows, gs[side], half);
            keys_scores(w, g, s, p, first, half, row_lse[side], row_delta[side], kept);
            weights_by_tile<T, K>(to_values, w, gs[side], half);
            weights_by_tile<T, K>(to_keys, g, qs[side], half);
        }
    }
    arrived<0>();
    __syncthreads();
    // Keys beyond a sentence's length get zeros.
    int rows = PACKED ? p.k_rows - p.start : s.keys - p.start;
    i64 first = p.k_first + p.start;
    if (gk) write_rows<T, K>(gk + first * s.gk_stride + key_head * K, s.gk_stride, to_keys, qs[0], rows, s.scale, s.scale);
    if (gv) write_rows<T, K>(gv + first * s.gv_stride + key_head * K, s.gv_stride, to_values, gs[0], rows, 1.f, 1.f);
#endif
}

// All gradients of a sentence of at most 64 queries and 64 keys, which a block owns for one head of keys.
template <typename T, int K>
__global__ void __launch_bounds__(THREADS, 2)
attention_backward_short(T* gq, T* gk, T* gv, const T* gy, const T* q, const T* k, const T* v, const T* y, const float* lse,
                         const int* lengths, const i64* state, Shape s) {
#if __CUDA_ARCH__ >= 800
    typedef Tile<T, TILE, K> Rows;
    Rows *ks = reinterpret_cast<Rows*>(shared_memory), *vs = ks + 1, *qs = ks + 2, *gs = ks + 3;
    __shared__ Tile<T, TILE, TILE> scores;  // the gradient of scores, [key][query]
    __shared__ Kept kept;
    __shared__ float row_lse[TILE], row_delta[TILE];
    int key_head = blockIdx.y, group = s.heads / s.key_heads;
    Part p = find<false, true, TILE>(s, key_head * group, lengths, nullptr, nullptr);
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, row = warp * 16 + lane / 4, column = lane % 4 * 2;
    ks->template fill<THREADS>(k + p.k_first * s.k_stride + key_head * K, s.k_stride, p.k_rows);
    float to_keys[K / 8][4], to_values[K / 8][4];
    clear(to_keys);
    clear(to_values);
    for (int head = key_head * group; head < (key_head + 1) * group; ++head) {
        i64 place = p.place_of<false>(s, head);
        qs->template fill<THREADS>(q + p.q_first * s.q_stride + head * K, s.q_stride, p.q_rows);
        if (threadIdx.x < TILE) {
            bool there = int(threadIdx.x) < p.q_rows;
            copy4(&row_lse[threadIdx.x], lse + place + (there ? int(threadIdx.x) : 0), there);
        }
        gs->template fill<THREADS>(gy + p.q_first * s.y_stride + head * K, s.y_stride, p.q_rows);
        if (head == key_head * group) vs->template fill<THREADS>(v + p.k_first * s.v_stride + key_head * K, s.v_stride, p.k_rows);
        group_copies();
        // Half a row of y for the sum of gy y, the gradient that all scores of a query share.
        typedef Pack<T, 8> Eight;
        int own = threadIdx.x / 2, half = threadIdx.x % 2 * 8;
        Eight mine[(K + 8) / 16];
#pragma unroll
        for (int c = 0; c < K / 16; ++c)
            if (own < p.q_rows) mine[c] = *reinterpret_cast<const Eight*>(y + (p.q_first + own) * s.y_stride + head * K + c * 16 + half);
        if (s.threshold) kept.draw<true>(s, state, place, 0, 0);
        arrived<0>();
        __syncthreads();
        float sum = 0.f;
#pragma unroll
        for (int c = 0; c < K / 16; ++c) {
            Eight other = *reinterpret_cast<const Eight*>(gs->at + gs->place(own, c * 16 + half));
#pragma unroll
            for (int j = 0; j < 8; ++j) sum += own < p.q_rows ? load(mine[c].at[j]) * load(other.at[j]) : 0.f;
        }
        sum += __shfl_xor_sync(~0u, sum, 1);
        if (half == 0) row_delta[own] = sum;
        __syncthreads();
#pragma unroll 1
        for (int from = 0; from < TILE; from += TILE / 2) {  // all queries at once would take too many registers
            float w[4][4], g[4][4];
            clear(w);
            clear(g);
            tile_by_tile<T, K>(w, *ks, warp * 16, *qs, from);
            tile_by_tile<T, K>(g, *vs, warp * 16, *gs, from);
            keys_scores(w, g, s, p, 0, from, row_lse, row_delta, kept);
            weights_by_tile<T, K>(to_values, w, *gs, from);
            weights_by_tile<T, K>(to_keys, g, *qs, from);
#pragma unroll
            for (int n = 0; n < 4; ++n) {
                T* to = scores.at + scores.place(row, from + n * 8 + column);
                *reinterpret_cast<u32*>(to) = pack<T>(g[n][0], g[n][1]);
                *reinterpret_cast<u32*>(to + scores.place(8, 0)) = pack<T>(g[n][2], g[n][3]);
            }
        }
        __syncthreads();
        constexpr int PIECE = K % 32 ? 16 : 32;  // columns at a time, to hold fewer sums
#pragma unroll 1
        for (int c = 0; c < K; c += PIECE) {
            float to_queries[PIECE / 8][4];
            clear(to_queries);
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                u32 a[4], b[4];
                scores.a_transposed(a, i * 16, warp * 16);
#pragma unroll
                for (int n = 0; n < PIECE / 16; ++n) {
                    ks->b(b, i * 16, c + n * 16);
                    mma<T>(to_queries[2 * n], a, b[0], b[1]);
                    mma<T>(to_queries[2 * n + 1], a, b[2], b[3]);
                }
            }
            if (gq)
                write_rows<T, PIECE>(gq + p.q_first * s.gq_stride + head * K + c, s.gq_stride, to_queries, *qs, p.q_rows,
                                     s.scale, s.scale);
        }
        __syncthreads();
    }
    // Keys beyond a sentence's length get zeros.
    if (gk) write_rows<T, K>(gk + p.k_first * s.gk_stride + key_head * K, s.gk_stride, to_keys, *qs, s.keys, s.scale, s.scale);
    if (gv) write_rows<T, K>(gv + p.k_first * s.gv_stride + key_head * K, s.gv_stride, to_values, *gs, s.keys, 1.f, 1.f);
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
    if (PACKED) clear_rows<T, THREADS>(gq, s.gq_stride, K, q_offsets[s.segments], s.queries, head);
    Part p = find<PACKED, false, TILE>(s, head, lengths, q_offsets, k_offsets);
    if (p.empty()) return;
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, row = warp * 16 + lane / 4, column = lane % 4 * 2;
    const T* keys = k + p.k_first * s.k_stride + key_head * K;
    const T* values = v + p.k_first * s.v_stride + key_head * K;

    u32 query_rows[K / 16][4], grad_rows[K / 16][4];
    ks[1].template fill<THREADS>(q + (p.q_first + p.start) * s.q_stride + head * K, s.q_stride, p.q_rows - p.start);
    vs[1].template fill<THREADS>(gy + (p.q_first + p.start) * s.y_stride + head * K, s.y_stride, p.q_rows - p.start);
    group_copies();
    ks[0].template fill<THREADS>(keys, s.k_stride, p.k_rows);
    vs[0].template fill<THREADS>(values, s.v_stride, p.k_rows);
    group_copies();
    arrived<1>();
    __syncthreads();
    load_rows<T, K>(query_rows, ks[1], warp * 16);
    load_rows<T, K>(grad_rows, vs[1], warp * 16);
    float scale = s.scale * LOG2E;
    float own_lse[2] = {0.f, 0.f}, own_delta[2] = {0.f, 0.f};
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        int at = p.start + row + r * 8;
        if (at < p.q_rows) own_lse[r] = lse[p.place + at] * LOG2E, own_delta[r] = delta[p.place + at];
    }
    float out[K / 8][4];
    clear(out);
    int seen = p.keys_seen(s, TILE), side = 0;
    for (int first = 0; first < seen; first += TILE, side ^= 1) {
        int next = first + TILE;
        arrived<0>();
        __syncthreads();
        if (next < seen) {
            ks[side ^ 1].template fill<THREADS>(keys + next * s.k_stride, s.k_stride, p.k_rows - next);
            vs[side ^ 1].template fill<THREADS>(values + next * s.v_stride, s.v_stride, p.k_rows - next);
            group_copies();
        }
        if (s.threshold) kept.draw<false>(s, state, p.place, p.start, first);
        float w[8][4], g[8][4];
        clear(w);
        clear(g);
        rows_by_tile<T, K>(w, query_rows, ks[side]);
        rows_by_tile<T, K>(g, grad_rows, vs[side]);
#pragma unroll
        for (int n = 0; n < 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) w[n][i] = w[n][i] * scale - own_lse[i / 2];
        if (!p.visible(s, p.start, next - 1))
#pragma unroll
            for (int n = 0; n < 8; ++n)
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    if (!p.visible(s, p.start + row + i / 2 * 8, first + n * 8 + column + i % 2)) w[n][i] = -INF;
#pragma unroll
        for (int n = 0; n < 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                float factor = s.threshold ? (kept(row + i / 2 * 8, n * 8 + column + i % 2) ? s.keep : 0.f) : 1.f;
                g[n][i] = exp2_fast(w[n][i]) * (g[n][i] * factor - own_delta[i / 2]);
            }
        weights_by_tile<T, K>(out, g, ks[side]);
    }
    arrived<0>();
    __syncthreads();
    write_rows<T, K>(gq + (p.q_first + p.start) * s.gq_stride + head * K, s.gq_stride, out, ks[0], p.q_rows - p.start,
                     s.scale, s.scale);
#endif
}
