// Draws from softmax(logits) of rows [classes]: a block for a row inverts the cumulative distribution, in float64.
#include "common.cuh"

// A thread has a stretch of classes. Draw i uses words 2 i and 2 i + 1 of a draw of the generator.
template <typename T>
__global__ void __launch_bounds__(256)
multinomial(int* y, const T* logits, const i64* state, i64 draw, int classes, int samples) {
    __shared__ double sums[257], room[8];
    __shared__ int found, last;
    const T* row = logits + i64(blockIdx.x) * classes;
    double top = -INF, sum = 0;
    for (int c = threadIdx.x; c < classes; c += 256) top = max(top, double(load(row[c])));
    top = block_max(top, room);
    int first = i64(classes) * threadIdx.x / 256, end = i64(classes) * (threadIdx.x + 1) / 256;
    if (threadIdx.x == 0) last = 0;
    __syncthreads();
    for (int c = first; c < end; ++c) {
        double p = exp(double(load(row[c])) - top);
        sum += p;
        if (p > 0) atomicMax(&last, c);
    }
    sums[threadIdx.x + 1] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        sums[0] = 0;
        for (int i = 1; i <= 256; ++i) sums[i] += sums[i - 1];
    }
    __syncthreads();
    for (int s = 0; s < samples; ++s) {
        u64 word = (u64(blockIdx.x) * samples + s) * 2;
        Words w = philox(u64(state[0]), u64(state[1]) + u64(draw), word / 4);
        u64 high = w.at[word % 4], low = w.at[word % 4 + 1];
        double goal = double(high << 21 | low >> 11) * 0x1p-53 * sums[256];
        if (threadIdx.x == 0) found = last;
        __syncthreads();
        if (goal >= sums[threadIdx.x] && goal < sums[threadIdx.x + 1]) {
            double at = sums[threadIdx.x];
            int drawn = first;  // the first class whose sum is beyond the goal, at least one that has a probability
            for (int c = first; c < end && at <= goal; ++c) {
                double p = exp(double(load(row[c])) - top);
                at += p;
                if (p > 0) drawn = c;
            }
            atomicMin(&found, drawn);
        }
        __syncthreads();
        if (threadIdx.x == 0) y[i64(blockIdx.x) * samples + s] = found;
        __syncthreads();
    }
}
