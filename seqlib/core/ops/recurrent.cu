// Layers of LSTM (Hochreiter and Schmidhuber 1997) and GRU (Cho et al. 2014, with the reset after the product) over T
// steps, forward and backward. B rows, H width; gates lie side by side, in the order i, f, g, o or r, z, n; GATES is 4 or
// 3. What is kept for backward is i, f, g, o or r, z, n and the state's share of n: 4 values a unit.
//
// Two ways. `cell_forward` and `cell_backward` do one step after a product of the library. `recurrent_forward` and
// `recurrent_backward` do all steps in one launch (Diamos et al. 2016): each block keeps its part of the recurrent
// weights in shared memory, and blocks hand each other the states through global memory, a barrier a step. All blocks
// must run at once: there are at most as many as multiprocessors.
#include "mma.cuh"

template <typename A> __device__ __forceinline__ A sigmoid(A x) { return A(1) / (A(1) + exp(-x)); }

// An element's step. `a` holds the sums of the gates and then the gates; `t` is the tanh of the new c. Returns h.
template <typename A> __device__ __forceinline__ A lstm(A (&a)[4], A& c, A& t) {
    a[0] = sigmoid(a[0]), a[1] = sigmoid(a[1]), a[2] = tanh(a[2]), a[3] = sigmoid(a[3]);
    c = a[1] * c + a[0] * a[2];
    t = tanh(c);
    return a[3] * t;
}
template <typename A> __device__ __forceinline__ A gru(A (&a)[4], const A (&x)[4], const A (&own)[4], A h) {
    a[0] = sigmoid(x[0] + own[0]), a[1] = sigmoid(x[1] + own[1]), a[3] = own[2];
    a[2] = tanh(x[2] + a[0] * own[2]);
    return a[2] + a[1] * (h - a[2]);
}
// Backward: gradients `d` by the gates' sums, of GRU d[3] by the state's share of n, from dh by the step's h. `dc` comes
// by the new c and leaves by the old one. Of GRU what goes past the product to the old h is returned.
template <typename A>
__device__ __forceinline__ void lstm_back(A (&d)[4], const A (&a)[4], A c, A t, A dh, A& dc) {
    A cell = dc + dh * a[3] * (A(1) - t * t);
    d[0] = cell * a[2] * a[0] * (A(1) - a[0]);
    d[1] = cell * c * a[1] * (A(1) - a[1]);
    d[2] = cell * a[0] * (A(1) - a[2] * a[2]);
    d[3] = dh * t * a[3] * (A(1) - a[3]);
    dc = cell * a[1];
}
template <typename A> __device__ __forceinline__ A gru_back(A (&d)[4], const A (&a)[4], A h, A dh) {
    d[2] = dh * (A(1) - a[1]) * (A(1) - a[2] * a[2]);
    d[1] = dh * (h - a[2]) * a[1] * (A(1) - a[1]);
    d[0] = d[2] * a[3] * a[0] * (A(1) - a[0]);
    d[3] = d[2] * a[0];
    return dh * a[1];
}

// Arrays of an op; null where nobody needs them. Of LSTM there is no b, of GRU no c0, c, cells and tanhs.
template <typename T> struct Forward {
    const T *x, *w, *b, *h0, *c0;
    const int* lengths;
    T *y, *h, *c, *gates, *cells, *tanhs, *states;
    int steps, rows, width, reverse;
};
template <typename T> struct Backward {
    const T *w, *gates, *cells, *tanhs, *states;
    const int* lengths;
    const T *gy, *gh, *gc;
    T *gx, *gown, *gh0, *gc0;
    int steps, rows, width, reverse;
};

