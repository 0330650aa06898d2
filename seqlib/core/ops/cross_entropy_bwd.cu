// The gradient of cross entropy by the logits [rows, classes]: a block for a row, N neighbours a thread.
#include "common.cuh"

template <typename T, typename I, int N>
__global__ void __launch_bounds__(256)
cross_entropy_bwd(T* y, const typename Compute<T>::type* g, const T* logits, const I* targets,
                  const typename Compute<T>::type* lses, const T* weights, int classes, double smoothing, i64 ignore) {
    typedef typename Compute<T>::type A;
    i64 row = blockIdx.x, target = targets[row];
    A scale = target == ignore ? A(0) : weights ? *g * load(weights[row]) : *g;
    A lse = lses[row], even = A(smoothing / classes), mass = A(1 - smoothing);
    for (int c = threadIdx.x * N; c < classes; c += 256 * N) {
        Pack<T, N> p = *reinterpret_cast<const Pack<T, N>*>(logits + row * classes + c);
#pragma unroll
        for (int j = 0; j < N; ++j) {
            A value = exp(load(p.at[j]) - lse) - even - (c + j == target ? mass : A(0));
            p.at[j] = store<T>(target == ignore ? A(0) : value * scale);
        }
        *reinterpret_cast<Pack<T, N>*>(y + row * classes + c) = p;
    }
}
