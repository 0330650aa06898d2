"""lstm: a layer of long short-term memory over whole sequences (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

B batch, T time, D input width, H state width. Gates lie side by side in the order i, f, g, o. Inside, time comes first:
the products and the state of a step are contiguous then. Kernels: lstm_numpy.py, lstm_cpu.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqlib.core.op import Meta, Metas, VjpContext, fused, need_alike, need_int, shape_error
from seqlib.core.ops.blocks import float32_only, same_float
from seqlib.core.ops.create import arange, zeros
from seqlib.core.ops.elementwise import less, sigmoid, tanh, where
from seqlib.core.ops.join import concatenate, split
from seqlib.core.ops.matmul import matmul
from seqlib.core.ops.scan import scan
from seqlib.core.ops.shape import reshape, transpose
from seqlib.core.tape import grad_enabled
from seqlib.core.tensor import Tensor, as_tensor


def live_rows(lengths: Any, steps: int, rows: int) -> Tensor:
    """bool [T,B,1]: is step t of row b within its length?"""
    time = reshape(arange(steps), (steps, 1, 1))
    return less(time, steps if lengths is None else reshape(lengths, (1, rows, 1)))


@fused(outs="y h c gates cells tanhs states", visible=3, saves="x w h0 c0 lengths gates cells tanhs states")
def _lstm(
    x: Tensor, w: Tensor, h0: Tensor, c0: Tensor, lengths: Any = None, *, reverse: bool, independent: bool = False
) -> Any:
    """x [T,B,4H] is what the inputs give the gates; `cells` and `states` hold what each step starts from."""
    steps, rows, width = x.shape[0], *h0.shape
    if steps == 0:
        empty = zeros((0, rows, width), x.dtype)
        return empty, h0, c0, zeros(x.shape, x.dtype), empty, empty, empty

    def step(carry: tuple[Tensor, Tensor], at: tuple[Tensor, Tensor]) -> Any:
        h, c = carry
        i, f, g, o = split(at[0] + matmul(h, w, False, True), 4, axis=-1)
        i, f, g, o = sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)
        c_new = f * c + i * g
        t = tanh(c_new)
        h_new = o * t
        after = where(at[1], h_new, h), where(at[1], c_new, c)
        return after, (where(at[1], h_new, 0.0), concatenate([i, f, g, o], axis=-1), c, t, h)

    (h, c), (y, gates, cells, tanhs, states) = scan(
        step, (h0, c0), (x, live_rows(lengths, steps, rows)), reverse=reverse
    )
    return y, h, c, gates, cells, tanhs, states


def check_sequence(op: str, gates: int, x: Meta, w: Meta, h0: Meta, lengths: Meta | None) -> None:
    """What lstm and gru ask of x [T,B,gates·H], w [gates·H,H], h0 [B,H] and lengths [B]."""
    need_alike(op, x=x, w_h=w, h0=h0)
    if len(w.shape) != 2 or w.shape[0] != gates * w.shape[1] or w.shape[1] == 0:
        raise shape_error(op, "w_h", f"[{gates}·H, H]", w.shape)
    if len(x.shape) != 3 or x.shape[2] != w.shape[0]:
        expected = f"of {w.shape[0]} gates after its projection (w_h is {w.shape})"
        raise shape_error(op, "x", expected, x.shape)
    if h0.shape != (x.shape[1], w.shape[1]):
        raise shape_error(op, "h0", f"[B, H] = {(x.shape[1], w.shape[1])}", h0.shape)
    if lengths is not None:
        need_int(op, "lengths", lengths)
        if lengths.shape != x.shape[1:2]:
            raise shape_error(op, "lengths", f"[B] = {x.shape[1:2]}", lengths.shape)


@_lstm.infer
def _(x: Meta, w: Meta, h0: Meta, c0: Meta, lengths: Meta | None, *, reverse: bool, independent: bool) -> list[Meta]:
    check_sequence("lstm", 4, x, w, h0, lengths)
    if c0 != h0:
        raise shape_error("lstm", "c0", f"{h0.dtype} {h0.shape}, as h0", f"{c0.dtype} {c0.shape}")
    each = Meta((x.shape[0], *h0.shape), x.dtype)
    return [each, h0, h0, x, each, each, each]


@fused(outs="gx gh0 gc0", visible=3, differentiable=False)
def lstm_bwd(
    w: Tensor,
    gates: Tensor,
    cells: Tensor,
    tanhs: Tensor,
    lengths: Any = None,
    gy: Any = None,
    gh: Any = None,
    gc: Any = None,
    *,
    reverse: bool,
) -> Any:
    """The gradients of lstm by x, h0 and c0, backwards in time (Werbos 1990). With δh = gy + what the later step sends:
    δo = δh t, δc = δh o (1 - t²) + δc f of the later step, δi = δc g, δf = δc c, δg = δc i, each times the slope of
    its function; gx is these, and gx w is sent to the step before. A step beyond its row's length only hands δh and δc
    on."""
    steps, rows, width = cells.shape
    start = tuple(zeros((rows, width), w.dtype) if g is None else g for g in (gh, gc))
    if steps == 0:
        return zeros(gates.shape, w.dtype), *start
    gy = zeros(cells.shape, w.dtype) if gy is None else gy

    def step(carry: tuple[Tensor, Tensor], at: Any) -> Any:
        dh, dc = carry
        g_out, live, gate, cell, t = at
        i, f, g, o = split(gate, 4, axis=-1)
        d_out = g_out + dh
        d_cell = dc + d_out * o * (1.0 - t * t)
        di, df = d_cell * g * i * (1.0 - i), d_cell * cell * f * (1.0 - f)
        dg, do = d_cell * i * (1.0 - g * g), d_out * t * o * (1.0 - o)
        d_gates = where(live, concatenate([di, df, dg, do], axis=-1), 0.0)
        return (where(live, matmul(d_gates, w), dh), where(live, d_cell * f, dc)), d_gates

    xs = (gy, live_rows(lengths, steps, rows), gates, cells, tanhs)
    (gh0, gc0), gx = scan(step, start, xs, reverse=not reverse)
    return gx, gh0, gc0


@lstm_bwd.infer
def _(w: Meta, gates: Meta, cells: Meta, *rest: Any, reverse: bool) -> list[Meta]:
    state = Meta(cells.shape[1:], w.dtype)
    return [gates, state, state]


@_lstm.vjp
def _(ctx: VjpContext, gy: Any, gh: Any, gc: Any) -> Sequence[Any]:
    (_, w, _, _, lengths), (*_, gates, cells, tanhs, states) = ctx.inputs, ctx.outputs
    gx, gh0, gc0 = lstm_bwd(w, gates, cells, tanhs, lengths, gy, gh, gc, reverse=ctx.attrs["reverse"])
    return gx, weight_gradient(gx, states) if ctx.needs[1] else None, gh0, gc0, None


def weight_gradient(gates: Tensor, states: Tensor) -> Tensor:
    """Σ gatesᵀ states over time and batch, as one product: [T,B,G], [T,B,H] → [G,H]."""
    rows = states.shape[0] * states.shape[1]
    flat_gates, flat_states = (reshape(a, (rows, a.shape[-1])) for a in (gates, states))
    return matmul(flat_gates, flat_states, True, False)


_lstm.flops(lambda x, w, *_, **attrs: 2 * x.size * w.shape[1])
lstm_bwd.flops(lambda w, gates, *_, **attrs: 2 * gates.size * w.shape[1])


def _scratch(metas: Metas, attrs: Any) -> list[Meta]:
    """w transposed, the gates of a step, cells and states of two steps, and the tanhs and outputs of one."""
    _, w, h0 = metas[:3]
    (rows, width), dtype = h0.shape, w.dtype
    return [Meta((width, 4 * width), dtype), Meta((rows, 4 * width), dtype), Meta((6, rows, width), dtype)]


def _scratch_bwd(metas: Metas, attrs: Any) -> list[Meta]:
    """What goes to the step before: through the product with w, and past it; the cells' share."""
    cells = metas[2]
    return [Meta((3, *cells.shape[1:]), cells.dtype)]