// Unit u of row n in step t: from the product `own` of the old state h and the old c to the new ones; writes what is kept.
template <typename T, int GATES, typename A>
__device__ __forceinline__ A step_forward(const Forward<T>& f, int t, int n, int u, A (&own)[4], const A (&x)[4], A h,
                                          A& c) {
    A a[4], squashed = 0, before = c, next;
    if (GATES == 4) {
#pragma unroll
        for (int g = 0; g < 4; ++g) a[g] = own[g] + x[g];
        next = lstm(a, c, squashed);
    } else {
#pragma unroll
        for (int g = 0; g < 3; ++g) own[g] += load(f.b[g * f.width + u]);
        next = gru(a, x, own, h);
    }
    bool live = !f.lengths || t < f.lengths[n];
    i64 row = i64(t) * f.rows + n, at = row * f.width + u;
    if (f.gates)
#pragma unroll
        for (int g = 0; g < 4; ++g) f.gates[(row * 4 + g) * f.width + u] = store<T>(a[g]);
    if (GATES == 4 && f.cells) f.cells[at] = store<T>(before);
    if (GATES == 4 && f.tanhs) f.tanhs[at] = store<T>(squashed);
    if (f.states) f.states[at] = store<T>(h);
    if (f.y) f.y[at] = store<T>(live ? next : A(0));
    if (!live) c = before;
    return live ? load(store<T>(next)) : h;
}

// Likewise backward: `dh` is what comes to the new state and leaves as what goes past the product to the old one; `d` are
// the gradients by what the product gave.
template <typename T, int GATES, typename A>
__device__ __forceinline__ void step_backward(const Backward<T>& b, int t, int n, int u, A (&d)[4], A& dh, A& dc) {
    i64 row = i64(t) * b.rows + n, at = row * b.width + u;
    A a[4];
#pragma unroll
    for (int g = 0; g < 4; ++g) a[g] = load(b.gates[(row * 4 + g) * b.width + u]), d[g] = 0;
    if (!b.lengths || t < b.lengths[n]) {
        A all = dh + (b.gy ? load(b.gy[at]) : A(0));
        dh = 0;
        if (GATES == 4) lstm_back(d, a, A(load(b.cells[at])), A(load(b.tanhs[at])), all, dc);
        else dh = gru_back(d, a, A(load(b.states[at])), all);
    }
    if (b.gx)
#pragma unroll
        for (int g = 0; g < GATES; ++g) b.gx[(row * GATES + g) * b.width + u] = store<T>(d[g]);
    if (GATES == 3) d[2] = d[3];
    if (b.gown)
#pragma unroll
        for (int g = 0; g < GATES; ++g) b.gown[(row * GATES + g) * b.width + u] = store<T>(d[g]);
}

// -- a step after a product ---------------------------------------------------------------------------------------

// From own [B, GATES H], the product of the step's state (at `state`), to the next state (at `next`); cell [B, H] is the
// running c.
template <typename T, int GATES>
__global__ void __launch_bounds__(256)
cell_forward(Forward<T> f, const typename Compute<T>::type* own, const T* state, T* next, typename Compute<T>::type* cell,
             int t, int first, int last) {
    typedef typename Compute<T>::type A;
    int i = blockIdx.x * blockDim.x + threadIdx.x, n = i / f.width, u = i % f.width;
    if (n >= f.rows) return;
    A mine[4], x[4], c = 0;
#pragma unroll
    for (int g = 0; g < GATES; ++g) {
        i64 at = (i64(n) * GATES + g) * f.width + u;
        mine[g] = own[at];
        x[g] = load(f.x[i64(t) * f.rows * GATES * f.width + at]);
    }
    if (GATES == 4) c = first ? A(load(f.c0[i])) : cell[i];
    A h = step_forward<T, GATES>(f, t, n, u, mine, x, A(load(state[i])), c);
    next[i] = store<T>(h);
    if (last && f.h) f.h[i] = store<T>(h);
    if (GATES == 4) {
        cell[i] = c;
        if (last && f.c) f.c[i] = store<T>(c);
    }
}

// From `sent` [B, H], the product of the later step, and dh and dc [B, H], which go from step to step, to `own` [B, GATES H],
// of which the product is taken. With t = -1 no step is left: dh and dc are the gradients by h0 and c0.
template <typename T, int GATES>
__global__ void __launch_bounds__(256)
cell_backward(Backward<T> b, T* own, const typename Compute<T>::type* sent, typename Compute<T>::type* past,
              typename Compute<T>::type* cells, int t, int first) {
    typedef typename Compute<T>::type A;
    int i = blockIdx.x * blockDim.x + threadIdx.x, n = i / b.width, u = i % b.width;
    if (n >= b.rows) return;
    A dh = first ? (b.gh ? A(load(b.gh[i])) : A(0)) : past[i] + sent[i], dc = 0, d[4];
    if (GATES == 4) dc = first ? (b.gc ? A(load(b.gc[i])) : A(0)) : cells[i];
    if (t < 0) {
        if (b.gh0) b.gh0[i] = store<T>(dh);
        if (GATES == 4 && b.gc0) b.gc0[i] = store<T>(dc);
        return;
    }
    step_backward<T, GATES>(b, t, n, u, d, dh, dc);
#pragma unroll
    for (int g = 0; g < GATES; ++g) own[(i64(n) * GATES + g) * b.width + u] = store<T>(d[g]);
    past[i] = dh;
    if (GATES == 4) cells[i] = dc;
}

