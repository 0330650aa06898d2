// The scores of additive attention (Bahdanau et al. 2015) and their gradients, without an array of all hidden units
// tanh(q + k). B batch, T queries, S keys, A units.
#include "common.cuh"

// y[b, t, s] = Σ_a v_a tanh(q[b, t, a] + k[b, s, a]): a block for a query, a warp for a key.
template <typename T>
__global__ void __launch_bounds__(256) additive_scores(T* y, const T* q, const T* k, const T* v, int queries, int keys, int units) {
    typedef typename Compute<T>::type A;
    i64 row = blockIdx.x;
    int lane = threadIdx.x % WARP;
    for (int s = threadIdx.x / WARP; s < keys; s += 8) {
        const T *mine = q + row * units, *other = k + (row / queries * keys + s) * units;
        A sum = 0;
        for (int a = lane; a < units; a += WARP) sum += load(v[a]) * tanh(A(load(mine[a]) + load(other[a])));
        sum = warp_sum(sum);
        if (lane == 0) y[row * keys + s] = store<T>(sum);
    }
}

// With d = g v (1 - h²): gq = Σ d over keys, and the sums of g h over keys for gv, parts [B T, A] (or gk = Σ d over queries
// where KEYS). A thread has one unit of a query (of a key) and goes over the keys (queries).
template <typename T, bool KEYS>
__global__ void __launch_bounds__(128)
additive_back(T* out, typename Compute<T>::type* parts, const T* g, const T* q, const T* k, const T* v, int queries,
              int keys, int units) {
    typedef typename Compute<T>::type A;
    int a = blockIdx.y * blockDim.x + threadIdx.x;
    i64 row = blockIdx.x, own = KEYS ? keys : queries, b = row / own, at = row % own;
    if (a >= units) return;
    A mine = load((KEYS ? k : q)[row * units + a]), value = load(v[a]), sum = 0, total = 0;
    for (int i = 0; i < (KEYS ? queries : keys); ++i) {
        A h = tanh(mine + A(load(KEYS ? q[(b * queries + i) * units + a] : k[(b * keys + i) * units + a])));
        A from = load(g[KEYS ? (b * queries + i) * keys + at : row * keys + i]);
        sum += from * value * (A(1) - h * h);
        total += from * h;
    }
    if (out) out[row * units + a] = store<T>(sum);
    if (!KEYS) parts[row * units + a] = total;
}

// gv from the parts [rows, A], in a fixed order: 32 threads a unit take every 32nd row.
template <typename T>
__global__ void __launch_bounds__(1024) additive_sums(T* gv, const typename Compute<T>::type* parts, int rows, int units) {
    typedef typename Compute<T>::type A;
    __shared__ A room[WARP][WARP + 1];
    int a = blockIdx.x * WARP + threadIdx.x;
    A sum = 0;
    if (a < units)
        for (int i = threadIdx.y; i < rows; i += WARP) sum += parts[i64(i) * units + a];
    room[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    sum = warp_sum(room[threadIdx.x][threadIdx.y]);
    a = blockIdx.x * WARP + threadIdx.y;
    if (threadIdx.x == 0 && a < units) gv[a] = store<T>(sum);
}
