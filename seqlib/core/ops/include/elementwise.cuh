// The loop of every elementwise kernel. A generated file defines the operands (IN0 … with types T0 …), OUT_TYPE and
// `compute`, and includes this.
#pragma once
#include "common.cuh"

template <typename A> __device__ __forceinline__ A maximum(A a, A b) { return a > b || a != a ? a : b; }
template <typename A> __device__ __forceinline__ A minimum(A a, A b) { return a < b || a != a ? a : b; }
template <typename A> __device__ __forceinline__ A absolute(A a) { return a < A(0) ? -a : a == A(0) ? A(0) : a; }
template <typename A> __device__ __forceinline__ A sign(A a) { return a != a ? a : A((a > A(0)) - (a < A(0))); }

// An operand's value in the type of computation.
template <typename A, typename T> __device__ __forceinline__ A as(T x) { return A(x); }
template <> __device__ __forceinline__ float as<float, bf16>(bf16 x) { return __bfloat162float(x); }
template <> __device__ __forceinline__ float as<float, f16>(f16 x) { return __half2float(x); }
template <> __device__ __forceinline__ double as<double, bf16>(bf16 x) { return __bfloat162float(x); }
template <> __device__ __forceinline__ double as<double, f16>(f16 x) { return __half2float(x); }
template <typename T, typename A> __device__ __forceinline__ T put(A x) { return T(x); }
template <> __device__ __forceinline__ bf16 put<bf16, float>(float x) { return __float2bfloat16_rn(x); }
template <> __device__ __forceinline__ f16 put<f16, float>(float x) { return __float2half_rn(x); }
template <> __device__ __forceinline__ bf16 put<bf16, double>(double x) { return __double2bfloat16(x); }
template <> __device__ __forceinline__ f16 put<f16, double>(double x) { return __double2half(x); }
template <> __device__ __forceinline__ bool put<bool, float>(float x) { return x != 0; }

constexpr int DIMS = 6;
// The output's dimensions, outermost first and row-major, and the strides of each operand in elements (0: broadcast).
template <int INPUTS> struct Walk {
    i64 chunks, last, per_row;  // runs of V elements; size of the innermost dimension, and its runs
    int dims;
    int size[DIMS];
    i64 stride[INPUTS][DIMS];
};

// The offsets of the operands for element `inner` of a row; I is wide enough to count all elements.
template <typename I, int INPUTS>
__device__ __forceinline__ void locate(const Walk<INPUTS>& w, I row, I inner, i64 (&offset)[INPUTS]) {
#pragma unroll
    for (int k = 0; k < INPUTS; ++k) offset[k] = i64(inner) * w.stride[k][w.dims - 1];
    for (int d = w.dims - 2; d >= 0; --d) {
        I above = d ? row / I(w.size[d]) : 0, index = row - above * I(w.size[d]);
#pragma unroll
        for (int k = 0; k < INPUTS; ++k) offset[k] += i64(index) * w.stride[k][d];
        row = above;
    }
}

// tanh for results of 16 bits: right to 1e-6.
__device__ __forceinline__ float tanh16(float x) {
    float square = x * x, small = x * (1.f + square * (square * (2.f / 15.f) - 1.f / 3.f));
    float large = 1.f - __fdividef(2.f, 1.f + __expf(2.f * x));
    int which = -int(square < 0.01f);  // chosen by bits: a branch would part the warp
    return __int_as_float((__float_as_int(small) & which) | (__float_as_int(large) & ~which));
}

// V values of an operand whose innermost stride is 1 or 0 (V > 1), or one value.
template <typename T, int V> __device__ __forceinline__ void fetch(T (&to)[V], const T* x, i64 offset, i64 stride, int count) {
    if (V > 1 && stride == 1 && count == V) {
        Pack<T, V> p = *reinterpret_cast<const Pack<T, V>*>(x + offset);
#pragma unroll
        for (int j = 0; j < V; ++j) to[j] = p.at[j];
    } else {
#pragma unroll
        for (int j = 0; j < V; ++j)
            if (j < count) to[j] = x[offset + j * stride];
    }
}
