// Cross entropy of logits with label smoothing and ignored targets, a block a row. The row's losses are summed by a
// second kernel in a fixed order. `gradient` writes (softmax - (1 - s) onehot - s / V) over the logits.
#include "common.cuh"

constexpr int BLOCK = 512;

template <typename T, typename I, bool GRADIENT>
__global__ void __launch_bounds__(BLOCK)
cross_entropy_rows(T* logits, float* losses, float* lses, const I* targets, int* bad, int classes, i64 pitch,
                   float smoothing, i64 ignore) {
    constexpr int N = 16 / sizeof(T);
    __shared__ float room[BLOCK / WARP];
    i64 row = blockIdx.x, target = targets[row];
    T* at = logits + row * pitch;
    bool counted = target != ignore;
    if (counted && (target < 0 || target >= classes)) {
        if (threadIdx.x == 0) *bad = 1;
        counted = false;
    }
    typedef Pack<T, N> P;
    bool wide = classes % N == 0 && pitch % N == 0;
    int whole = wide ? classes : 0;  // what is read 16 bytes at a time
    if (!counted && GRADIENT) {
        for (int c = threadIdx.x; c < classes; c += BLOCK) at[c] = T(0.f);
        if (threadIdx.x == 0) losses[row] = 0.f;
        return;
    }
    float top = -INF, total = 0.f, sum = 0.f;
    auto meet = [&](float v) {
        sum += v;
        if (v > top) {
            total = total * exp_for<T>(top - v) + 1.f;
            top = v;
        } else
            total += v == -INF ? 0.f : exp_for<T>(v - top);
    };
    for (int c = threadIdx.x * N; c < whole; c += BLOCK * N) {
        P p = *reinterpret_cast<const P*>(at + c);
#pragma unroll
        for (int j = 0; j < N; ++j) meet(load(p.at[j]));
    }
    for (int c = whole + threadIdx.x; c < classes; c += BLOCK) meet(load(at[c]));
    float highest = block_max(top, room);
    total = block_sum(top == -INF ? 0.f : total * exp_for<T>(top - highest), room);
    sum = smoothing ? block_sum(sum, room) : 0.f;
    float lse = highest + log_for<T>(total);
    float hit = counted ? load(at[target]) : 0.f;
    __syncthreads();  // the target's logit is read before it is overwritten
    if (threadIdx.x == 0) {
        losses[row] = counted ? lse - (1.f - smoothing) * hit - (smoothing ? smoothing * sum / classes : 0.f) : 0.f;
        if (lses) lses[row] = lse;
    }
    if (!GRADIENT) return;
    float even = smoothing / classes;
    auto slope = [&](float v, int c) { return exp_for<T>(v - lse) - even - (c == target ? 1.f - smoothing : 0.f); };
    for (int c = threadIdx.x * N; c < whole; c += BLOCK * N) {
        P p = *reinterpret_cast<const P*>(at + c);
#pragma unroll
        for (int j = 0; j < N; ++j) p.at[j] = store<T>(slope(load(p.at[j]), c + j));
        *reinterpret_cast<P*>(at + c) = p;
    }
    for (int c = whole + threadIdx.x; c < classes; c += BLOCK) at[c] = store<T>(slope(load(at[c]), c));
}

// The sum of the losses, in float64 and in a fixed order, and how many targets count: one block.
template <typename I>
__global__ void __launch_bounds__(BLOCK)
cross_entropy_total(float* loss, float* weight, const float* losses, const I* targets, int rows, i64 ignore) {
    __shared__ double room[BLOCK / WARP];
    double sum = 0, count = 0;
    for (int i = threadIdx.x; i < rows; i += BLOCK) {
        sum += losses[i];
        count += targets[i] != ignore;
    }
    sum = block_sum(sum, room);
    count = block_sum(count, room);
    if (threadIdx.x == 0) {
        if (loss) *loss = sum;
        if (weight) *weight = count;
    }
}