// -- all steps in one launch --------------------------------------------------------------------------------------

// The products of a step are out = A B, A a part of the weights, B the state [H, B]: mma of 16x8x16, with the inner axis in
// chunks of 32, in which lane l has 8 neighbours k = 8 (l % 4) … of row l / 4 of both operands: any order of the inner
// axis is right if it is the same for both.
constexpr int WARPS = 8, THREADS = WARPS * WARP, AHEAD = 6;

// Where element k of row n of B lies: [chunks][tiles of 8 rows][lanes][8].
__device__ __forceinline__ int place(int n, int k, int tiles) {
    return ((k / 32 * tiles + n / 8) * WARP + n % 8 * 4 + k % 32 / 8) * 8 + k % 8;
}

// Each block, once: its writes are seen by those who wait for `target` arrivals.
__device__ __forceinline__ void arrive(u32* counter) {
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        atomicAdd(counter, 1u);
    }
}
__device__ __forceinline__ void wait_for(u32* counter, u32 target) {
    if (threadIdx.x == 0) {
        u32 seen;
        do asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(counter) : "memory");
        while (seen < target);
    }
    __syncthreads();
}

#if __CUDA_ARCH__ >= 800
// This block's A from weights: row r < 16 MT, element k is `at(r, k)`.
template <typename T, int MT, typename At> __device__ __forceinline__ void keep(T* a, int chunks, At at) {
    for (int i = threadIdx.x; i < chunks * MT * 64 * 8; i += THREADS) {
        int e = i % 8, lane = i / 8 % WARP, half = i / 256 % 2, m = i / 512 % MT, c = i / (512 * MT);
        a[i] = at(m * 16 + half * 8 + lane / 4, c * 32 + lane % 4 * 8 + e);
    }
}

// sums[warp][r][n] of A and NT tiles of B for the chunks of each warp.
template <typename T, int MT, int NT>
__device__ __forceinline__ void multiply(float* sums, const T* a, const T* b, int chunks, int tiles) {
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const uint4 *as = reinterpret_cast<const uint4*>(a), *bs = reinterpret_cast<const uint4*>(b);
    float acc[MT][NT][4];
#pragma unroll
    for (int m = 0; m < MT; ++m)
#pragma unroll
        for (int n = 0; n < NT; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) acc[m][n][i] = 0;
    for (int first = warp; first < chunks; first += WARPS * AHEAD) {
        uint4 held[AHEAD][NT];
#pragma unroll
        for (int i = 0; i < AHEAD; ++i)
#pragma unroll
            for (int n = 0; n < NT; ++n)
                if (first + i * WARPS < chunks) held[i][n] = __ldcg(bs + ((first + i * WARPS) * tiles + n) * WARP + lane);
#pragma unroll
        for (int i = 0; i < AHEAD; ++i) {
            int c = first + i * WARPS;
            if (c >= chunks) continue;
#pragma unroll
            for (int m = 0; m < MT; ++m) {
                uint4 low = as[(c * MT + m) * 64 + lane], high = as[(c * MT + m) * 64 + WARP + lane];
                u32 one[4] = {low.x, high.x, low.y, high.y}, two[4] = {low.z, high.z, low.w, high.w};
#pragma unroll
                for (int n = 0; n < NT; ++n) {
                    mma<T>(acc[m][n], one, held[i][n].x, held[i][n].y);
                    mma<T>(acc[m][n], two, held[i][n].z, held[i][n].w);
                }
            }
        }
    }
    constexpr int pitch = 8 * NT + 1;
#pragma unroll
    for (int m = 0; m < MT; ++m)
#pragma unroll
        for (int n = 0; n < NT; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                int r = m * 16 + i / 2 * 8 + lane / 4, column = n * 8 + lane % 4 * 2 + i % 2;
                sums[(warp * 16 * MT + r) * pitch + column] = acc[m][n][i];
            }
    __syncthreads();
}
template <int MT, int NT> __device__ __forceinline__ float total(const float* sums, int r, int n) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < WARPS; ++w) sum += sums[(w * 16 * MT + r) * (8 * NT + 1) + n];
    return sum;
}
#endif

