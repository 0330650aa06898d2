// Layers of LSTM (Hochreiter and Schmidhuber 1997) and GRU (Cho et al. 2014, with the reset after the product) over T
// steps, forward and backward. B rows, H width; gates lie side by side, in the order i, f, g, o or r, z, n; GATES is 4 or
// 3. What is kept for backward is i, f, g, o or r, z, n and the state's share of n: 4 values a unit.
//
// Two ways. `cell_forward` and `cell_backward` do one step after a product of the library. `recurrent_forward` and
// `recurrent_backward` do all steps in one launch (Diamos et al. 2016): each block keeps its part of the recurrent
// weights in shared memory, and blocks hand each other the states through global memory. There every step has its own
// place, filled with ABSENT before, so that a value tells by itself that it has come: no barrier, no fence. All blocks must
// run at once: there are at most as many as multiprocessors.
#include "mma.cuh"

// As exact as values of type T deserve: right to 1e-6 for 16 bits.
template <typename T, typename A> __device__ __forceinline__ A sigmoid(A x) {
    return sizeof(T) == 2 ? A(__fdividef(1.f, 1.f + __expf(-float(x)))) : A(1) / (A(1) + exp(-x));
}
template <typename T, typename A> __device__ __forceinline__ A hyperbolic(A x) {
    if (sizeof(T) > 2) return tanh(x);
    A square = x * x, large = A(1.f - __fdividef(2.f, 1.f + __expf(2.f * float(x))));
    return square < A(0.01) ? x * (A(1) + square * (square * A(2. / 15) - A(1. / 3))) : large;
}

