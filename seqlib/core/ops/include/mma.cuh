// Tensor-core products of 16x8x16 (sm_80 and newer) and the loads of their operands from shared memory.
#pragma once
#include "common.cuh"

// Fragments of one warp: A 16x16 (4 words), B 16x8 (2 words), C and D 16x8 (4 floats: rows l/4 and l/4 + 8, columns
// 2 (l % 4) and the next, for lane l).
template <typename T> __device__ __forceinline__ void mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1);
#if __CUDA_ARCH__ >= 800
template <> __device__ __forceinline__ void mma<bf16>(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <> __device__ __forceinline__ void mma<f16>(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif

__device__ __forceinline__ u32 shared_address(const void* p) { return u32(__cvta_generic_to_shared(p)); }

__device__ __forceinline__ void ldmatrix(u32 (&r)[4], const void* p) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(p)));
}
__device__ __forceinline__ void ldmatrix_trans(u32 (&r)[4], const void* p) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(p)));
}

#if __CUDA_ARCH__ >= 800
// Copies to shared memory that run beside what follows; 0 where nothing is there. `arrived<N>` waits for all but the
// last N groups of them.
__device__ __forceinline__ void copy16(void* to, const void* from, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(shared_address(to)), "l"(from), "r"(there ? 16 : 0));
}
__device__ __forceinline__ void copy4(void* to, const void* from, bool there) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" :: "r"(shared_address(to)), "l"(from), "r"(there ? 4 : 0));
}
__device__ __forceinline__ void group_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> __device__ __forceinline__ void arrived() { asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory"); }
#endif
__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
constexpr float LOG2E = 1.44269504f;

template <typename T> __device__ __forceinline__ u32 pack(float a, float b);
template <> __device__ __forceinline__ u32 pack<bf16>(float a, float b) {
    __nv_bfloat162 v = __floats2bfloat162_rn(a, b);
    return *reinterpret_cast<u32*>(&v);
}
template <> __device__ __forceinline__ u32 pack<f16>(float a, float b) {
    __half2 v = __floats2half2_rn(a, b);
    return *reinterpret_cast<u32*>(&v);
}

// A tile of 16-bit values in shared memory: rows of W values, padded so that eight rows lie in different banks.
template <typename T, int ROWS, int W> struct Tile {
    static constexpr int pitch = W + 8;
    T at[ROWS * pitch];

    __device__ __forceinline__ static int place(int row, int column) { return row * pitch + column; }
    // 16x16 at (row, column) as operand A, rows as they lie.
    __device__ __forceinline__ void a(u32 (&r)[4], int row, int column) const {
        int l = threadIdx.x % WARP;
        ldmatrix(r, at + (row + l % 16) * pitch + column + l / 16 * 8);
    }
    // The transpose of 16x16 at (row, column) as operand A.
    __device__ __forceinline__ void a_transposed(u32 (&r)[4], int row, int column) const {
        int l = threadIdx.x % WARP;
        ldmatrix_trans(r, at + (row + l / 16 * 8 + l % 8) * pitch + column + l / 8 % 2 * 8);
    }
    // Operand B = tile^T for 16 tile rows from `row` (two n-tiles: words 0,1 and 2,3) and 16 columns from `column`.
    __device__ __forceinline__ void b_transposed(u32 (&r)[4], int row, int column) const {
        int l = threadIdx.x % WARP;
        ldmatrix(r, at + (row + l / 16 * 8 + l % 8) * pitch + column + l / 8 % 2 * 8);
    }
    // Operand B = tile: 16 rows from `row` (the inner axis), 16 columns from `column` (two n-tiles).
    __device__ __forceinline__ void b(u32 (&r)[4], int row, int column) const {
        int l = threadIdx.x % WARP;
        ldmatrix_trans(r, at + (row + l % 16) * pitch + column + l / 16 * 8);
    }
    // Copies the first ROWS rows of a matrix in global memory whose rows lie `stride` apart; 0 from `rows` on.
    template <int THREADS> __device__ __forceinline__ void fill(const T* from, i64 stride, int rows) {
        constexpr int per_row = W / 8, pieces = ROWS * per_row;
#pragma unroll
        for (int i = 0; i < (pieces + THREADS - 1) / THREADS; ++i) {
            int piece = threadIdx.x + i * THREADS, row = piece / per_row, column = piece % per_row * 8;
            bool there = row < rows;
            if (pieces % THREADS == 0 || piece < pieces)
                copy16(at + place(row, column), from + (there ? row * stride + column : 0), there);
        }
    }
};