// A block owns `units` units and all their gates: row r of A is gate r / units of unit r % units. `exchange` holds B twice:
// the state that a step reads and the one that it makes. `counter` is 0 before.
template <typename T, int GATES, int MT, int NT>
__global__ void __launch_bounds__(THREADS)
recurrent_forward(Forward<T> f, T* exchange, u32* counter, int units, int tiles) {
#if __CUDA_ARCH__ >= 800
    extern __shared__ __align__(16) unsigned char memory[];
    int chunks = (f.width + 31) / 32, slot = chunks * tiles * WARP * 8, from = blockIdx.x * units;
    T* a = reinterpret_cast<T*>(memory);
    float* sums = reinterpret_cast<float*>(a + chunks * MT * 512);
    float *hs = sums + WARPS * 16 * MT * (8 * NT + 1), *cs = hs + 8 * tiles * units;
    keep<T, MT>(a, chunks, [&](int r, int k) {
        int u = from + r % units;
        bool there = r < GATES * units && u < f.width && k < f.width;
        return there ? f.w[(i64(r / units) * f.width + u) * f.width + k] : store<T>(0.f);
    });
    for (int i = threadIdx.x; i < f.rows * units; i += THREADS) {
        int n = i / units, u = from + i % units;
        if (u >= f.width) continue;
        hs[i] = load(f.h0[n * f.width + u]);
        if (GATES == 4) cs[i] = load(f.c0[n * f.width + u]);
        exchange[place(n, u, tiles)] = f.h0[n * f.width + u];
    }
    if (blockIdx.x == 0)  // beyond the width B is 0
        for (int i = threadIdx.x; i < 8 * tiles * (chunks * 32 - f.width); i += THREADS) {
            int at = place(i % (8 * tiles), f.width + i / (8 * tiles), tiles);
            exchange[at] = exchange[slot + at] = store<T>(0.f);
        }
    arrive(counter);
    for (int s = 0; s < f.steps; ++s) {
        int t = f.reverse ? f.steps - 1 - s : s;
        const T* b = exchange + s % 2 * slot;
        T* next = exchange + (s + 1) % 2 * slot;
        wait_for(counter, gridDim.x * (s + 1));
        for (int group = 0; group < tiles; group += NT) {
            constexpr int MOST = (8 * NT * 16 + THREADS - 1) / THREADS;  // of a thread's elements
            float x[MOST][4];
#pragma unroll
            for (int j = 0; j < MOST; ++j) {
                int i = threadIdx.x + j * THREADS, n = group * 8 + i / units, u = from + i % units;
                if (i < 8 * NT * units && n < f.rows && u < f.width)
#pragma unroll
                    for (int g = 0; g < GATES; ++g)
                        x[j][g] = load(f.x[((i64(t) * f.rows + n) * GATES + g) * f.width + u]);
            }
            multiply<T, MT, NT>(sums, a, b + group * WARP * 8, chunks, tiles);
#pragma unroll
            for (int j = 0; j < MOST; ++j) {
                int i = threadIdx.x + j * THREADS, n = group * 8 + i / units, u = from + i % units;
                if (i >= 8 * NT * units || n >= f.rows || u >= f.width) continue;
                float own[4];
#pragma unroll
                for (int g = 0; g < GATES; ++g) own[g] = total<MT, NT>(sums, g * units + i % units, i / units);
                int held = n * units + i % units;
                float h = hs[held], c = GATES == 4 ? cs[held] : 0.f;
                h = step_forward<T, GATES>(f, t, n, u, own, x[j], h, c);
                next[place(n, u, tiles)] = store<T>(h);
                hs[held] = h;
                if (GATES == 4) cs[held] = c;
            }
            if (group + NT < tiles) __syncthreads();
        }
        if (s + 1 < f.steps) arrive(counter);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < f.rows * units; i += THREADS) {
        int n = i / units, u = from + i % units;
        if (u >= f.width) continue;
        if (f.h) f.h[n * f.width + u] = store<T>(hs[i]);
        if (GATES == 4 && f.c) f.c[n * f.width + u] = store<T>(cs[i]);
    }
#endif
}