_lstm.cpu("lstm_numpy:forward", when=same_float(0, 1, 2, 3), scratch=_scratch)
lstm_bwd.cpu("lstm_numpy:backward", when=same_float(0, 1, 2, 3, 5, 6, 7), scratch=_scratch_bwd)
_lstm.cpu("lstm_cpu:forward", needs="numba", when=float32_only(0, 1, 2, 3), scratch=_scratch)
lstm_bwd.cpu("lstm_cpu:backward", needs="numba", when=float32_only(0, 1, 2, 3, 5, 6, 7), scratch=_scratch_bwd)


# -- the public function -------------------------------------------------------------------------------------


def project(op: str, x: Tensor, w: Tensor, bias: Any, rows: int) -> Tensor:
    """What the inputs give the gates, all steps in one product: x [B,T,D], w [G,D], bias [G] → [T,B,G]."""
    if x.ndim != 3:
        raise shape_error(op, "x", "[B, T, D]", x.shape)
    if w.ndim != 2 or w.shape != (rows, x.shape[2]):
        raise shape_error(op, "w_x", f"{(rows, x.shape[2])}, the gates and the last axis of x", w.shape)
    if bias is not None and bias.shape != (rows,):
        raise shape_error(op, "bias", f"{(rows,)}, one for each gate", bias.shape)
    batch, steps, width = x.shape
    flat = reshape(transpose(x, (1, 0, 2)), (steps * batch, width))
    gates = matmul(flat, w, False, True)
    return reshape(gates if bias is None else gates + bias, (steps, batch, rows))


