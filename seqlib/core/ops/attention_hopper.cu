// Attention by the products of Hopper's warp groups (sm_90a): heads 64 or 128 wide. As attention.cu, but a block of
// GROUPS warp groups owns 64 GROUPS rows, and products run beside exponentials.
#include "attention.cuh"
#include "wgmma.cuh"

extern __shared__ __align__(1024) unsigned char shared_memory[];

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
// S = A B^T: rows of `a` from `row` on by all rows of `b`.
template <typename T, int K, int ROWS, int COLUMNS>
__device__ __forceinline__ void rows_by_rows(float (&d)[COLUMNS / 8][4], const Swizzled<T, ROWS, K>& a, int row,
                                             const Swizzled<T, COLUMNS, K>& b) {
#pragma unroll
    for (int k = 0; k < K; k += 16) product<T, false>(d, a.by_columns(row, k), b.by_columns(0, k), k > 0);
}
// D += P B, P [64, ROWS] as operands in registers.
template <typename T, int K, int ROWS>
__device__ __forceinline__ void weights_by_rows(float (&d)[K / 8][4], const u32 (&p)[ROWS / 16][4], const Swizzled<T, ROWS, K>& b) {
#pragma unroll
    for (int k = 0; k < ROWS / 16; ++k) product<T, true>(d, p[k], b.by_rows(k * 16), true);
}
// Sums as operand A of the next product.
template <typename T, int N> __device__ __forceinline__ void pack_all(u32 (&p)[N / 2][4], const float (&w)[N][4]) {
#pragma unroll
    for (int k = 0; k < N / 2; ++k)
#pragma unroll
        for (int i = 0; i < 4; ++i) p[k][i] = pack<T>(w[2 * k + i / 2][i % 2 * 2], w[2 * k + i / 2][i % 2 * 2 + 1]);
}
#endif

