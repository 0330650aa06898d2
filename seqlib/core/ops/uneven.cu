// Copies of matrices into rows of another width: products are fast where rows are whole multiples of 16 bytes.
#include "common.cuh"

// to [rows, width], contiguous, from rows `lead` apart; 0 beyond the first `height` rows and `limit` columns. N neighbours
// a thread.
template <typename T, int N>
__global__ void __launch_bounds__(256)
copy_rows(T* to, const T* from, i64 chunks, int per_row, int lead, int height, int limit) {
    i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= chunks) return;
    i64 row = i / per_row;
    int column = int(i - row * per_row) * N;
    Pack<T, N> p;
#pragma unroll
    for (int j = 0; j < N; ++j) p.at[j] = T(0);
    if (row < height && column < limit) p = *reinterpret_cast<const Pack<T, N>*>(from + row * lead + column);
    *reinterpret_cast<Pack<T, N>*>(to + i * N) = p;
}
