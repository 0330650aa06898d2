// AdamW (Loshchilov and Hutter 2019) and the sum of squares that clips its gradients.
#include "common.cuh"

// One update of one parameter, and, where there is one, its copy in 16 bits.
template <typename C>
__global__ void adamw(float* p_new, float* m_new, float* v_new, C* copy, const float* p, const float* g, const float* m,
                      const float* v, const float* lr, const float* step, const float* scale, i64 size, double beta1,
                      double beta2, float eps, float decay) {
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
    for (i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x; i < size; i += i64(gridDim.x) * blockDim.x) {
        float value = p[i], first = m[i], second = v[i];
        if (good) {
            float grad = g[i] * s;
            first = first * keep1 + grad * rest1;
            second = second * keep2 + grad * grad * rest2;
            value = value * (1.f - rate * decay) - factor * first / (root * sqrtf(second) + eps);
        }
        if (p_new) p_new[i] = value;
        if (m_new) m_new[i] = first;
        if (v_new) v_new[i] = second;
        if (copy) copy[i] = store<C>(value);
    }
}

constexpr int BLOCK = 512;

// Sums of squares of up to 64 tensors: parts[tensor, block], each in float64.
struct Several { const void* at[64]; i64 size[64]; };
template <typename T>
__global__ void __launch_bounds__(BLOCK) squares(double* parts, Several xs) {
    __shared__ double room[BLOCK / WARP];
    const T* x = reinterpret_cast<const T*>(xs.at[blockIdx.y]);
    i64 size = xs.size[blockIdx.y];
    double sum = 0;
    for (i64 i = i64(blockIdx.x) * BLOCK + threadIdx.x; i < size; i += i64(gridDim.x) * BLOCK) {
        double v = load(x[i]);
        sum += v * v;
    }
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) parts[i64(blockIdx.y) * gridDim.x + blockIdx.x] = sum;
}
__global__ void __launch_bounds__(BLOCK) root_of_sum(float* norm, const double* parts, int count) {
    __shared__ double room[BLOCK / WARP];
    double sum = 0;
    for (int i = threadIdx.x; i < count; i += BLOCK) sum += parts[i];
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) *norm = sqrt(sum);
}
