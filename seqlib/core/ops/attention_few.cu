// Attention of few queries (at most 16 a sentence: beams, or the one row of a decoding step) over padded keys: a block of
// 128 threads for a sentence and a head. Scores of all keys lie in shared memory.
#include "common.cuh"

constexpr int THREADS = 128, WARPS = THREADS / WARP;

struct Shape {
    int queries, keys, heads, key_heads;
    i64 q_stride, k_stride, v_stride;           // from row to row
    i64 bias_sentence, bias_head, bias_query, bias_key, length_stride;
    float scale;
};

template <typename T, int WIDTH>
__global__ void __launch_bounds__(THREADS)
attention_few(T* y, const T* q, const T* k, const T* v, const T* bias, const int* lengths, Shape shape) {
    constexpr int LANES = Wide<T>::lanes, EACH = WIDTH / WARP;  // of a 16-byte load; columns of y a lane
    typedef typename Wide<T>::type Loaded;
    extern __shared__ float room[];
    int queries = shape.queries, sentence = blockIdx.x, head = blockIdx.y, key_head = head / (shape.heads / shape.key_heads);
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    int seen = lengths ? min(max(lengths[sentence * shape.length_stride], 0), shape.keys) : shape.keys;
    float* asked = room;                       // [queries][WIDTH]
    float* scores = asked + queries * WIDTH;   // [queries][keys]
    float* parts = scores + queries * shape.keys;  // [WARPS][queries][WIDTH]
    for (int i = threadIdx.x; i < queries * WIDTH; i += THREADS)
        asked[i] = load(q[(i64(sentence) * queries + i / WIDTH) * shape.q_stride + head * WIDTH + i % WIDTH]) * shape.scale;
    __syncthreads();

    for (int key = threadIdx.x; key < seen; key += THREADS) {
        const T* row = k + (i64(sentence) * shape.keys + key) * shape.k_stride + key_head * WIDTH;
        float held[WIDTH];
#pragma unroll
        for (int c = 0; c < WIDTH; c += LANES) {
            Loaded part = *reinterpret_cast<const Loaded*>(row + c);
#pragma unroll
            for (int n = 0; n < LANES; ++n) held[c + n] = load(part.at[n]);
        }
        for (int r = 0; r < queries; ++r) {
            float score = 0.0f;
#pragma unroll
            for (int c = 0; c < WIDTH; ++c) score = fmaf(asked[r * WIDTH + c], held[c], score);
            if (bias)
                score += load(bias[sentence * shape.bias_sentence + head * shape.bias_head + r * shape.bias_query +
                                   key * shape.bias_key]);
            scores[r * shape.keys + key] = score;
        }
    }
    __syncthreads();

    for (int r = warp; r < queries; r += WARPS) {
        float* own = scores + r * shape.keys;
        float top = -INF, sum = 0.0f;
        for (int key = lane; key < seen; key += WARP) top = fmaxf(top, own[key]);
        top = warp_max(top);
        float shift = top == -INF ? 0.0f : top;  // it sees no key: zeros
        for (int key = lane; key < seen; key += WARP) sum += own[key] = exp_for<T>(own[key] - shift);
        sum = warp_sum(sum);
        float factor = sum > 0.0f ? 1.0f / sum : 0.0f;
        for (int key = lane; key < seen; key += WARP) own[key] *= factor;
    }
    __syncthreads();

    for (int r = 0; r < queries; ++r) {
        float sums[EACH] = {};
        for (int key = warp; key < seen; key += WARPS) {
            float weight = scores[r * shape.keys + key];
            if (weight == 0.0f) continue;  // most keys are other beams'
            const T* row = v + (i64(sentence) * shape.keys + key) * shape.v_stride + key_head * WIDTH + lane * EACH;
            Pack<T, EACH> part = *reinterpret_cast<const Pack<T, EACH>*>(row);
#pragma unroll
            for (int n = 0; n < EACH; ++n) sums[n] = fmaf(weight, load(part.at[n]), sums[n]);
        }
#pragma unroll
        for (int n = 0; n < EACH; ++n) parts[(warp * queries + r) * WIDTH + lane * EACH + n] = sums[n];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < queries * WIDTH; i += THREADS) {
        float sum = 0.0f;
        for (int w = 0; w < WARPS; ++w) sum += parts[w * queries * WIDTH + i];
        y[((i64(sentence) * queries + i / WIDTH) * shape.heads + head) * WIDTH + i % WIDTH] = store<T>(sum);
    }
}
