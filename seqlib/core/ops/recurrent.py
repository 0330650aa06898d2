"""Recurrent layers over whole sequences: lstm (Hochreiter and Schmidhuber 1997; Gers et al. 2000) and gru (Cho et al.
2014, with the reset after the product).

B batch, T time, D input width, H state width. Gates lie side by side, in the order i, f, g, o and r, z, n. Inside, time
comes first: the products and the state of a step are contiguous then.
"""

from collections.abc import Sequence
from typing import Any

from seqlib.core.op import Meta, Metas, VjpContext, fused, need_alike, need_int, shape_error
from seqlib.core.ops.blocks import float32_only, same_float
from seqlib.core.ops.create import arange, zeros
from seqlib.core.ops.elementwise import less, sigmoid, tanh, where
from seqlib.core.ops.join import concatenate, split
from seqlib.core.ops.matmul import matmul
from seqlib.core.ops.reduce import sum
from seqlib.core.ops.scan import scan
from seqlib.core.ops.shape import reshape, transpose
from seqlib.core.tape import grad_enabled
from seqlib.core.tensor import Tensor, as_tensor

# -- what they share -----------------------------------------------------------------------------------------


def _live_rows(lengths: Any, steps: int, rows: int) -> Tensor:
    """bool [T,B,1]: is step t of row b within its length?"""
    time = reshape(arange(steps), (steps, 1, 1))
    return less(time, steps if lengths is None else reshape(lengths, (1, rows, 1)))


def _check_sequence(op: str, gates: int, x: Meta, w: Meta, h0: Meta, lengths: Meta | None) -> None:
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


def _weight_gradient(gates: Tensor, states: Tensor) -> Tensor:
    """Σ gatesᵀ states over time and batch, as one product, at least float32: [T,B,G], [T,B,H] → [G,H]."""
    rows = states.shape[0] * states.shape[1]
    flat_gates, flat_states = (reshape(a, (rows, a.shape[-1])) for a in (gates, states))
    return matmul(flat_gates, flat_states, True, False, wide=True)


def _project(op: str, x: Tensor, w: Tensor, bias: Any, rows: int) -> Tensor:
    """What the inputs give the gates, all steps in one product: x [B,T,D], w [G,D], bias [G] → [T,B,G]."""
    if x.ndim != 3:
        raise shape_error(op, "x", "[B, T, D]", x.shape)
    if w.ndim != 2 or w.shape != (rows, x.shape[2]):
        raise shape_error(op, "w_x", f"{(rows, x.shape[2])}, the gates and the last axis of x", w.shape)
    if bias is not None and (bias := as_tensor(bias)).shape != (rows,):
        raise shape_error(op, "bias", f"{(rows,)}, one for each gate", bias.shape)
    batch, steps, width = x.shape
    flat = reshape(transpose(x, (1, 0, 2)), (steps * batch, width))
    gates = matmul(flat, w, False, True)
    return reshape(gates if bias is None else gates + bias, (steps, batch, rows))


# -- lstm ----------------------------------------------------------------------------------------------------


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
        step, (h0, c0), (x, _live_rows(lengths, steps, rows)), reverse=reverse
    )
    return y, h, c, gates, cells, tanhs, states


@_lstm.infer
def _(x: Meta, w: Meta, h0: Meta, c0: Meta, lengths: Meta | None, *, reverse: bool, independent: bool) -> list[Meta]:
    _check_sequence("lstm", 4, x, w, h0, lengths)
    if c0 != h0:
        raise shape_error("lstm", "c0", f"{h0.dtype} {h0.shape}, as h0", f"{c0.dtype} {c0.shape}")
    each = Meta((x.shape[0], *h0.shape), x.dtype)
    return [each, h0, h0, x, each, each, each]


@fused(outs="gx gh0 gc0", visible=3, differentiable=False)
def lstm_bwd(*given: Any, reverse: bool) -> Any:
    """The gradients of lstm by x, h0 and c0, backwards in time (Werbos 1990). With δh = gy + what the later step sends:
    δo = δh t, δc = δh o (1 - t²) + δc f of the later step, δi = δc g, δf = δc c, δg = δc i, each times the slope of
    its function; gx is these, and gx w is sent to the step before. A step beyond its row's length only hands δh and δc
    on."""
    w, gates, cells, tanhs, lengths, gy, gh, gc = given
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

    xs = (gy, _live_rows(lengths, steps, rows), gates, cells, tanhs)
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
    return gx, _weight_gradient(gx, states) if ctx.needs[1] else None, gh0, gc0, None


_lstm.flops(lambda x, w, *_, **attrs: 2 * x.size * w.shape[1])
lstm_bwd.flops(lambda w, gates, *_, **attrs: 2 * gates.size * w.shape[1])


def _lstm_scratch(metas: Metas, attrs: Any) -> list[Meta]:
    """w transposed, the gates of a step, cells and states of two steps, and the tanhs and outputs of one."""
    (rows, width), dtype = metas[2].shape, metas[1].dtype
    return [Meta((width, 4 * width), dtype), Meta((rows, 4 * width), dtype), Meta((6, rows, width), dtype)]


