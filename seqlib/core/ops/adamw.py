"""The AdamW update and the global norm that clips its gradients."""

from typing import Any

from seqlib.core import dtypes
from seqlib.core.op import Attrs, Meta, Metas, fused, need_alike, need_float, shape_error
from seqlib.core.ops.blocks import CACHE, float32_only, same_float
from seqlib.core.ops.create import full
from seqlib.core.ops.elementwise import isfinite, mul, power, sqrt, where
from seqlib.core.ops.reduce import sum
from seqlib.core.tensor import Tensor

# -- adamw ---------------------------------------------------------------------------------------------------


@fused(outs="p m v", visible=3, differentiable=False)
def _adamw(*tensors: Tensor, beta1: float, beta2: float, eps: float, weight_decay: float) -> tuple[Tensor, ...]:
    p, g, m, v, lr, step, scale = tensors
    dtype, t = p.dtype, step.astype(dtypes.float64)
    # 1 - β^t loses digits in float32 for small t.
    first, second = ((1.0 - power(full((), beta, dtypes.float64), t)).astype(dtype) for beta in (beta1, beta2))
    scaled = g * scale.astype(dtype)
    new_m = m * beta1 + scaled * (1.0 - beta1)
    new_v = v * beta2 + scaled * scaled * (1.0 - beta2)
    move = new_m / first / (sqrt(new_v / second) + eps) + p * weight_decay
    good = isfinite(scale)
    return where(good, p - move * lr.astype(dtype), p), where(good, new_m, m), where(good, new_v, v)


@_adamw.infer
def _(*metas: Any, **attrs: Any) -> list[Meta]:
    p, g, m, v, lr, step, scale = metas
    need_alike("adamw", p=p, g=g, m=m, v=v)
    for name, meta in (("g", g), ("m", m), ("v", v)):
        if meta.shape != p.shape:
            raise shape_error("adamw", name, f"of p's shape {p.shape}", meta.shape)
    for name, meta in (("lr", lr), ("step", step), ("scale", scale)):
        need_float("adamw", name, meta)
        if meta.shape != ():
            raise shape_error("adamw", name, "0-d", meta.shape)
    return [p, p, p]


def _scratch(metas: Metas, attrs: Attrs) -> list[Meta]:
    p = metas[0]
    return [Meta((min(p.size, CACHE // 2 // p.dtype.itemsize),), p.dtype)] * 2


_adamw.cpu("adamw_numpy:forward", when=same_float(0, 1, 2, 3), scratch=_scratch, overlap=((0, 0), (1, 2), (2, 3)))


_adamw.cpu("adamw_cpu:forward", needs="numba", when=float32_only(0, 1, 2, 3), overlap=((0, 0), (1, 2), (2, 3)))


@fused(outs="p m v copy", visible=4, differentiable=False)
def adamw_copy(
    *tensors: Tensor, copy: Any, beta1: float, beta2: float, eps: float, weight_decay: float
) -> tuple[Tensor, ...]:
    """adamw, and the new p in the dtype `copy`."""
    p, m, v = _adamw(*tensors, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay)
    return p, m, v, p.astype(copy)


@adamw_copy.infer
def _(*metas: Any, copy: Any, **rates: float) -> list[Meta]:
    return [*_adamw.infer_metas(metas, rates), Meta(metas[0].shape, copy)]


def adamw(
    p: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor,
    lr: Tensor,
    step: Tensor,
    scale: Tensor,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    copy: Any = None,
) -> tuple[Tensor, ...]:
    """One AdamW update (Kingma and Ba 2015; Loshchilov and Hutter 2019): the new (p, m, v), and p in the dtype `copy`.

    With G = scale·g: m = β1·m + (1-β1)·G, v = β2·v + (1-β2)·G², and p = p - lr·( m/(1-β1^step) /
    (sqrt(v/(1-β2^step)) + eps) + weight_decay·p ). p, g, m, v have one shape and floating dtype. `lr`, `step`
    (1 for the first update) and `scale` (clipping, or one over a batch's weight) are 0-d and floating. A
    `scale` that is not finite leaves p, m and v as they are. Raises ShapeError and DtypeError.
    """
    rates = {"beta1": float(beta1), "beta2": float(beta2), "eps": float(eps), "weight_decay": float(weight_decay)}
    args = (p, g, m, v, lr, step, scale)
    return _adamw(*args, **rates) if copy is None else adamw_copy(*args, copy=dtypes.canonical(copy), **rates)


# -- global_norm ---------------------------------------------------------------------------------------------


@fused(differentiable=False)
def _global_norm(*xs: Tensor) -> Tensor:
    total = full((), 0.0, dtypes.float64)
    for x in xs:
        wide = x.astype(dtypes.float64)
        total = total + sum(mul(wide, wide))
    return sqrt(total).astype(dtypes.float32)


@_global_norm.infer
def _(*xs: Meta) -> list[Meta]:
    for i, x in enumerate(xs):
        need_float("global_norm", f"xs[{i}]", x)
    return [Meta((), dtypes.float32)]


PIECE = 8192


_global_norm.cpu("adamw_numpy:norm", scratch=lambda metas, attrs: [Meta((PIECE,), dtypes.float64)])
_global_norm.cpu("reduce_cpu:norm", needs="numba")


def global_norm(*tensors: Any) -> Tensor:
    """sqrt of the sum of squares over all elements of all tensors, as float32 0-d; the sum is made in float64
    in a fixed order.

    Takes tensors or one list of them (floating, any shapes). Raises DtypeError for one that is not floating.
    """
    several = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else tensors
    return _global_norm(*several)