// An element's step. `a` holds the sums of the gates and then the gates; `t` is the tanh of the new c. Returns h.
template <typename T, typename A> __device__ __forceinline__ A lstm(A (&a)[4], A& c, A& t) {
    a[0] = sigmoid<T>(a[0]), a[1] = sigmoid<T>(a[1]), a[2] = hyperbolic<T>(a[2]), a[3] = sigmoid<T>(a[3]);
    c = a[1] * c + a[0] * a[2];
    t = hyperbolic<T>(c);
    return a[3] * t;
}
template <typename T, typename A>
__device__ __forceinline__ A gru(A (&a)[4], const A (&x)[4], const A (&own)[4], A h) {
    a[0] = sigmoid<T>(x[0] + own[0]), a[1] = sigmoid<T>(x[1] + own[1]), a[3] = own[2];
    a[2] = hyperbolic<T>(x[2] + a[0] * own[2]);
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

// Unit u of row n in a step: what is computed and kept of it.
template <typename A> struct Cell { A a[4], h, c, t, y, old_h, old_c; };

// From the product `own` of the old state and what the inputs give, `x`, to the new state.
template <typename T, int GATES, typename A>
__device__ __forceinline__ Cell<A> step_forward(const Forward<T>& f, int t, int n, int u, A (&own)[4], const A (&x)[4],
                                                A h, A c) {
    Cell<A> cell;
    cell.old_h = h, cell.old_c = cell.c = c, cell.t = 0;
    if (GATES == 4) {
#pragma unroll
        for (int g = 0; g < 4; ++g) cell.a[g] = own[g] + x[g];
        cell.h = lstm<T>(cell.a, cell.c, cell.t);
    } else {
#pragma unroll
        for (int g = 0; g < 3; ++g) own[g] += load(f.b[g * f.width + u]);
        cell.h = gru<T>(cell.a, x, own, h);
    }
    bool live = !f.lengths || t < f.lengths[n];
    cell.y = live ? cell.h : A(0);
    cell.h = live ? load(store<T>(cell.h)) : h;
    if (!live) cell.c = c;
    return cell;
}
template <typename T, int GATES, typename A>
__device__ __forceinline__ void write(const Forward<T>& f, int t, int n, int u, const Cell<A>& cell) {
    i64 row = i64(t) * f.rows + n, at = row * f.width + u;
    if (f.y) f.y[at] = store<T>(cell.y);
    if (f.gates)
#pragma unroll
        for (int g = 0; g < 4; ++g) f.gates[(row * 4 + g) * f.width + u] = store<T>(cell.a[g]);
    if (GATES == 4 && f.cells) f.cells[at] = store<T>(cell.old_c);
    if (GATES == 4 && f.tanhs) f.tanhs[at] = store<T>(cell.t);
    if (f.states) f.states[at] = store<T>(cell.old_h);
}

// What backward reads of a step: c and t of LSTM, h of GRU.
template <typename A> struct Kept { A a[4], c, t, h, gy; };

template <typename T, int GATES, typename A>
__device__ __forceinline__ void read(Kept<A>& kept, const Backward<T>& b, int t, int n, int u) {
    i64 row = i64(t) * b.rows + n, at = row * b.width + u;
#pragma unroll
    for (int g = 0; g < 4; ++g) kept.a[g] = load(b.gates[(row * 4 + g) * b.width + u]);
    if (GATES == 4) kept.c = load(b.cells[at]), kept.t = load(b.tanhs[at]);
    else kept.h = load(b.states[at]);
    kept.gy = b.gy ? load(b.gy[at]) : A(0);
}
// `dh` is what comes to the new state and leaves as what goes past the product to the old one; `d` are the gradients by
// the gates' sums, of GRU d[3] by the state's share of n.
template <typename T, int GATES, typename A>
__device__ __forceinline__ void step_backward(const Backward<T>& b, int t, int n, const Kept<A>& kept, A (&d)[4], A& dh,
                                              A& dc) {
#pragma unroll
    for (int g = 0; g < 4; ++g) d[g] = 0;
    if (b.lengths && t >= b.lengths[n]) return;
    A all = dh + kept.gy;
    dh = 0;
    if (GATES == 4) lstm_back(d, kept.a, kept.c, kept.t, all, dc);
    else dh = gru_back(d, kept.a, kept.h, all);
}
// What the product reads: of GRU the state's share of n in place of n's.
template <int GATES, typename A> __device__ __forceinline__ A own(const A (&d)[4], int g) { return d[GATES == 3 && g == 2 ? 3 : g]; }
template <typename T, int GATES, typename A>
__device__ __forceinline__ void write(const Backward<T>& b, int t, int n, int u, const A (&d)[4]) {
    i64 row = i64(t) * b.rows + n;
#pragma unroll
    for (int g = 0; g < GATES; ++g) {
        if (b.gx) b.gx[(row * GATES + g) * b.width + u] = store<T>(d[g]);
        if (GATES == 3 && b.gown) b.gown[(row * GATES + g) * b.width + u] = store<T>(own<GATES>(d, g));
    }
}

// -- a step after a product ---------------------------------------------------------------------------------------

// From own [B, GATES H], the product of the step's state (at `state`), to the next state (at `next`); running [B, H] is c.
template <typename T, int GATES>
__global__ void __launch_bounds__(256)
cell_forward(Forward<T> f, const typename Compute<T>::type* own, const T* state, T* next,
             typename Compute<T>::type* running, int t, int first, int last) {
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
    if (GATES == 4) c = first ? A(load(f.c0[i])) : running[i];
    Cell<A> cell = step_forward<T, GATES>(f, t, n, u, mine, x, A(load(state[i])), c);
    write<T, GATES>(f, t, n, u, cell);
    next[i] = store<T>(cell.h);
    if (last && f.h) f.h[i] = store<T>(cell.h);
    if (GATES == 4) {
        running[i] = cell.c;
        if (last && f.c) f.c[i] = store<T>(cell.c);
    }
}

// From `sent` [B, H], the product of the later step, and dh and dc [B, H], which go from step to step, to `to` [B, GATES H],
// of which the product is taken. With t = -1 no step is left: dh and dc are the gradients by h0 and c0.
template <typename T, int GATES>
__global__ void __launch_bounds__(256)
cell_backward(Backward<T> b, T* to, const typename Compute<T>::type* sent, typename Compute<T>::type* past,
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
    Kept<A> kept;
    read<T, GATES>(kept, b, t, n, u);
    step_backward<T, GATES>(b, t, n, kept, d, dh, dc);
    write<T, GATES>(b, t, n, u, d);
#pragma unroll
    for (int g = 0; g < GATES; ++g) to[(i64(n) * GATES + g) * b.width + u] = store<T>(own<GATES>(d, g));
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

#if __CUDA_ARCH__ >= 800
// No 16-bit value or float that `store` or an operation gives has all bits set: NaN has 0x7FFF, 0x7FFFFFFF.
constexpr u32 ABSENT = 0xFFFFFFFFu;

__device__ __forceinline__ bool absent(const uint4& v) {  // one half at least of these words
    u32 found = 0, words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) found |= (~words[i] - 0x00010001u) & words[i] & 0x80008000u;
    return found;
}
__device__ __forceinline__ uint4 fetch(const uint4* from) {
    uint4 v;
    asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from) : "memory");
    return v;
}
__device__ __forceinline__ u32 fetch(const float* from) {
    u32 v;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(from) : "memory");
    return v;
}
__device__ __forceinline__ void send(float* to, float x) {
    asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" :: "l"(to), "r"(__float_as_uint(x)) : "memory");
}
template <typename T> __device__ __forceinline__ void send(T* to, float x) {
    T rounded = store<T>(x);
    asm volatile("st.relaxed.gpu.global.u16 [%0], %1;" :: "l"(to), "h"(*reinterpret_cast<u16*>(&rounded)) : "memory");
}

