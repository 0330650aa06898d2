// Rows read and written by an index that lies on the device. x is seen as [outer, size, inner]; values are only moved,
// so T stands for their width.
#include "common.cuh"

template <typename T, typename I>
__global__ void take(T* out, const T* x, const I* index, int* flag, i64 total, i64 count, i64 size, i64 inner) {
    for (i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += i64(gridDim.x) * blockDim.x) {
        i64 row = i / inner, outer = row / count, at = i64(index[row - outer * count]);
        if (at < 0) at += size;
        bool inside = at >= 0 && at < size;
        if (!inside) *flag = 1;
        out[i] = inside ? x[(outer * size + at) * inner + i - row * inner] : T(0);
    }
}

// x [outer, count, inner] written into cache [outer, size, inner] from *index on. The elements of x are pieces of `piece`
// elements, of which `pieces` lie `step` apart, and groups of these `leap` apart.
template <typename T, typename I>
__global__ void update_slice(T* cache, const T* x, const I* index, int* flag, i64 total, i64 count, i64 size, i64 inner,
                             i64 piece, i64 pieces, i64 step, i64 leap) {
    i64 start = i64(*index);
    if (start < 0 || start + count > size) {
        if (!blockIdx.x && !threadIdx.x) *flag = 1;
        return;
    }
    for (i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += i64(gridDim.x) * blockDim.x) {
        i64 row = i / inner, outer = row / count, at = start + row - outer * count;
        i64 number = i / piece, group = number / pieces;
        cache[(outer * size + at) * inner + i - row * inner] =
            x[group * leap + (number - group * pieces) * step + i - number * piece];
    }
}

// x [outer, size, inner] at index [outer, count, inner]: out[o, c, i] = x[o, index[o, c, i], i].
template <typename T, typename I>
__global__ void gather(T* out, const T* x, const I* index, int* flag, i64 total, i64 count, i64 size, i64 inner) {
    for (i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += i64(gridDim.x) * blockDim.x) {
        i64 outer = i / (count * inner), at = i64(index[i]);
        if (at < 0) at += size;
        bool inside = at >= 0 && at < size;
        if (!inside) *flag = 1;
        out[i] = inside ? x[(outer * size + at) * inner + i % inner] : T(0);
    }
}

// Its gradient: g added at the positions read. A thread has the `total` = outer × inner columns and goes over the count,
// so that the order is always the same.
template <typename T, typename I>
__global__ void gather_grad(T* out, const T* g, const I* index, int* flag, i64 total, i64 count, i64 size, i64 inner) {
    for (i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += i64(gridDim.x) * blockDim.x) {
        i64 outer = i / inner, lane = i % inner;
        T* column = out + outer * size * inner + lane;
        for (i64 k = 0; k < size; ++k) column[k * inner] = store<T>(0.0f);
        for (i64 c = 0; c < count; ++c) {
            i64 from = (outer * count + c) * inner + lane, at = i64(index[from]);
            if (at < 0) at += size;
            if (at >= 0 && at < size) column[at * inner] = store<T>(load(column[at * inner]) + load(g[from]));
            else *flag = 1;
        }
    }
}
