// Sums of values by index, each element of the result by one thread in the order of the indices: the same bits in every
// run. Arrays are seen as [outer, size, inner] and [outer, count, inner].
#include "common.cuh"

// out[o, r, i] = x[o, r, i] (0 without x) + the sum of g[o, k, i] whose index is r: ids[k], or with OWN ids[o, k, i].
template <typename T, typename I, bool OWN>
__global__ void __launch_bounds__(256)
scatter(T* out, const T* x, const T* g, const I* ids, int* bad, i64 total, int size, int count, i64 inner) {
    i64 at = i64(blockIdx.x) * 256 + threadIdx.x;
    if (at >= total) return;
    i64 above = at / inner, i = at - above * inner, o = above / size;
    int row = above - o * size;
    typename Compute<T>::type sum = x ? load(x[at]) : 0;
    for (int k = 0; k < count; ++k) {
        i64 place = (o * count + k) * inner + i, id = ids[OWN ? place : k];
        if (row == 0 && (id < -size || id >= size)) *bad = 1;
        if (id == row || id + size == row) sum += load(g[place]);
    }
    out[at] = store<T>(sum);
}