def _lstm_bwd_scratch(metas: Metas, attrs: Any) -> list[Meta]:
    """What goes to the step before: through the product with w, and past it; the cells' share."""
    return [Meta((3, *metas[2].shape[1:]), metas[2].dtype)]


def _lstm_numba_scratch(metas: Metas, attrs: Any) -> list[Meta]:
    """w in rows of whole cache lines, the gates of a step, states of two, and cells."""
    (rows, width), wide = metas[2].shape, -(-metas[2].shape[1] // 16) * 16
    return [Meta(s, metas[1].dtype) for s in ((4 * width, wide), (rows, 4 * width), (2, rows, wide), (rows, width))]


def _lstm_bwd_numba_scratch(metas: Metas, attrs: Any) -> list[Meta]:
    """As _lstm_bwd_scratch, and w transposed."""
    gates, width = metas[0].shape
    return [*_lstm_bwd_scratch(metas, attrs), Meta((width, -(-gates // 16) * 16), metas[0].dtype)]


_lstm.cpu("lstm_numpy:forward", when=same_float(0, 1, 2, 3), scratch=_lstm_scratch)
lstm_bwd.cpu("lstm_numpy:backward", when=same_float(0, 1, 2, 3, 5, 6, 7), scratch=_lstm_bwd_scratch)
_lstm.cpu("lstm_cpu:forward", needs="numba", when=float32_only(0, 1, 2, 3, units=1), scratch=_lstm_numba_scratch)
lstm_bwd.cpu(
    "lstm_cpu:backward", needs="numba", when=float32_only(0, 1, 2, 3, 5, 6, 7, units=0), scratch=_lstm_bwd_numba_scratch
)


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
    gates = _project("lstm", x, w_x, bias, w_h.shape[0])
    y, h, c = _lstm(gates, w_h, h0, c0, lengths, reverse=bool(reverse), independent=not grad_enabled())
    return transpose(y, (1, 0, 2)), h, c


def lstm_step(gates: Tensor, w_h: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One step of `lstm` for rows whose inputs give the gates `gates` [R,4H]; w_h [4H,H], h and c [R,H] → the next h
    and c. Raises as `lstm` does."""
    gates = as_tensor(gates)
    y, _, c = _lstm(reshape(gates, (1, *gates.shape)), w_h, h, c, reverse=False, independent=not grad_enabled())
    return reshape(y, y.shape[1:]), c


# -- gru -----------------------------------------------------------------------------------------------------


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

    h, (y, gates, states) = scan(step, h0, (x, _live_rows(lengths, steps, rows)), reverse=reverse)
    return y, h, gates, states


@_gru.infer
def _(x: Meta, w: Meta, b: Meta, h0: Meta, lengths: Meta | None, *, reverse: bool, independent: bool) -> list[Meta]:
    _check_sequence("gru", 3, x, w, h0, lengths)
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

    xs = (gy, _live_rows(lengths, steps, rows), gates, states)
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
    gw = _weight_gradient(gown, states) if ctx.needs[1] else None
    return gx, gw, sum(gown, axis=(0, 1)) if ctx.needs[2] else None, gh0, None


_gru.flops(lambda x, w, *_, **attrs: 2 * x.size * w.shape[1])
gru_bwd.flops(lambda w, gates, states, *_, **attrs: 2 * states.size * w.shape[0])


def _gru_scratch(metas: Metas, attrs: Any) -> list[Meta]:
    """w transposed, a step's product, its gates, the states of two steps and the outputs of one."""
    rows, width = metas[3].shape
    shapes = ((width, 3 * width), (rows, 3 * width), (1, rows, 4 * width), (3, rows, width))
    return [Meta(shape, metas[1].dtype) for shape in shapes]


def _gru_bwd_scratch(metas: Metas, attrs: Any) -> list[Meta]:
    """What goes to the step before: past the product with w, and through it."""
    return [Meta((2, *metas[2].shape[1:]), metas[2].dtype)]


_gru.cpu("gru_numpy:forward", when=same_float(0, 1, 2, 3), scratch=_gru_scratch)
gru_bwd.cpu("gru_numpy:backward", when=same_float(0, 1, 2, 4, 5), scratch=_gru_bwd_scratch)
_gru.cpu("gru_cpu:forward", needs="numba", when=float32_only(0, 1, 2, 3), scratch=_gru_scratch)
gru_bwd.cpu("gru_cpu:backward", needs="numba", when=float32_only(0, 1, 2, 4, 5), scratch=_gru_bwd_scratch)


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
    gates = _project("gru", x, w_x, bias_x, w_h.shape[0])
    b = zeros(w_h.shape[:1], x.dtype) if bias_h is None else bias_h
    y, h = _gru(gates, w_h, b, h0, lengths, reverse=bool(reverse), independent=not grad_enabled())
    return transpose(y, (1, 0, 2)), h


def gru_step(gates: Tensor, w_h: Tensor, bias_h: Tensor, h: Tensor) -> Tensor:
    """One step of `gru` for rows whose inputs give the gates `gates` [R,3H]; w_h [3H,H], bias_h [3H], h [R,H] → the
    next h. Raises as `gru` does."""
    gates = as_tensor(gates)
    return _gru(reshape(gates, (1, *gates.shape)), w_h, bias_h, h, reverse=False, independent=not grad_enabled())[1]
