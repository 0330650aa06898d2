"""gru: a layer of gated recurrent units over whole sequences (Cho et al. 2014), with the reset after the product.

B batch, T time, D input width, H state width. Gates lie side by side in the order r, z, n. Inside, time comes first,
as in lstm.py. Kernels: gru_numpy.py, gru_cpu.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqlib.core.op import Meta, Metas, VjpContext, fused, need_alike, shape_error
from seqlib.core.ops.blocks import float32_only, same_float
from seqlib.core.ops.create import zeros
from seqlib.core.ops.elementwise import sigmoid, tanh, where
from seqlib.core.ops.join import concatenate, split
from seqlib.core.ops.lstm import check_sequence, live_rows, project, weight_gradient
from seqlib.core.ops.matmul import matmul
from seqlib.core.ops.reduce import sum
from seqlib.core.ops.scan import scan
from seqlib.core.ops.shape import reshape, transpose
from seqlib.core.tape import grad_enabled
from seqlib.core.tensor import Tensor, as_tensor


@fused(outs="y h gates states", visible=2, saves="x w b h0 lengths gates states")
def _gru(
    x: Tensor, w: Tensor, b: Tensor, h0: Tensor, lengths: Any = None, *, reverse: bool, independent: bool = False
) -> Any:
    """x [T,B,3H] is what the inputs give the gates; `gates` [T,B,4H] holds r, z, n and the state's share of n;
    `states` what each step starts from."""
    steps, rows, width = x.shape[0], *h0.shape
    if steps == 0:
        empty = zeros((0, rows, width), x.dtype)
        return empty, h0, zeros((0, rows, 4 * width), x.dtype), empty

    def step(h: Tensor, at: tuple[Tensor, Tensor]) -> Any:
        given, own = split(at[0], 3, axis=-1), split(matmul(h, w, False, True) + b, 3, axis=-1)
        r, z = sigmoid(given[0] + own[0]), sigmoid(given[1] + own[1])
        n = tanh(given[2] + r * own[2])
        h_new = n + z * (h - n)
        kept = concatenate([r, z, n, own[2]], axis=-1), h
        return where(at[1], h_new, h), (where(at[1], h_new, 0.0), *kept)

    h, (y, gates, states) = scan(step, h0, (x, live_rows(lengths, steps, rows)), reverse=reverse)
    return y, h, gates, states


@_gru.infer
def _(x: Meta, w: Meta, b: Meta, h0: Meta, lengths: Meta | None, *, reverse: bool, independent: bool) -> list[Meta]:
    check_sequence("gru", 3, x, w, h0, lengths)
    if b.shape != w.shape[:1]:
        raise shape_error("gru", "bias_h", f"{w.shape[:1]}, one for each gate", b.shape)
    need_alike("gru", x=x, bias_h=b)
    (steps, rows, _), width = x.shape, w.shape[1]
    each = Meta((steps, rows, width), x.dtype)
    return [each, h0, Meta((steps, rows, 4 * width), x.dtype), each]


@fused(outs="gx gown gh0", visible=3, differentiable=False)
def gru_bwd(
    w: Tensor, gates: Tensor, states: Tensor, lengths: Any = None, gy: Any = None, gh: Any = None, *, reverse: bool
) -> Any:
    """The gradients of gru, backwards in time, by what the inputs give the gates (gx), by what the state gives them
    (gown) and by h0. With δh = gy + what the later step sends and q the state's share of n: δn = δh (1 - z), δz = δh
    (h - n), δr = δn q, each times the slope of its function; gx = [δr δz δn], gown = [δr δz δn r], and δh z + gown w
    goes to the step before. A step beyond its row's length only hands δh on."""
    steps, rows, width = states.shape
    dh = zeros((rows, width), w.dtype) if gh is None else gh
    if steps == 0:
        empty = zeros((0, rows, 3 * width), w.dtype)
        return empty, empty, dh
    gy = zeros(states.shape, w.dtype) if gy is None else gy

    def step(dh: Tensor, at: Any) -> Any:
        g, live, gate, h = at
        r, z, n, q = split(gate, 4, axis=-1)
        d = g + dh
        dn = d * (1.0 - z) * (1.0 - n * n)
        dz, dr = d * (h - n) * z * (1.0 - z), dn * q * r * (1.0 - r)
        gx, gown = (where(live, concatenate([dr, dz, last], axis=-1), 0.0) for last in (dn, dn * r))
        return where(live, d * z + matmul(gown, w), dh), (gx, gown)

    xs = (gy, live_rows(lengths, steps, rows), gates, states)
    gh0, (gx, gown) = scan(step, dh, xs, reverse=not reverse)
    return gx, gown, gh0