// The weights of a tile are used while the scores of the next become weights.
template <typename T, int K, bool PACKED, bool DROPOUT, int GROUPS, int KEYS, int BLOCKS>
__global__ void __launch_bounds__(GROUPS * 128, BLOCKS)
attention_forward_hopper(T* y, float* lse, const T* q, const T* k, const T* v, const int* lengths, const int* q_offsets,
                         const int* k_offsets, const i64* state, Shape s) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    constexpr int ROWS = GROUPS * 64, THREADS = GROUPS * GROUP;
    typedef Swizzled<T, ROWS, K> Queries;
    typedef Swizzled<T, KEYS, K> Keys;
    Queries& qs = *reinterpret_cast<Queries*>(shared_memory);
    Keys *ks = reinterpret_cast<Keys*>(shared_memory + sizeof(Queries)), *vs = ks + 2;  // two of each, used in turn
    auto& kept = *reinterpret_cast<KeptWeights<ROWS, KEYS>*>(vs + 2);  // with DROPOUT
    int head = blockIdx.y, key_head = head / (s.heads / s.key_heads);
    if (PACKED) clear_tail<THREADS>(y, lse, s, K, q_offsets[s.segments], head);
    Part p = find<PACKED, false, ROWS>(s, head, lengths, q_offsets, k_offsets);
    if (p.empty()) return;
    int lane = threadIdx.x % WARP, own = warp_group() * 64;  // the group's first row in the block
    int row = threadIdx.x / WARP * 16 + lane / 4, column = lane % 4 * 2;
    const T* keys = k + p.k_first * s.k_stride + key_head * K;
    const T* values = v + p.k_first * s.v_stride + key_head * K;
    int seen = p.keys_seen(s, ROWS), tiles = (seen + KEYS - 1) / KEYS;
    auto fetch_keys = [&](int tile) {
        if (tile < tiles)
            ks[tile % 2].template fill<THREADS>(keys + tile * KEYS * s.k_stride, s.k_stride, p.k_rows - tile * KEYS);
    };
    auto fetch_values = [&](int tile) {
        if (tile < tiles)
            vs[tile % 2].template fill<THREADS>(values + tile * KEYS * s.v_stride, s.v_stride, p.k_rows - tile * KEYS);
    };
    float scale = s.scale * LOG2E;  // weights are powers of 2
    float w[KEYS / 8][4], out[K / 8][4], top[2] = {-INF, -INF}, total[2] = {0.f, 0.f}, factor[2];
    u32 weights[KEYS / 16][4];
    clear(out);
    auto soften = [&](int first) {  // scores to weights
        if (!p.visible(s, p.start + own, first + KEYS - 1))
#pragma unroll
            for (int n = 0; n < KEYS / 8; ++n)
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    if (!p.visible(s, p.start + row + i / 2 * 8, first + n * 8 + column + i % 2)) w[n][i] = -INF;
        float now[2] = {-INF, -INF}, base[2];
#pragma unroll
        for (int n = 0; n < KEYS / 8; ++n)
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
        for (int n = 0; n < KEYS / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                w[n][i] = exp2_fast(w[n][i] * scale - base[i / 2]);
                total[i / 2] += w[n][i];
                if (DROPOUT) w[n][i] = kept(row + i / 2 * 8, n * 8 + column + i % 2) ? w[n][i] * s.keep : 0.f;
            }
    };
    qs.template fill<THREADS>(q + (p.q_first + p.start) * s.q_stride + head * K, s.q_stride, p.q_rows - p.start);
    fetch_keys(0);
    group_copies();
    fetch_values(0);
    fetch_keys(1);
    group_copies();
    arrived<1>();
    publish();
    __syncthreads();
    if (tiles > 0) {
        begin_products();
        rows_by_rows<T, K, ROWS, KEYS>(w, qs, own, ks[0]);
        group_products();
        if (DROPOUT) kept.template draw<false>(s, state, p.place, p.start, 0);
        products_done<0>();
        settle(w);
        soften(0);
        pack_all<T>(weights, w);
        for (int tile = 1; tile < tiles; ++tile) {
            arrived<0>();
            publish();
            __syncthreads();
            fetch_values(tile);
            fetch_keys(tile + 1);
            group_copies();
            begin_products();
            rows_by_rows<T, K, ROWS, KEYS>(w, qs, own, ks[tile % 2]);
            group_products();
            weights_by_rows<T, K, KEYS>(out, weights, vs[(tile - 1) % 2]);
            group_products();
            if (DROPOUT) kept.template draw<false>(s, state, p.place, p.start, tile * KEYS);
            products_done<1>();
            settle(w);
            soften(tile * KEYS);
            keep_before(total[0] + total[1]);
            products_done<0>();
            settle(out);
#pragma unroll
            for (int n = 0; n < K / 8; ++n)
#pragma unroll
                for (int i = 0; i < 4; ++i) out[n][i] *= factor[i / 2];
            pack_all<T>(weights, w);
        }
        arrived<0>();
        publish();
        __syncthreads();
        begin_products();
        weights_by_rows<T, K, KEYS>(out, weights, vs[(tiles - 1) % 2]);
        group_products();
        products_done<0>();
        settle(out);
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        total[r] += __shfl_xor_sync(~0u, total[r], 1);
        total[r] += __shfl_xor_sync(~0u, total[r], 2);
        int at = p.start + row + r * 8;
        if (lane % 4 == 0 && at < p.q_rows) lse[p.place + at] = total[r] > 0.f ? top[r] / LOG2E + __logf(total[r]) : 0.f;
        total[r] = total[r] > 0.f ? 1.f / total[r] : 0.f;
    }
    // All products with qs were done before the last barrier, and so was its copy.
    write_rows<T, K>(y + (p.q_first + p.start) * s.y_stride + head * K, s.y_stride, out, qs, p.q_rows - p.start, total[0],
                     total[1]);
#endif
}