// Blocks come in groups of GATES, a group owns 16 MT units. Each block multiplies the gradients of one gate by that gate's
// weights [H, 16 MT], transposed as A, and writes its part of what is sent to the units' states to `parts` [blocks, B, 16 MT];
// then it sums the parts of its group for its share of the units and does their step. `exchange` holds B for two steps,
// [2, GATES, …]; `counters`, 0 before, are those of all blocks and of each group.
template <typename T, int GATES, int MT, int NT>
__global__ void __launch_bounds__(THREADS)
recurrent_backward(Backward<T> b, T* exchange, float* parts, u32* counters, int tiles) {
#if __CUDA_ARCH__ >= 800
    extern __shared__ __align__(16) unsigned char memory[];
    constexpr int V = 16 * MT, SHARE = (V + GATES - 1) / GATES;
    int chunks = (b.width + 31) / 32, slot = chunks * tiles * WARP * 8;
    int gate = blockIdx.x % GATES, group = blockIdx.x / GATES, from = group * V, mine = gate * SHARE;
    T* a = reinterpret_cast<T*>(memory);
    float* sums = reinterpret_cast<float*>(a + chunks * MT * 512);
    float *dhs = sums + WARPS * V * (8 * NT + 1), *dcs = dhs + 8 * tiles * SHARE;
    u32* counter = counters + 1 + group;
    keep<T, MT>(a, chunks, [&](int v, int k) {
        bool there = from + v < b.width && k < b.width;
        return there ? b.w[(i64(gate) * b.width + k) * b.width + from + v] : store<T>(0.f);
    });
    if (blockIdx.x == 0)  // beyond the width B is 0
        for (int i = threadIdx.x; i < 2 * GATES * 8 * tiles * (chunks * 32 - b.width); i += THREADS) {
            int which = i % (2 * GATES), rest = i / (2 * GATES);
            exchange[which * slot + place(rest % (8 * tiles), b.width + rest / (8 * tiles), tiles)] = store<T>(0.f);
        }
    for (int s = 0; s <= b.steps; ++s) {
        int t = b.reverse ? s : b.steps - 1 - s;
        T* made = exchange + s % 2 * GATES * slot;
        if (s) wait_for(counter, GATES * s);
        for (int i = threadIdx.x; i < b.rows * SHARE; i += THREADS) {
            int n = i / SHARE, v = mine + i % SHARE, u = from + v;
            if (v >= V || u >= b.width) continue;
            i64 at = i64(n) * b.width + u;
            float dh, dc = 0, d[4];
            if (s) {
                dh = dhs[i];
                if (GATES == 4) dc = dcs[i];
#pragma unroll
                for (int g = 0; g < GATES; ++g) dh += __ldcg(parts + (i64(group * GATES + g) * b.rows + n) * V + v);
            } else {
                dh = b.gh ? load(b.gh[at]) : 0.f;
                if (GATES == 4) dc = b.gc ? load(b.gc[at]) : 0.f;
            }
            if (s == b.steps) {
                if (b.gh0) b.gh0[at] = store<T>(dh);
                if (GATES == 4 && b.gc0) b.gc0[at] = store<T>(dc);
                continue;
            }
            step_backward<T, GATES>(b, t, n, u, d, dh, dc);
#pragma unroll
            for (int g = 0; g < GATES; ++g) made[g * slot + place(n, u, tiles)] = store<T>(d[g]);
            dhs[i] = dh;
            if (GATES == 4) dcs[i] = dc;
        }
        if (s == b.steps) return;
        arrive(counters);
        wait_for(counters, gridDim.x * (s + 1));
        for (int first = 0; first < tiles; first += NT) {
            multiply<T, MT, NT>(sums, a, made + gate * slot + first * WARP * 8, chunks, tiles);
            for (int i = threadIdx.x; i < 8 * NT * V; i += THREADS) {
                int n = first * 8 + i / V, v = i % V;
                if (n < b.rows) parts[(i64(blockIdx.x) * b.rows + n) * V + v] = total<MT, NT>(sums, v, i / V);
            }
            if (first + NT < tiles) __syncthreads();
        }
        arrive(counter);
    }
#endif
}