@gru_bwd.infer
def _(w: Meta, gates: Meta, states: Meta, *rest: Any, reverse: bool) -> list[Meta]:
    each = Meta((*states.shape[:2], w.shape[0]), w.dtype)
    return [each, each, Meta(states.shape[1:], w.dtype)]


@_gru.vjp
def _(ctx: VjpContext, gy: Any, gh: Any) -> Sequence[Any]:
    (_, w, _, _, lengths), (*_, gates, states) = ctx.inputs, ctx.outputs
    gx, gown, gh0 = gru_bwd(w, gates, states, lengths, gy, gh, reverse=ctx.attrs["reverse"])
    gw = weight_gradient(gown, states) if ctx.needs[1] else None
    return gx, gw, sum(gown, axis=(0, 1)) if ctx.needs[2] else None, gh0, None


_gru.flops(lambda x, w, *_, **attrs: 2 * x.size * w.shape[1])
gru_bwd.flops(lambda w, gates, states, *_, **attrs: 2 * states.size * w.shape[0])


def _scratch(metas: Metas, attrs: Any) -> list[Meta]:
    """w transposed, a step's product, its gates, the states of two steps and the outputs of one."""
    w, h0 = metas[1], metas[3]
    rows, width = h0.shape
    shapes = ((width, 3 * width), (rows, 3 * width), (1, rows, 4 * width), (3, rows, width))
    return [Meta(shape, w.dtype) for shape in shapes]


def _scratch_bwd(metas: Metas, attrs: Any) -> list[Meta]:
    """What goes to the step before: past the product with w, and through it."""
    states = metas[2]
    return [Meta((2, *states.shape[1:]), states.dtype)]


_gru.cpu("gru_numpy:forward", when=same_float(0, 1, 2, 3), scratch=_scratch)
gru_bwd.cpu("gru_numpy:backward", when=same_float(0, 1, 2, 4, 5), scratch=_scratch_bwd)
_gru.cpu("gru_cpu:forward", needs="numba", when=float32_only(0, 1, 2, 3), scratch=_scratch)
gru_bwd.cpu("gru_cpu:backward", needs="numba", when=float32_only(0, 1, 2, 4, 5), scratch=_scratch_bwd)


def gru(
    x: Tensor,
    w_x: Tensor,
    w_h: Tensor,
    bias_x: Tensor | None = None,
    bias_h: Tensor | None = None,
    h0: Tensor | None = None,
    lengths: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """A GRU layer over sequences (Cho et al. 2014), the reset gate applied after the product, as cuDNN has it.

    With a = x_t w_xᵀ + bias_x and s = h w_hᵀ + bias_h: r = σ(a_r + s_r); z = σ(a_z + s_z); n = tanh(a_n + r s_n);
    h = (1 - z) n + z h.

    x floating [B,T,D]; w_x [3H,D], w_h [3H,H], bias_x and bias_h [3H], rows in the order r, z, n; h0 [B,H] or zeros;
    lengths int32 [B] or all T → outputs [B,T,H] and the last h [B,H]. Lengths and `reverse` mean what they do in
    `lstm`. Raises ShapeError and DtypeError that name the argument.
    """
    x, w_x, w_h = as_tensor(x), as_tensor(w_x), as_tensor(w_h)
    h0 = zeros((x.shape[0], w_h.shape[-1]), x.dtype) if h0 is None else as_tensor(h0)
    gates = project("gru", x, w_x, None if bias_x is None else as_tensor(bias_x), w_h.shape[0])
    b = zeros(w_h.shape[:1], x.dtype) if bias_h is None else as_tensor(bias_h)
    y, h = _gru(
        gates,
        w_h,
        b,
        h0,
        None if lengths is None else as_tensor(lengths),
        reverse=bool(reverse),
        independent=not grad_enabled(),
    )
    return transpose(y, (1, 0, 2)), h


def gru_step(gates: Tensor, w_h: Tensor, bias_h: Tensor, h: Tensor) -> Tensor:
    """One step of `gru` for rows whose inputs give the gates `gates` [R,3H]; w_h [3H,H], bias_h [3H], h [R,H] → the
    next h. Raises as `gru` does."""
    gates = as_tensor(gates)
    return _gru(reshape(gates, (1, *gates.shape)), w_h, bias_h, h, reverse=False, independent=not grad_enabled())[1]
