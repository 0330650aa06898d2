// Hopper's products of a warp group (4 warps; sm_90a): D [64, N] += A [64, 16] B [16, N], run beside what follows.
//
// A warp's part of D is 16 rows, laid out over its lanes as in mma.cuh. Operands in shared memory are tiles of rows of 64
// values (128 bytes) whose 16-byte pieces are swizzled: piece c of row r lies at c ^ r % 8. A wider matrix is several
// such tiles, one after the other. Descriptors: PTX manual, "asynchronous warpgroup level matrix instructions".
#pragma once
#include "mma.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
constexpr int GROUP = 128;  // threads of a warp group

// The number of the thread's warp group, which the compiler knows to be the same for a warp.
__device__ __forceinline__ int warp_group() { return __shfl_sync(~0u, threadIdx.x / GROUP, 0); }

// 16-bit values in shared memory, ROWS x W, at a multiple of 1024 bytes.
template <typename T, int ROWS, int W> struct Swizzled {
    T at[ROWS * W];

    __device__ __forceinline__ static int place(int row, int column) {
        return column / 64 * (ROWS * 64) + row * 64 + ((column / 8 % 8 ^ row % 8) << 3) + column % 8;
    }
    // As Tile::fill.
    template <int THREADS> __device__ __forceinline__ void fill(const T* from, i64 stride, int rows) {
        constexpr int per_row = W / 8, step = THREADS / per_row;
        static_assert(THREADS % (8 * per_row) == 0, "a thread's pieces have the same place in a row");
        int row = threadIdx.x / per_row, column = threadIdx.x % per_row * 8;
        T* to = at + place(row, column);
        from += row * stride + column;
#pragma unroll
        for (int i = 0; i < (ROWS + step - 1) / step; ++i)
            if (ROWS % step == 0 || row + i * step < ROWS)
                copy16(to + i * step * 64, from + i * step * stride, row + i * step < rows);
    }
    // An operand whose inner axis is columns, from `column` on (a multiple of 16); its rows from `row` on (of 8).
    __device__ __forceinline__ u64 by_columns(int row, int column) const {
        return descriptor(column / 64 * (ROWS * 128) + row * 128 + column % 64 * 2);
    }
    // An operand whose inner axis is rows, from `row` on (a multiple of 8); all columns.
    __device__ __forceinline__ u64 by_rows(int row) const { return descriptor(row * 128); }

  private:
    // Address in units of 16 bytes, from 64 columns to the next (by_rows alone), from 8 rows to the next, the swizzle.
    __device__ __forceinline__ u64 descriptor(int offset) const {
        return (shared_address(at) >> 4 | u64(ROWS * 128 >> 4) << 16 | u64(1024 >> 4) << 32 | u64(1) << 62) + (offset >> 4);
    }
};

// What ordinary stores and copies wrote to shared memory can be seen by products after the next barrier.
__device__ __forceinline__ void publish() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
// Comes before products whose registers were written.
__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void group_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits for all but the last N groups of products.
template <int N> __device__ __forceinline__ void products_done() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(N) : "memory");
}

#define SUMS64 "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}"
#define SUMS128 "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}"
#define OUT4(n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define OUT16(n) OUT4(n), OUT4(n + 1), OUT4(n + 2), OUT4(n + 3)
#define OUT64 OUT16(0), OUT16(4)
#define OUT128 OUT64, OUT16(8), OUT16(12)
// Immediates: the signs of A and B, whether each (A: from shared memory alone) has its inner axis along rows.
#define PRODUCT(N, TYPE, A, B, ADD, REST, ...)                                                                        \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " ADD ", 0;\n"                                                     \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." #TYPE "." #TYPE " " SUMS##N ", " A ", " B ", p, " REST ";\n}" \
                 : OUT##N : __VA_ARGS__)
#define PRODUCT_SHARED(N, TYPE, A, B, ADD, REST)                                                                      \
    PRODUCT(N, TYPE, A, B, ADD, REST, "l"(a), "l"(b), "r"(int(add)), "n"(1), "n"(1), "n"(0), "n"(int(BY_ROWS)))
#define PRODUCT_REGISTERS(N, TYPE, A, B, ADD, REST)                                                                   \
    PRODUCT(N, TYPE, A, B, ADD, REST, "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(int(add)), "n"(1), "n"(1), \
            "n"(int(BY_ROWS)))

template <typename T> struct IsHalf { static constexpr bool value = false; };
template <> struct IsHalf<f16> { static constexpr bool value = true; };

// D = A B + (add ? D : 0), 16 of the inner axis; BY_ROWS: B's inner axis is its rows.
template <typename T, bool BY_ROWS, int N> __device__ __forceinline__ void product(float (&d)[N][4], u64 a, u64 b, bool add) {
    if constexpr (N == 8 && IsHalf<T>::value)
        PRODUCT_SHARED(64, f16, "%32", "%33", "%34", "%35, %36, %37, %38");
    else if constexpr (N == 8)
        PRODUCT_SHARED(64, bf16, "%32", "%33", "%34", "%35, %36, %37, %38");
    else if constexpr (IsHalf<T>::value)
        PRODUCT_SHARED(128, f16, "%64", "%65", "%66", "%67, %68, %69, %70");
    else
        PRODUCT_SHARED(128, bf16, "%64", "%65", "%66", "%67, %68, %69, %70");
}
template <typename T, bool BY_ROWS, int N>
__device__ __forceinline__ void product(float (&d)[N][4], const u32 (&a)[4], u64 b, bool add) {
    if constexpr (N == 8 && IsHalf<T>::value)
        PRODUCT_REGISTERS(64, f16, "{%32,%33,%34,%35}", "%36", "%37", "%38, %39, %40");
    else if constexpr (N == 8)
        PRODUCT_REGISTERS(64, bf16, "{%32,%33,%34,%35}", "%36", "%37", "%38, %39, %40");
    else if constexpr (IsHalf<T>::value)
        PRODUCT_REGISTERS(128, f16, "{%64,%65,%66,%67}", "%68", "%69", "%70, %71, %72");
    else
        PRODUCT_REGISTERS(128, bf16, "{%64,%65,%66,%67}", "%68", "%69", "%70, %71, %72");
}
// The assembler moves arithmetic behind a wait, where it would no longer run beside products. What this is made of stays
// before: it would be stored if it were negative, which it never is.
__device__ __forceinline__ void keep_before(float never_negative) {
    asm volatile("{ .reg .pred p; setp.lt.f32 p, %0, 0f00000000; @p st.shared.f32 [%1], %0; }"
                 :: "f"(never_negative), "r"(0) : "memory");
}
// Registers of products in flight are left alone by the compiler until this.
template <int N> __device__ __forceinline__ void settle(float (&d)[N][4]) {
#pragma unroll
    for (int n = 0; n < N; ++n) asm volatile("" : OUT4(n) :: "memory");
}
#endif
