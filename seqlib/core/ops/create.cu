// Arrays made from nothing.
#include "common.cuh"

// start + step i, in float64 (or int64 for integers), then in the array's type.
template <typename T, typename A> __global__ void iota(T* y, A start, A step, i64 size) {
    i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < size) y[i] = T(start + step * A(i));
}
