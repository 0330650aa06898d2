// Dropout: 8 values a thread, whose 16-bit draws come from one block of Philox. Where `relu` is given, what it has at 0 is
// dropped, too.
#include "common.cuh"

template <typename T>
__global__ void dropout(T* y, const T* x, const i64* state, const T* relu, i64 draw, i64 size, u32 threshold, double keep) {
    i64 first = (i64(blockIdx.x) * blockDim.x + threadIdx.x) * 8;
    if (first >= size) return;
    typedef typename Compute<T>::type A;
    Words w = philox(u64(state[0]), u64(state[1]) + u64(draw), u64(first) / 8);
    if (first + 8 <= size) {
        typedef Pack<T, 16 / sizeof(T) < 8 ? 16 / sizeof(T) : 8> Part;
        constexpr int parts = 8 / (sizeof(Part) / sizeof(T)), lanes = 8 / parts;
#pragma unroll
        for (int i = 0; i < parts; ++i) {
            Part p = reinterpret_cast<const Part*>(x + first)[i], r = p;
            if (relu) r = reinterpret_cast<const Part*>(relu + first)[i];
#pragma unroll
            for (int j = 0; j < lanes; ++j) {
                bool kept = lane16(w, i * lanes + j) >= threshold && (!relu || load(r.at[j]) > A(0));
                p.at[j] = kept ? store<T>(load(p.at[j]) * A(keep)) : T(0.f);
            }
            reinterpret_cast<Part*>(y + first)[i] = p;
        }
    } else
        for (int j = 0; first + j < size; ++j) {
            bool kept = lane16(w, j) >= threshold && (!relu || load(relu[first + j]) > A(0));
            y[first + j] = kept ? store<T>(load(x[first + j]) * A(keep)) : T(0.f);
        }
}

__global__ void random_bits(int* y, const i64* state, i64 draw, i64 size) {
    i64 first = (i64(blockIdx.x) * blockDim.x + threadIdx.x) * 8;
    if (first >= size) return;
    Words w = philox(u64(state[0]), u64(state[1]) + u64(draw), u64(first) / 8);
    for (int j = 0; j < 8 && first + j < size; ++j) y[first + j] = int(lane16(w, j));
}

__global__ void advance_generator(i64* to, const i64* from, i64 draws) {
    if (threadIdx.x < 2) to[threadIdx.x] = threadIdx.x ? i64(u64(from[1]) + u64(draws)) : from[0];
}
