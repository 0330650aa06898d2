"""Adafactor: adaptive steps with sublinear memory (Shazeer and Stern 2018)."""

from collections.abc import Callable, Mapping

from seqlib.core import ops
from seqlib.core.tensor import Parameter, Tensor, Variable
from seqlib.optim.optimizer import Optimizer, is_matrix

_SQUARE = 1e-30  # ε1 of the paper, added to squared gradients
_SCALE = 1e-3  # ε2, the least scale of a parameter
_DECAY = 0.8  # β2 at update t is 1 - t^-0.8


class Adafactor(Optimizer):
    """Second moments of a matrix are kept as means of its rows and columns. With g the gradient after clipping, at
    update t = 1, 2, …, β = 1 - t^-0.8:

        r = β·r + (1-β)·mean over columns of (g² + 1e-30)      c = β·c + (1-β)·mean over rows of it
        v = r cᵀ / mean(r)     (a vector has its v as a whole: v = β·v + (1-β)·(g² + 1e-30))
        u = g / sqrt(v),  divided by max(1, RMS(u) / clip_update)
        p = p - lr · max(1e-3, RMS(p)) · u - lr · weight_decay · p

    `relative` = False leaves the factor max(1e-3, RMS(p)) out. The paper's rates min(0.01, 1/√t) are the schedule
    ``rsqrt_decay`` with a warm-up of 10,000 steps. With `momentum` above 0 (the paper's β1) u is averaged: m = μ·m +
    (1-μ)·u takes its place. Leading axes of a parameter beyond two count as that many matrices. What is not said here
    is said at `Optimizer`.
    """

    name = "adafactor"

    def __init__(
        self,
        params: Mapping[str, Parameter],
        lr: float = 1e-2,
        relative: bool = True,
        momentum: float = 0.0,
        clip_update: float = 1.0,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        decays: Callable[[str, Parameter], bool] = is_matrix,
        ema: float = 0.0,
    ):
        super().__init__(params, lr, weight_decay, clip_norm, decays, ema)
        self.need("momentum", momentum, below=1.0)
        self.need("clip_update", clip_update)
        self.relative, self.momentum, self.clip_update = relative, momentum, clip_update
        self.moments: dict[str, list[Variable]] = {}
        for name, p in self.params.items():
            shapes = {"r": p.shape[:-1], "c": (*p.shape[:-2], p.shape[-1])} if p.ndim >= 2 else {"v": p.shape}
            self.moments[name] = [
                self.slot(Variable.zeros_for(p, f"{kind}.{name}", shape)) for kind, shape in shapes.items()
            ]
        self.m = self.slots("m") if momentum else {}

    def move(self, name: str, g: Tensor, step: Tensor, scale: Tensor) -> None:
        """The formula above."""
        p, good, g = self.params[name], ops.isfinite(scale), g * scale
        fresh = ops.power(step, -_DECAY)
        squares = ops.square(g) + _SQUARE
        moments = self.moments[name]
        sides = [ops.mean(squares, axis=-1), ops.mean(squares, axis=-2)] if len(moments) == 2 else [squares]
        new = [old + (side - old) * fresh for old, side in zip(moments, sides, strict=True)]
        for old, value in zip(moments, new, strict=True):
            old.assign(ops.where(good, value, old))
        if len(new) == 2:
            r, c = new
            rows = ops.rsqrt(r / ops.mean(r, axis=-1, keepdims=True))
            way = g * ops.expand_dims(rows, -1) * ops.expand_dims(ops.rsqrt(c), -2)
        else:
            way = g * ops.rsqrt(new[0])
        if self.clip_update:
            way = way / ops.maximum(_rms(way) / self.clip_update, 1.0)
        if self.m:
            m = self.m[name]
            way = m * self.momentum + way * (1.0 - self.momentum)
            m.assign(ops.where(good, way, m))
        rate = self.rate(name) * ops.maximum(_rms(p), _SCALE) if self.relative else self.rate(name)
        moved = p - way * rate
        if self.decay[name]:
            moved = moved - p * (self.rate(name) * self.decay[name])
        p.assign(ops.where(good, moved, p))


def _rms(x: Tensor) -> Tensor:
    return ops.sqrt(ops.mean(ops.square(x)))
