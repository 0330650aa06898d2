"""Ops of one's own: a function with a gradient by hand, an elementwise op, a fused op. A second on a CPU.

`custom_vjp` needs nothing but two functions. An op beside it has a name in graphs, fuses with its neighbours, and may
have kernels; docs/adding-an-op.md declares one of each kind in full.
"""

from collections.abc import Callable

import numpy as np

import seqlib
from seqlib.core.op import Meta, fused, need_float
from seqlib.core.ops.elementwise import elementwise


def slope(f: Callable[[seqlib.Tensor], seqlib.Tensor], x: np.ndarray, i: int, step: float = 1e-3) -> float:
    """The derivative of the scalar function by x[i], from two values."""
    at = np.zeros_like(x)
    at[i] = step
    return (f(seqlib.tensor(x + at)).item() - f(seqlib.tensor(x - at)).item()) / (2 * step)


# 1. The identity whose gradient is clipped: forward says what is kept for backward, backward one gradient a tensor.
@seqlib.custom_vjp
def clipped(x: seqlib.Tensor, *, limit: float) -> seqlib.Tensor:
    return x


clipped.defvjp(lambda x, *, limit: (x, limit), lambda limit, g: seqlib.clip(g, -limit, limit))

x = np.array([-1.5, 0.2, 3.0])
print("clipped     ", seqlib.grad(lambda x: seqlib.sum(clipped(x, limit=1.0) ** 2))(x).tolist())


# 2. An elementwise op is an expression: kernels, broadcasting and fusion follow from it. Its gradient is one, too.
mish = elementwise(
    "mish",
    "x",
    "x * tanh(log(1.0 + exp(x)))",  # Misra 2019
    "float",  # integers give float32
    grad="g * (tanh(log(1.0 + exp(x))) + x * sigmoid(x) * (1.0 - square(tanh(log(1.0 + exp(x))))))",
)


def total(x: seqlib.Tensor) -> seqlib.Tensor:
    return seqlib.sum(mish(x) * 2.0)


gradient = seqlib.grad(total)(x)
print(
    "mish        ",
    gradient.numpy().round(4).tolist(),
    "by differences",
    [round(slope(total, x, i), 4) for i in range(3)],
)
assert all(abs(gradient.numpy()[i] - slope(total, x, i)) < 1e-4 for i in range(3))


# 3. A fused op is its composition in other ops: that is its meaning, its reference and, without a rule of its own, its
# gradient. A kernel could be added (`unit.cpu(...)`); it would be tested against the composition.
@fused()
def unit(x: seqlib.Tensor, *, eps: float) -> seqlib.Tensor:
    return x * seqlib.rsqrt(seqlib.sum(x * x, axis=-1, keepdims=True) + eps)


@unit.infer
def _(x: Meta, *, eps: float) -> list[Meta]:
    need_float("unit", "x", x)
    return [x]


print("unit        ", unit(seqlib.tensor(x), eps=1e-12).numpy().round(4).tolist())
second = seqlib.grad(lambda x: seqlib.sum(seqlib.grad(lambda x: unit(x, eps=1e-12)[0], create_graph=True)(x) ** 2))
print("second order", second(x).numpy().round(4).tolist())

# Compiled, mish and the product beside it are one loop.
compiled = seqlib.compile(total)
assert np.array_equal(compiled(x).numpy(), total(seqlib.tensor(x)).numpy())
print([launch.name for launch in compiled.programs[0].plan.launches])