def lstm(
    x: Tensor,
    w_x: Tensor,
    w_h: Tensor,
    bias: Tensor | None = None,
    h0: Tensor | None = None,
    c0: Tensor | None = None,
    lengths: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """An LSTM layer over sequences (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    [i f g o] = x_t w_xᵀ + h w_hᵀ + bias; c = σ(f) c + σ(i) tanh(g); h = σ(o) tanh(c).

    x floating [B,T,D]; w_x [4H,D], w_h [4H,H], bias [4H], rows in the order i, f, g, o; h0, c0 [B,H] or zeros; lengths
    int32 [B] or all T → outputs [B,T,H] and the last h and c [B,H]. Beyond a row's length outputs are 0 and its state
    stays; a length of 0 gives back h0 and c0. `reverse` goes through each row from its own last step to its first;
    outputs stay at their places. Raises ShapeError and DtypeError that name the argument.
    """
    x, w_x, w_h = as_tensor(x), as_tensor(w_x), as_tensor(w_h)
    state = (x.shape[0], w_h.shape[-1])
    h0, c0 = (zeros(state, x.dtype) if s is None else as_tensor(s) for s in (h0, c0))
    gates = project("lstm", x, w_x, None if bias is None else as_tensor(bias), w_h.shape[0])
    y, h, c = _lstm(
        gates,
        w_h,
        h0,
        c0,
        None if lengths is None else as_tensor(lengths),
        reverse=bool(reverse),
        independent=not grad_enabled(),
    )
    return transpose(y, (1, 0, 2)), h, c


def lstm_step(gates: Tensor, w_h: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One step of `lstm` for rows whose inputs give the gates `gates` [R,4H]; w_h [4H,H], h and c [R,H] → the next h
    and c. Raises as `lstm` does."""
    gates = as_tensor(gates)
    y, _, c = _lstm(reshape(gates, (1, *gates.shape)), w_h, h, c, reverse=False, independent=not grad_enabled())
    return reshape(y, y.shape[1:]), c