// The gradients of keys and values: a group owns 64 keys and goes through the queries, QUERIES at a time.
template <typename T, int K, bool PACKED, bool DROPOUT, int GROUPS, int QUERIES, int BLOCKS>
__global__ void __launch_bounds__(GROUPS * 128, BLOCKS)
attention_backward_keys_hopper(T* gk, T* gv, const T* gy, const T* q, const T* k, const T* v, const float* lse,
                               const float* delta, const int* lengths, const int* q_offsets, const int* k_offsets,
                               const i64* state, Shape s) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    constexpr int ROWS = GROUPS * 64, THREADS = GROUPS * GROUP;
    typedef Swizzled<T, ROWS, K> Keys;
    typedef Swizzled<T, QUERIES, K> Queries;
    Keys *ks = reinterpret_cast<Keys*>(shared_memory), *vs = ks + 1;
    Queries *qs = reinterpret_cast<Queries*>(vs + 1), *gs = qs + 2;  // two of each, used in turn
    typedef float Row[QUERIES];
    Row *row_lse = reinterpret_cast<Row*>(gs + 2), *row_delta = row_lse + 2;
    auto& kept = *reinterpret_cast<KeptWeights<QUERIES, ROWS>*>(row_delta + 2);  // with DROPOUT
    int key_head = blockIdx.y, group = s.heads / s.key_heads;
    if (PACKED) {
        int end = k_offsets[s.segments];
        if (gk) clear_rows<T, THREADS>(gk, s.gk_stride, K, end, s.keys, key_head);
        if (gv) clear_rows<T, THREADS>(gv, s.gv_stride, K, end, s.keys, key_head);
    }
    Part p = find<PACKED, true, ROWS>(s, key_head * group, lengths, q_offsets, k_offsets);
    if (p.empty()) return;
    int lane = threadIdx.x % WARP, own = warp_group() * 64;
    int row = threadIdx.x / WARP * 16 + lane / 4, column = lane % 4 * 2;
    int from = p.first_query(s, QUERIES), a_head = max(0, (p.q_rows - from + QUERIES - 1) / QUERIES);
    int tiles = a_head * group;  // through all heads that share these keys
    auto fetch = [&](int tile) {
        int head = key_head * group + tile / a_head, at = from + tile % a_head * QUERIES, rows = p.q_rows - at;
        i64 head_place = p.place_of<PACKED>(s, head);
        qs[tile % 2].template fill<THREADS>(q + (p.q_first + at) * s.q_stride + head * K, s.q_stride, rows);
        gs[tile % 2].template fill<THREADS>(gy + (p.q_first + at) * s.y_stride + head * K, s.y_stride, rows);
        for (int i = threadIdx.x; i < QUERIES; i += THREADS) {
            i64 place = head_place + (i < rows ? at + i : 0);
            copy4(&row_lse[tile % 2][i], lse + place, i < rows);
            copy4(&row_delta[tile % 2][i], delta + place, i < rows);
        }
    };
    float scale = s.scale * LOG2E;
    float to_keys[K / 8][4], to_values[K / 8][4], w[QUERIES / 8][4], g[QUERIES / 8][4];
    u32 weights[QUERIES / 16][4], to_scores[QUERIES / 16][4];
    clear(to_keys);
    clear(to_values);
    ks->template fill<THREADS>(k + (p.k_first + p.start) * s.k_stride + key_head * K, s.k_stride, p.k_rows - p.start);
    vs->template fill<THREADS>(v + (p.k_first + p.start) * s.v_stride + key_head * K, s.v_stride, p.k_rows - p.start);
    if (tiles > 0) fetch(0);
    group_copies();
    for (int tile = 0; tile < tiles; ++tile) {
        arrived<0>();
        publish();
        products_done<0>();
        __syncthreads();
        if (tile + 1 < tiles) fetch(tile + 1);
        group_copies();
        const Queries &query = qs[tile % 2], &grad = gs[tile % 2];
        settle(to_keys);
        settle(to_values);
        begin_products();
        rows_by_rows<T, K, ROWS, QUERIES>(w, *ks, own, query);
        group_products();
        rows_by_rows<T, K, ROWS, QUERIES>(g, *vs, own, grad);
        group_products();
        int head = key_head * group + tile / a_head, first = from + tile % a_head * QUERIES;
        if (DROPOUT) kept.template draw<true>(s, state, p.place_of<PACKED>(s, head), first, p.start);
        products_done<1>();
        settle(w);
        // Queries that are not there have zeros for gy and delta, so that they add nothing.
        bool whole = p.visible(s, first, p.start + own + 63);
        const float *lses = row_lse[tile % 2], *deltas = row_delta[tile % 2];
#pragma unroll
        for (int n = 0; n < QUERIES / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) w[n][i] = w[n][i] * scale - lses[n * 8 + column + i % 2] * LOG2E;
        if (!whole)
#pragma unroll
            for (int n = 0; n < QUERIES / 8; ++n)
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    if (!p.visible(s, first + n * 8 + column + i % 2, p.start + row + i / 2 * 8)) w[n][i] = -INF;
#pragma unroll
        for (int n = 0; n < QUERIES / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) w[n][i] = exp2_fast(w[n][i]);
        auto factor = [&](int n, int i) { return kept(n * 8 + column + i % 2, row + i / 2 * 8) ? s.keep : 0.f; };
        if (DROPOUT) {
            float dropped[QUERIES / 8][4];
#pragma unroll
            for (int n = 0; n < QUERIES / 8; ++n)
#pragma unroll
                for (int i = 0; i < 4; ++i) dropped[n][i] = w[n][i] * factor(n, i);
            pack_all<T>(weights, dropped);
        } else
            pack_all<T>(weights, w);
        begin_products();
        weights_by_rows<T, K, QUERIES>(to_values, weights, grad);
        group_products();
        products_done<1>();
        settle(g);
#pragma unroll
        for (int n = 0; n < QUERIES / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                if (DROPOUT) g[n][i] *= factor(n, i);
                g[n][i] = w[n][i] * (g[n][i] - deltas[n * 8 + column + i % 2]);
            }
        pack_all<T>(to_scores, g);
        begin_products();
        weights_by_rows<T, K, QUERIES>(to_keys, to_scores, query);
        group_products();
    }
    arrived<0>();
    products_done<0>();
    settle(to_keys);
    settle(to_values);
    __syncthreads();
    // Keys beyond a sentence's length get zeros.
    int rows = PACKED ? p.k_rows - p.start : s.keys - p.start;
    i64 first = p.k_first + p.start;
    if (gk) write_rows<T, K>(gk + first * s.gk_stride + key_head * K, s.gk_stride, to_keys, *ks, rows, s.scale, s.scale);
    if (gv) write_rows<T, K>(gv + first * s.gv_stride + key_head * K, s.gv_stride, to_values, *vs, rows, 1.f, 1.f);
