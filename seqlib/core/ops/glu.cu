// Gated linear units (Dauphin et al. 2017; Shazeer 2020): a · act(b) of the halves of rows [2 F], and their gradient. A
// thread owns N neighbours.
#include "common.cuh"

enum { SIGMOID, RELU, GELU, GELU_TANH, SILU };

__device__ __forceinline__ float error_function(float x) { return erff(x); }
__device__ __forceinline__ double error_function(double x) { return erf(x); }

// act(b) and its slope.
template <typename A> __device__ __forceinline__ void activate(int kind, A b, A& y, A& slope) {
    if (kind == RELU) {
        y = b > A(0) ? b : b != b ? b : A(0);
        slope = A(b > A(0));
    } else if (kind == GELU) {
        A below = A(0.5) * (A(1) + error_function(b * A(0.7071067811865476)));
        y = b * below;
        slope = below + b * exp(b * b * A(-0.5)) * A(0.3989422804014327);
    } else if (kind == GELU_TANH) {
        A t = tanh(A(0.7978845608028654) * (b + A(0.044715) * b * b * b));
        y = A(0.5) * b * (A(1) + t);
        slope = A(0.5) * (A(1) + t) + A(0.5) * b * (A(1) - t * t) * A(0.7978845608028654) * (A(1) + A(0.134145) * b * b);
    } else {
        A s = A(1) / (A(1) + exp(-b));
        y = kind == SILU ? b * s : s;
        slope = kind == SILU ? s * (A(1) + b * (A(1) - s)) : s * (A(1) - s);
    }
}

template <typename T, int N>
__global__ void __launch_bounds__(256) glu_forward(T* y, const T* x, int kind, i64 chunks, int per_row) {
    typedef typename Compute<T>::type A;
    i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= chunks) return;
    i64 at = (i + i / per_row * per_row) * N;  // of a; b is a row of F further
    Pack<T, N> a = *reinterpret_cast<const Pack<T, N>*>(x + at), b = *reinterpret_cast<const Pack<T, N>*>(x + at + i64(per_row) * N);
#pragma unroll
    for (int j = 0; j < N; ++j) {
        A value, slope;
        activate(kind, A(load(b.at[j])), value, slope);
        a.at[j] = store<T>(load(a.at[j]) * value);
    }
    *reinterpret_cast<Pack<T, N>*>(y + i * N) = a;
}

template <typename T, int N>
__global__ void __launch_bounds__(256) glu_backward(T* gx, const T* g, const T* x, int kind, i64 chunks, int per_row) {
    typedef typename Compute<T>::type A;
    i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= chunks) return;
    i64 at = (i + i / per_row * per_row) * N, half = i64(per_row) * N;
    Pack<T, N> a = *reinterpret_cast<const Pack<T, N>*>(x + at), b = *reinterpret_cast<const Pack<T, N>*>(x + at + half);
    Pack<T, N> from = *reinterpret_cast<const Pack<T, N>*>(g + i * N);
#pragma unroll
    for (int j = 0; j < N; ++j) {
        A value, slope, given = load(from.at[j]), other = load(a.at[j]);
        activate(kind, A(load(b.at[j])), value, slope);
        a.at[j] = store<T>(given * value);
        b.at[j] = store<T>(given * other * slope);
    }
    *reinterpret_cast<Pack<T, N>*>(gx + at) = a;
    *reinterpret_cast<Pack<T, N>*>(gx + at + half) = b;
}
