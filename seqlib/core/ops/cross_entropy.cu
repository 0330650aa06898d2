// Cross entropy of logits with label smoothing and ignored targets, a block a row. The row's losses are summed by a
// second kernel in a fixed order. With a gradient, (softmax - (1 - s) onehot - s / V) is written over the logits; HELD
// keeps the row in shared memory in between, so that it is read once.
#include "common.cuh"

constexpr int BLOCK = 512;
enum { LOSS, GRADIENT, HELD };

// `whole` of a row's classes are moved 16 bytes at a time, the rest one by one.
template <typename T, typename I, int KIND>
__global__ void __launch_bounds__(BLOCK)
cross_entropy_rows(T* logits, float* losses, float* lses, const I* targets, int* bad, int classes, int whole,
                   i64 pitch, float smoothing, i64 ignore) {
    constexpr int N = 16 / sizeof(T), AHEAD = 4, STEP = BLOCK * N;
    typedef Pack<T, N> P;
    extern __shared__ __align__(16) unsigned char held[];
    __shared__ float room[BLOCK / WARP];
    i64 row = blockIdx.x, target = targets[row];
    T* at = logits + row * pitch;
    bool counted = target != ignore;
    if (counted && (target < 0 || target >= classes)) {
        if (threadIdx.x == 0) *bad = 1;
        counted = false;
    }
    if (!counted && KIND != LOSS) {
        for (int c = threadIdx.x; c < classes; c += BLOCK) at[c] = T(0.f);
        if (threadIdx.x == 0) losses[row] = 0.f;
        return;
    }
    float hit = counted ? load(at[target]) : 0.f;  // before it is overwritten: there are barriers in between
    float top = -INF, total = 0.f, sum = 0.f;
    auto meet = [&](const float* v, int n) {
        float high = top;
        for (int j = 0; j < n; ++j) high = fmaxf(high, v[j]);
        if (high > top) {
            total *= exp_for<T>(top - high);
            top = high;
        }
        for (int j = 0; j < n; ++j) {
            sum += v[j];
            total += v[j] == -INF ? 0.f : exp_for<T>(v[j] - top);
        }
    };
    for (int start = threadIdx.x * N; start < whole; start += STEP * AHEAD) {
        P some[AHEAD];  // all asked for before any is used
#pragma unroll
        for (int i = 0; i < AHEAD; ++i)
            if (start + i * STEP < whole) some[i] = *reinterpret_cast<const P*>(at + start + i * STEP);
#pragma unroll
        for (int i = 0; i < AHEAD; ++i) {
            int c = start + i * STEP;
            if (c >= whole) continue;
            if (KIND == HELD) *reinterpret_cast<P*>(held + c * sizeof(T)) = some[i];
            float v[N];
#pragma unroll
            for (int j = 0; j < N; ++j) v[j] = load(some[i].at[j]);
            meet(v, N);
        }
    }
    for (int c = whole + threadIdx.x; c < classes; c += BLOCK) {
        float v = load(at[c]);
        meet(&v, 1);
    }
    float highest = block_max(top, room);
    total = block_sum(top == -INF ? total : total * exp_for<T>(top - highest), room);
    sum = smoothing ? block_sum(sum, room) : 0.f;
    float lse = highest + log_for<T>(total);
    if (threadIdx.x == 0) {
        losses[row] = counted ? lse - (1.f - smoothing) * hit - (smoothing ? smoothing * sum / classes : 0.f) : 0.f;
        if (lses) lses[row] = lse;
    }
    if (KIND == LOSS) return;
    float even = smoothing / classes;
    auto slope = [&](float v, int c) { return exp_for<T>(v - lse) - even - (c == target ? 1.f - smoothing : 0.f); };
    for (int start = threadIdx.x * N; start < whole; start += STEP * AHEAD) {
        P some[AHEAD];
#pragma unroll
        for (int i = 0; i < AHEAD; ++i) {
            int c = start + i * STEP;
            if (c >= whole) continue;
            some[i] = KIND == HELD ? *reinterpret_cast<const P*>(held + c * sizeof(T)) : *reinterpret_cast<const P*>(at + c);
        }
#pragma unroll
        for (int i = 0; i < AHEAD; ++i) {
            int c = start + i * STEP;
            if (c >= whole) continue;
#pragma unroll
            for (int j = 0; j < N; ++j) some[i].at[j] = store<T>(slope(load(some[i].at[j]), c + j));
            *reinterpret_cast<P*>(at + c) = some[i];
        }
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
