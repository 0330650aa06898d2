// AdamW (Loshchilov and Hutter 2019) and the sum of squares that clips its gradients, over several tensors at once. A
// block owns a chunk of one of them.
#include "common.cuh"

constexpr int BLOCK = 256;
constexpr int CHUNK = 8192;
constexpr int TENSORS = 40;  // what the space for a kernel's parameters has room for

struct Updates {
    float *p_new[TENSORS], *m_new[TENSORS], *v_new[TENSORS];
    void* copy[TENSORS];  // p in 16 bits; null: none
    const float *p[TENSORS], *g[TENSORS], *m[TENSORS], *v[TENSORS];
    i64 size[TENSORS];
    float decay[TENSORS];
    int first[TENSORS];
};

template <typename C>
__global__ void __launch_bounds__(BLOCK)
adamw(const __grid_constant__ Updates all, const float* lr, const float* step, const float* scale, double beta1,
      double beta2, float eps) {
    // 1 - beta^step loses digits in float32 for small steps.
    __shared__ float rate, factor, root, s;
    if (threadIdx.x == 0) {
        double first = 1.0 - pow(beta1, double(*step)), second = 1.0 - pow(beta2, double(*step));
        rate = *lr;
        factor = first ? float(double(rate) / first) : INF;
        root = second ? float(1.0 / sqrt(second)) : INF;
        s = *scale;
    }
    __syncthreads();
    bool good = isfinite(s);
    float keep1 = beta1, keep2 = beta2, rest1 = 1.0 - beta1, rest2 = 1.0 - beta2;
    int t = owner(all.first, blockIdx.x);
    i64 start = i64(blockIdx.x - all.first[t]) * CHUNK, end = min(start + CHUNK, all.size[t]);
    float shrink = 1.f - rate * all.decay[t];
    C* copy = reinterpret_cast<C*>(all.copy[t]);
#pragma unroll 4
    for (i64 i = start + threadIdx.x; i < end; i += BLOCK) {
        float value = all.p[t][i], first = all.m[t][i], second = all.v[t][i];
        if (good) {
            float grad = all.g[t][i] * s;
            first = first * keep1 + grad * rest1;
            second = second * keep2 + grad * grad * rest2;
            value = value * shrink - factor * first / (root * sqrtf(second) + eps);
        }
        if (all.p_new[t]) all.p_new[t][i] = value;
        if (all.m_new[t]) all.m_new[t][i] = first;
        if (all.v_new[t]) all.v_new[t][i] = second;
        if (copy) copy[i] = store<C>(value);
    }
}

constexpr int SQUARES = 160;
struct Several {
    const void* at[SQUARES];
    i64 size[SQUARES];
    int first[SQUARES];
};

// Sums of squares, one for each block, in float64.
template <typename T>
__global__ void __launch_bounds__(BLOCK) squares(double* parts, const __grid_constant__ Several xs) {
    __shared__ double room[BLOCK / WARP];
    int t = owner(xs.first, blockIdx.x);
    const T* x = reinterpret_cast<const T*>(xs.at[t]);
    i64 start = i64(blockIdx.x - xs.first[t]) * CHUNK, end = min(start + CHUNK, xs.size[t]);
    double sum = 0;
#pragma unroll 4
    for (i64 i = start + threadIdx.x; i < end; i += BLOCK) {
        double v = load(x[i]);
        sum += v * v;
    }
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}
__global__ void __launch_bounds__(1024) root_of_sum(float* norm, const double* parts, int count) {
    __shared__ double room[1024 / WARP];
    double sum = 0;
#pragma unroll 4
    for (int i = threadIdx.x; i < count; i += 1024) sum += parts[i];
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) *norm = sqrt(sum);
}