#endif
}

// The gradient of queries: a group owns 64 queries and goes through the keys, KEYS at a time. It makes delta, as
// attention_delta does, for the kernel of keys.
template <typename T, int K, bool PACKED, bool DROPOUT, int GROUPS, int KEYS, int BLOCKS>
__global__ void __launch_bounds__(GROUPS * 128, BLOCKS)
attention_backward_queries_hopper(T* gq, float* delta, const T* y, const T* gy, const T* q, const T* k, const T* v,
                                  const float* lse, const int* lengths, const int* q_offsets, const int* k_offsets, const i64* state,
                                  Shape s) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    constexpr int ROWS = GROUPS * 64, THREADS = GROUPS * GROUP;
    typedef Swizzled<T, ROWS, K> Queries;
    typedef Swizzled<T, KEYS, K> Keys;
    Queries *qs = reinterpret_cast<Queries*>(shared_memory), *gs = qs + 1;
    Keys *ks = reinterpret_cast<Keys*>(gs + 1), *vs = ks + 2;  // two of each, used in turn
    auto& kept = *reinterpret_cast<KeptWeights<ROWS, KEYS>*>(vs + 2);  // with DROPOUT
    int head = blockIdx.y, key_head = head / (s.heads / s.key_heads);
    if (PACKED) clear_rows<T, THREADS>(gq, s.gq_stride, K, q_offsets[s.segments], s.queries, head);
    Part p = find<PACKED, false, ROWS>(s, head, lengths, q_offsets, k_offsets);
    if (p.empty()) return;
    int lane = threadIdx.x % WARP, own = warp_group() * 64;
    int row = threadIdx.x / WARP * 16 + lane / 4, column = lane % 4 * 2;
    const T* keys = k + p.k_first * s.k_stride + key_head * K;
    const T* values = v + p.k_first * s.v_stride + key_head * K;
    int tiles = (p.keys_seen(s, ROWS) + KEYS - 1) / KEYS;
    auto fetch = [&](int tile) {
        ks[tile % 2].template fill<THREADS>(keys + tile * KEYS * s.k_stride, s.k_stride, p.k_rows - tile * KEYS);
        vs[tile % 2].template fill<THREADS>(values + tile * KEYS * s.v_stride, s.v_stride, p.k_rows - tile * KEYS);
    };
    float scale = s.scale * LOG2E, own_lse[2] = {0.f, 0.f}, own_delta[2] = {0.f, 0.f};
    float out[K / 8][4], w[KEYS / 8][4], g[KEYS / 8][4];
    u32 to_scores[KEYS / 16][4];
    clear(out);
    qs->template fill<THREADS>(q + (p.q_first + p.start) * s.q_stride + head * K, s.q_stride, p.q_rows - p.start);
    gs->template fill<THREADS>(gy + (p.q_first + p.start) * s.y_stride + head * K, s.y_stride, p.q_rows - p.start);
    if (tiles > 0) fetch(0);
    group_copies();
    // Two threads sum a row of their warp.
    typedef Pack<T, 8> Eight;
    int mine = threadIdx.x / 2, half = threadIdx.x % 2 * 8;
    bool there = p.start + mine < p.q_rows;
    Eight of_y[K / 16];
