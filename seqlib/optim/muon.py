"""Muon: momentum whose matrices are made orthogonal (Jordan et al. 2024), with AdamW for what is no hidden matrix."""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from seqlib.core import ops
from seqlib.core.tensor import Parameter, Tensor, Variable
from seqlib.optim.adamw import AdamW
from seqlib.optim.optimizer import is_matrix
from seqlib.util.errors import UsageError

_QUINTIC = (3.4445, -4.7750, 2.0315)  # of Jordan: takes singular values to 0.7 … 1.2 in 5 rounds
_RMS = 0.2  # of an update: about that of Adam's, so that rates and decay carry over (Liu et al. 2025)
_TINY = 1e-7


def is_hidden(name: str, parameter: Parameter) -> bool:
    """The default of what Muon moves: matrices of numbered layers; no embeddings, heads, biases and gains."""
    return parameter.ndim == 2 and re.search(r"(^|\.)\d+\.", name) is not None


class Muon(AdamW):
    """With g the gradient of a hidden matrix after clipping, at each update:

        m = momentum·m + g             u = g + momentum·m (Nesterov)
        p = p - lr · (0.2·√max(rows, columns) · orthogonal(u) + weight_decay·p)

    where ``orthogonal`` takes `rounds` Newton-Schulz rounds x = a·x + (b·xxᵀ + c·(xxᵀ)²)·x from u over its Frobenius
    norm, which brings all singular values near 1. Matrices of one shape, or of its transpose, are done together: their
    momenta are the slot ``m.ROWSxCOLUMNS``. What `hidden` is false for is moved as `AdamW` says, with the same rate.
    `hidden` holds for matrices alone. What is not said here is said at `Optimizer`.
    """

    name = "muon"

    def __init__(
        self,
        params: Mapping[str, Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-9,
        momentum: float = 0.95,
        rounds: int = 5,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        decays: Callable[[str, Parameter], bool] = is_matrix,
        hidden: Callable[[str, Parameter], bool] = is_hidden,
        ema: float = 0.0,
    ):
        super().__init__(params, lr, betas, eps, weight_decay, clip_norm, decays, ema)
        self.need("momentum", momentum, below=1.0)
        if rounds < 1:
            raise UsageError(f"{self.name}: rounds: expected 1 or more, got {rounds}")
        self.momentum, self.rounds = momentum, rounds
        shapes: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
        for name, p in self.params.items():
            if hidden(name, p):
                shapes[min(p.shape), max(p.shape)].append(name)
                del self.m[name], self.v[name]
        self._slots = [*self.m.values(), *self.v.values()]
        self.stacks = [(names, self.slot(self._momenta(names, shape))) for shape, names in shapes.items()]

    def _momenta(self, names: list[str], shape: tuple[int, int]) -> Variable:
        return Variable.zeros_for(self.params[names[0]], f"m.{shape[0]}x{shape[1]}", (len(names), *shape))

    def move_all(self, grads: Mapping[str, Tensor], step: Tensor, scale: Tensor) -> None:
        """The formula above."""
        super().move_all({name: grads[name] for name in self.m}, step, scale)
        good = ops.isfinite(scale)
        for names, m in self.stacks:
            g = ops.stack([_wide(grads[name], m.shape) for name in names]) * scale
            new = m * self.momentum + g
            ways = orthogonal(g + new * self.momentum, self.rounds)
            size = _RMS * m.shape[2] ** 0.5
            m.assign(ops.where(good, new, m))
            for name, way in zip(names, ops.unstack(ways), strict=True):
                p, rate = self.params[name], self.rate(name)
                p.assign(ops.where(good, p - (_wide(way, p.shape) * size + p * self.decay[name]) * rate, p))


def _wide(x: Tensor, shape: Sequence[int]) -> Tensor:
    """A matrix, or its transpose where that has the last two sizes of `shape`."""
    return x if tuple(x.shape) == tuple(shape[-2:]) else ops.swapaxes(x, 0, 1)


def orthogonal(x: Tensor, rounds: int = 5) -> Tensor:
    """Matrices [..., rows, columns], no more rows than columns, with singular values brought near 1."""
    x = x / (ops.sqrt(ops.sum(ops.square(x), axis=(-2, -1), keepdims=True)) + _TINY)
    a, b, c = _QUINTIC
    for _ in range(rounds):
        square = ops.matmul(x, ops.swapaxes(x, -1, -2))
        x = x * a + ops.matmul(square * b + ops.matmul(square, square) * c, x)
    return x
