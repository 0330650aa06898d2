// Rotary positions (Su et al. 2021): pairs (i, i + K/2) of the first `turned` heads of x [rows, heads, K] turned by
// positions[row % period] * base^(-2i/K), the angle in double; scaled as ops.rotary says unless `factor` is 1.
#include "common.cuh"

template <typename T, typename I>
__global__ void rotary(T* out, const T* x, const I* positions, i64 rows, int period, int heads, int turned, int half,
                       double base, double sign, double factor, double low, double high, double length) {
    typedef typename Compute<T>::type A;
    i64 total = rows * heads * half;
    for (i64 n = i64(blockIdx.x) * blockDim.x + threadIdx.x; n < total; n += i64(gridDim.x) * blockDim.x) {
        int i = int(n % half), head = int(n / half % heads);
        i64 row = n / half / heads, at = (row * heads + head) * 2 * half + i;
        T first = x[at], second = x[at + half];
        if (head < turned) {
            double sine, cosine, rate = pow(base, -double(i) / half);
            if (factor != 1) {
                double kept = fmin(fmax((length * rate / 6.283185307179586 - low) / (high - low), 0.0), 1.0);
                rate *= (1 - kept) / factor + kept;
            }
            sincos(double(positions[row % period]) * rate, &sine, &cosine);
            A s = A(sign * sine), c = A(cosine), a = load(first), b = load(second);
            first = store<T>(a * c - b * s);
            second = store<T>(b * c + a * s);
        }
        out[at] = first;
        out[at + half] = second;
    }
}