#pragma unroll
    for (int c = 0; c < K / 16; ++c)
        if (there)
            of_y[c] = *reinterpret_cast<const Eight*>(y + (p.q_first + p.start + mine) * s.y_stride + head * K + c * 16 + half);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        int at = p.start + row + r * 8;
        if (at < p.q_rows) own_lse[r] = lse[p.place + at] * LOG2E;
    }
    arrived<0>();
    __syncthreads();
    float sum = 0.f;
#pragma unroll
    for (int c = 0; c < K / 16; ++c) {
        Eight of_gy = *reinterpret_cast<const Eight*>(gs->at + gs->place(mine, c * 16 + half));
#pragma unroll
        for (int j = 0; j < 8; ++j) sum += there ? load(of_y[c].at[j]) * load(of_gy.at[j]) : 0.f;
    }
    sum += __shfl_xor_sync(~0u, sum, 1);
    if (there && half == 0) delta[p.place + p.start + mine] = sum;
    for (int r = 0; r < 2; ++r) own_delta[r] = __shfl_sync(~0u, sum, lane / 4 * 2 + r * 16);
    for (int tile = 0; tile < tiles; ++tile) {
        arrived<0>();
        publish();
        products_done<0>();
        __syncthreads();
        if (tile + 1 < tiles) fetch(tile + 1);
        group_copies();
        settle(out);
        begin_products();
        rows_by_rows<T, K, ROWS, KEYS>(w, *qs, own, ks[tile % 2]);
        group_products();
        rows_by_rows<T, K, ROWS, KEYS>(g, *gs, own, vs[tile % 2]);
        group_products();
        int first = tile * KEYS;
        if (DROPOUT) kept.template draw<false>(s, state, p.place, p.start, first);
        products_done<1>();
        settle(w);
        bool whole = p.visible(s, p.start + own, first + KEYS - 1);
#pragma unroll
        for (int n = 0; n < KEYS / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) w[n][i] = w[n][i] * scale - own_lse[i / 2];
        if (!whole)
#pragma unroll
            for (int n = 0; n < KEYS / 8; ++n)
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    if (!p.visible(s, p.start + row + i / 2 * 8, first + n * 8 + column + i % 2)) w[n][i] = -INF;
#pragma unroll
        for (int n = 0; n < KEYS / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) w[n][i] = exp2_fast(w[n][i]);
        products_done<0>();
        settle(g);
#pragma unroll
        for (int n = 0; n < KEYS / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                if (DROPOUT) g[n][i] *= kept(row + i / 2 * 8, n * 8 + column + i % 2) ? s.keep : 0.f;
                g[n][i] = w[n][i] * (g[n][i] - own_delta[i / 2]);
            }
        pack_all<T>(to_scores, g);
        begin_products();
        weights_by_rows<T, K, KEYS>(out, to_scores, ks[tile % 2]);
        group_products();
    }
    arrived<0>();
    products_done<0>();
    settle(out);
    __syncthreads();
    write_rows<T, K>(gq + (p.q_first + p.start) * s.gq_stride + head * K, s.gq_stride, out, *qs, p.q_rows - p.start, s.scale,
                     s.scale);
#endif
}