// Where element k of row r of A lies: [chunks][MT][halves of 8 rows][lanes][8].
template <int MT> __device__ __forceinline__ int spot(int r, int k) {
    return (((k / 32 * MT + r / 16) * 2 + r % 16 / 8) * WARP + r % 8 * 4 + k % 32 / 8) * 8 + k % 8;
}
// This block's A from weights: `at(i, j)` is where element j of line i lies, null where there is none (that is 0). Lines are
// rows of A or, TRANSPOSED, columns; N neighbours of a line are read at once.
template <typename T, int MT, int N, bool TRANSPOSED, typename At>
__device__ __forceinline__ void keep(T* a, int lines, int length, At at) {
    int per_line = length / N;
#pragma unroll 8
    for (int i = threadIdx.x; i < lines * per_line; i += THREADS) {
        int line = i / per_line, j = i % per_line * N;
        const T* from = at(line, j);
        Pack<T, N> held;
        if (from) held = *reinterpret_cast<const Pack<T, N>*>(from);
#pragma unroll
        for (int e = 0; e < N; ++e)
            a[TRANSPOSED ? spot<MT>(j + e, line) : spot<MT>(line, j + e)] = from ? held.at[e] : store<T>(0.f);
    }
}

// sums[warp][r][n] of A and NT tiles of B, of which `rows` rows count, for the chunks of each warp; waits for B.
template <typename T, int MT, int NT>
__device__ __forceinline__ void multiply(float* sums, const T* a, const T* b, int chunks, int tiles, int rows) {
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
        auto load = [&](int i, int n) {
            bool there = first + i * WARPS < chunks && n * 8 + lane / 4 < rows;
            held[i][n] = there ? fetch(bs + ((first + i * WARPS) * tiles + n) * WARP + lane) : uint4{0, 0, 0, 0};
        };
        do load(0, 0);  // one value is watched; when it is there, the others are, or nearly so
        while (__any_sync(~0u, absent(held[0][0])));
#pragma unroll
        for (int i = 0; i < AHEAD; ++i)
#pragma unroll
            for (int n = 0; n < NT; ++n)
                if (i || n) load(i, n);
#pragma unroll
        for (int i = 0; i < AHEAD; ++i) {
            int c = first + i * WARPS;
            if (c >= chunks) break;
            while (true) {
                bool missing = false;
#pragma unroll
                for (int n = 0; n < NT; ++n) missing = missing || absent(held[i][n]);
                if (!__any_sync(~0u, missing)) break;
#pragma unroll
                for (int j = i; j < AHEAD; ++j)
#pragma unroll
                    for (int n = 0; n < NT; ++n) load(j, n);
            }
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

// A block owns `units` units and all their gates: row r of A is gate r / units of unit r % units. `exchange` holds the B of
// every step, ABSENT before.
template <typename T, int GATES, int MT, int NT>
__global__ void __launch_bounds__(THREADS) recurrent_forward(Forward<T> f, T* exchange, int units, int tiles) {
#if __CUDA_ARCH__ >= 800
    extern __shared__ __align__(16) unsigned char memory[];
    int chunks = (f.width + 31) / 32, slot = chunks * tiles * WARP * 8, from = blockIdx.x * units;
    T* a = reinterpret_cast<T*>(memory);
    float* sums = reinterpret_cast<float*>(a + chunks * MT * 512);
    float *hs = sums + WARPS * 16 * MT * (8 * NT + 1), *cs = hs + 8 * tiles * units;
    for (int i = threadIdx.x; i < f.rows * units; i += THREADS) {
        int n = i / units, u = from + i % units;
        if (u >= f.width) continue;
        hs[i] = load(f.h0[n * f.width + u]);
        if (GATES == 4) cs[i] = load(f.c0[n * f.width + u]);
        send(exchange + place(n, u, tiles), hs[i]);
    }
    int beyond = 8 * tiles * (chunks * 32 - f.width);  // where B is 0
    for (int i = blockIdx.x * THREADS + threadIdx.x; i < f.steps * beyond; i += gridDim.x * THREADS)
        send(exchange + i64(i / beyond) * slot + place(i % (8 * tiles), f.width + i % beyond / (8 * tiles), tiles), 0.f);
    auto at = [&](int r, int k) {
        int u = from + r % units;
        bool there = r < GATES * units && u < f.width && k < f.width;
        return there ? f.w + (i64(r / units) * f.width + u) * f.width + k : nullptr;
    };
    if (f.width % 4 == 0) keep<T, MT, 4, false>(a, 16 * MT, chunks * 32, at);
    else keep<T, MT, 1, false>(a, 16 * MT, chunks * 32, at);
    __syncthreads();
    for (int s = 0; s < f.steps; ++s) {
        int t = f.reverse ? f.steps - 1 - s : s;
        T *b = exchange + i64(s) * slot, *next = b + slot;
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
            multiply<T, MT, NT>(sums, a, b + group * WARP * 8, chunks, tiles, f.rows - group * 8);
#pragma unroll
            for (int j = 0; j < MOST; ++j) {
                int i = threadIdx.x + j * THREADS, n = group * 8 + i / units, u = from + i % units;
                if (i >= 8 * NT * units || n >= f.rows || u >= f.width) continue;
                float own[4];
#pragma unroll
                for (int g = 0; g < GATES; ++g) own[g] = total<MT, NT>(sums, g * units + i % units, i / units);
                int held = n * units + i % units;
                Cell<float> cell = step_forward<T, GATES>(f, t, n, u, own, x[j], hs[held], GATES == 4 ? cs[held] : 0.f);
                if (s + 1 < f.steps) send(next + place(n, u, tiles), cell.h);
                hs[held] = cell.h;
                if (GATES == 4) cs[held] = cell.c;
                write<T, GATES>(f, t, n, u, cell);
            }
            __syncthreads();
        }
    }
    for (int i = threadIdx.x; i < f.rows * units; i += THREADS) {
        int n = i / units, u = from + i % units;
        if (u >= f.width) continue;
        if (f.h) f.h[n * f.width + u] = store<T>(hs[i]);
        if (GATES == 4 && f.c) f.c[n * f.width + u] = store<T>(cs[i]);
    }
#endif
}

// Blocks come in groups of GATES, a group owns 16 MT units. Each block multiplies the gradients of one gate by that gate's
// weights [H, 16 MT], transposed as A, and writes its part of what is sent to the units' states to `parts` [T, blocks, B,
// 16 MT]; then it sums the parts of its group for its share of the units and does their step. `exchange` holds the B of
// every step and gate, [T, GATES, …]. Both are ABSENT before.
template <typename T, int GATES, int MT, int NT>
__global__ void __launch_bounds__(THREADS) recurrent_backward(Backward<T> b, T* exchange, float* parts, int tiles) {
#if __CUDA_ARCH__ >= 800
    extern __shared__ __align__(16) unsigned char memory[];
    constexpr int V = 16 * MT, SHARE = (V + GATES - 1) / GATES;
    constexpr int MOST = (2 * 8 * NT * SHARE + THREADS - 1) / THREADS;  // of a thread's elements, in up to two turns
    int chunks = (b.width + 31) / 32, slot = chunks * tiles * WARP * 8;
    int gate = blockIdx.x % GATES, group = blockIdx.x / GATES, from = group * V, mine = gate * SHARE;
    T* a = reinterpret_cast<T*>(memory);
    float* sums = reinterpret_cast<float*>(a + chunks * MT * 512);
    float *dhs = sums + WARPS * V * (8 * NT + 1), *dcs = dhs + 8 * tiles * SHARE;
    int beyond = 8 * tiles * (chunks * 32 - b.width);  // where B is 0
    for (int i = blockIdx.x * THREADS + threadIdx.x; i < b.steps * GATES * beyond; i += gridDim.x * THREADS)
        send(exchange + i64(i / beyond) * slot + place(i % (8 * tiles), b.width + i % beyond / (8 * tiles), tiles), 0.f);
    auto at = [&](int k, int v) {
        bool there = from + v < b.width && k < b.width;
        return there ? b.w + (i64(gate) * b.width + k) * b.width + from + v : nullptr;
    };
    if (b.width % 4 == 0) keep<T, MT, 4, true>(a, chunks * 32, V, at);
    else keep<T, MT, 1, true>(a, chunks * 32, V, at);
    __syncthreads();
    for (int s = 0; s <= b.steps; ++s) {
        int t = b.reverse ? s : b.steps - 1 - s;
        T* made = exchange + i64(s) * GATES * slot;
        const float* sent = parts + (i64(s - 1) * gridDim.x + group * GATES) * b.rows * V;
        float* to = parts + (i64(s) * gridDim.x + blockIdx.x) * b.rows * V;
        Kept<float> kept[MOST];
#pragma unroll
        for (int j = 0; j < MOST; ++j) {
            int i = threadIdx.x + j * THREADS, u = from + mine + i % SHARE;
            if (s < b.steps && i < b.rows * SHARE && mine + i % SHARE < V && u < b.width)
                read<T, GATES>(kept[j], b, t, i / SHARE, u);
        }
#pragma unroll
        for (int j = 0; j < MOST; ++j) {
            int i = threadIdx.x + j * THREADS, n = i / SHARE, v = mine + i % SHARE, u = from + v;
            if (i >= b.rows * SHARE || v >= V || u >= b.width) continue;
            i64 at = i64(n) * b.width + u;
            float dh, dc = 0, d[4];
            if (s) {
                u32 part[GATES];
                bool missing;
                do {
                    missing = false;
#pragma unroll
                    for (int g = 0; g < GATES; ++g) part[g] = fetch(sent + (g * b.rows + n) * V + v);
#pragma unroll
                    for (int g = 0; g < GATES; ++g) missing = missing || part[g] == ABSENT;
                } while (missing);
                dh = dhs[i];
                if (GATES == 4) dc = dcs[i];
#pragma unroll
                for (int g = 0; g < GATES; ++g) dh += __uint_as_float(part[g]);
            } else {
                dh = b.gh ? load(b.gh[at]) : 0.f;
                if (GATES == 4) dc = b.gc ? load(b.gc[at]) : 0.f;
            }
            if (s == b.steps) {
                if (b.gh0) b.gh0[at] = store<T>(dh);
                if (GATES == 4 && b.gc0) b.gc0[at] = store<T>(dc);
                continue;
            }
            step_backward<T, GATES>(b, t, n, kept[j], d, dh, dc);
#pragma unroll
            for (int g = 0; g < GATES; ++g) send(made + g * slot + place(n, u, tiles), own<GATES>(d, g));
            dhs[i] = dh;
            if (GATES == 4) dcs[i] = dc;
            write<T, GATES>(b, t, n, u, d);
        }
        if (s == b.steps || (s == b.steps - 1 && !b.gh0 && !b.gc0)) return;
        for (int first = 0; first < tiles; first += NT) {
            multiply<T, MT, NT>(sums, a, made + gate * slot + first * WARP * 8, chunks, tiles, b.rows - first * 8);
            for (int i = threadIdx.x; i < 8 * NT * V; i += THREADS) {
                int n = first * 8 + i / V, v = i % V;
                if (n < b.rows) send(to + n * V + v, total<MT, NT>(sums, v, i / V));
            }
            __syncthreads();
        }
    }
#endif
}
