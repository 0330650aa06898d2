// One step of greedy or beam search: a warp a sentence. The rules are those of search.py, comparison by comparison, so
// that the same logits give the same tokens and scores to the bit.
//
// K beams (at most 32), W candidates a beam (1: greedy), N hypotheses kept.
#include "common.cuh"

constexpr int MOST = 32;

__device__ __forceinline__ bool finite(float x) { return fabsf(x) < INF; }

struct Lists {
    float best[MOST][3];  // score, sum of log-probabilities, log-probability of the end token; falling scores
    int places[MOST][3];  // tokens, the beam it extends, whether an end token ended it
};

// Put a hypothesis behind all from `first` on that score as much or more; the last one leaves.
__device__ __forceinline__ void insert(Lists& lists, int kept, int first, float score, float sum, float last, int length,
                                       int beam, int ended) {
    int at = kept;
    while (at > first && !(lists.best[at - 1][0] >= score)) --at;
    if (at == kept) return;
    for (int n = kept - 1; n > at; --n)
        for (int f = 0; f < 3; ++f) {
            lists.best[n][f] = lists.best[n - 1][f];
            lists.places[n][f] = lists.places[n - 1][f];
        }
    float numbers[3] = {score, sum, last};
    int places[3] = {length, beam, ended};
    for (int f = 0; f < 3; ++f) {
        lists.best[at][f] = numbers[f];
        lists.places[at][f] = places[f];
    }
}

__global__ void __launch_bounds__(WARP)
advance(int* tokens, int* parents, float* log_probs, float* live_out, float* best_out, int* places_out, int* flags_out,
        const float* values, const int* columns, const float* norms, const float* live, const float* best, const int* places,
        const int* flags, const int* limits, const float* penalties, const int* position, int beams, int wide, int kept,
        int eos, int early) {
    __shared__ Lists lists;
    __shared__ float sums[2 * MOST], logs[2 * MOST];
    __shared__ int words[2 * MOST], froms[2 * MOST];
    int sentence = blockIdx.x, lane = threadIdx.x;
    i64 row = i64(sentence) * beams + lane;
    bool greedy = wide == 1;
    for (int i = lane; i < 3 * kept; i += WARP) {
        lists.best[i / 3][i % 3] = best[i64(sentence) * 3 * kept + i];
        lists.places[i / 3][i % 3] = places[i64(sentence) * 3 * kept + i];
    }

    // The best 2K continuations in order: each lane has a beam, whose candidates come best first already.
    float norm = lane < beams ? norms[row] : 0.0f, sum = lane < beams ? live[row] : 0.0f;
    bool broken = __any_sync(~0u, !finite(norm));
    int next = 0, count = min(2 * beams, beams * wide);
    for (int n = 0; n < count; ++n) {
        bool has = lane < beams && next < wide;
        float log = has ? fminf(values[row * wide + next] - norm, 0.0f) : 0.0f;
        float mine = sum + log, top = mine;
        int from = has ? lane : WARP;
        for (int o = WARP / 2; o; o /= 2) {
            float other = __shfl_xor_sync(~0u, top, o);
            int whose = __shfl_xor_sync(~0u, from, o);
            if (whose < WARP && (from == WARP || other > top || (other == top && whose < from))) {
                top = other;
                from = whose;
            }
        }
        if (lane == from) {
            sums[n] = mine;
            logs[n] = log;
            words[n] = columns[row * wide + next];
            froms[n] = lane;
            ++next;
        }
    }
    __syncwarp();
    if (lane) return;

    int done = flags[2 * sentence], fault = flags[2 * sentence + 1], length = *position + 1, limit = limits[sentence];
    if (!done && broken && !fault) fault = length;
    if (!done)
        for (int n = 0; n < min(beams, count); ++n)
            if (words[n] == eos && sums[n] > -INF)
                insert(lists, kept, 0, sums[n] / penalties[length], sums[n], logs[n], length, froms[n], 1);

    // The first K that go on live (were there fewer, then those that ended, as dead ones).
    float most = -INF, lives[MOST];
    int filled = 0;
    for (int ended = 0; ended < 2; ++ended)
        for (int n = 0; n < count && filled < beams; ++n) {
            if (!greedy && (words[n] == eos) != (ended == 1)) continue;
            lives[filled] = ended ? -INF : sums[n];
            most = fmaxf(most, lives[filled]);
            i64 to = i64(sentence) * beams + filled++;
            tokens[to] = words[n];
            parents[to] = sentence * beams + froms[n];
            log_probs[to] = logs[n];
        }
    if (greedy && words[0] == eos) done = 1;

    if (!done && limit <= length) {  // what still lives fills the places that are free
        int first = 0;
        while (first < kept && finite(lists.best[first][0])) ++first;
        for (int k = 0; k < beams; ++k)
            if (lives[k] > -INF) insert(lists, kept, first, lives[k] / penalties[length], lives[k], 0.0f, length, k, 0);
        done = 1;
    }
    if (most == -INF) done = 1;
    if (early && most / fmaxf(penalties[min(length + 1, limit)], penalties[limit]) <= lists.best[kept - 1][0]) done = 1;

    for (int k = 0; k < beams; ++k) live_out[i64(sentence) * beams + k] = lives[k];
    for (int i = 0; i < 3 * kept; ++i) {
        best_out[i64(sentence) * 3 * kept + i] = lists.best[i / 3][i % 3];
        places_out[i64(sentence) * 3 * kept + i] = lists.places[i / 3][i % 3];
    }
    flags_out[2 * sentence] = done;
    flags_out[2 * sentence + 1] = fault;
}
