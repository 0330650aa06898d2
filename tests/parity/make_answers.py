"""Make the stored answers of the parity tests with PyTorch 2.13.0; the tests themselves do without it.

    python3 -m venv /tmp/torch && /tmp/torch/bin/pip install torch==2.13.0 numpy
    /tmp/torch/bin/python tests/parity/make_answers.py

Every case draws float32 inputs from a seed that is its name, computes in float64, and stores inputs, outputs, the
cotangents of the floating outputs, the gradients of the floating inputs, and for some cases the second gradients:
the gradient of (gradient · u) with u = the input.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformer_reference import transformer_answers

ANSWERS = Path(__file__).parent / "answers"
Spec = Any  # a shape, or an array
Case = tuple[Callable[..., Any], tuple[Spec, ...], dict[str, Any]]
CASES: dict[str, dict[str, Case]] = {}


def case(family: str, name: str, fn: Callable[..., Any], *inputs: Spec, **options: Any) -> None:
    CASES.setdefault(family, {})[name] = (fn, inputs, options)


def ids(seed: int, size: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, size, shape).astype(np.int64)


# -- elementwise -----------------------------------------------------------------------------------

S = (3, 5)
POSITIVE = {"positive": True}
for name in ("exp", "tanh", "sigmoid", "relu", "sin", "cos", "erf", "neg", "abs", "square", "floor", "sign"):
    case("elementwise", name, getattr(torch, name), (4, 9), second=name in ("exp", "tanh", "sigmoid", "sin", "erf"))
for name in ("log", "sqrt", "rsqrt"):
    case("elementwise", name, getattr(torch, name), (4, 9), second=True, **POSITIVE)
case("elementwise", "gelu", F.gelu, (4, 9), second=True)
case("elementwise", "gelu_tanh", lambda x: F.gelu(x, approximate="tanh"), (4, 9), second=True)
case("elementwise", "silu", F.silu, (4, 9), second=True)
case("elementwise", "add", torch.add, (3, 1, 5), (4, 1))
case("elementwise", "sub", torch.sub, S, (5,))
case("elementwise", "mul", torch.mul, S, (3, 1), second=True)
case("elementwise", "div", torch.div, S, (5,), second=True, **POSITIVE)
case("elementwise", "power", torch.pow, S, S, second=True, **POSITIVE)
case("elementwise", "maximum", torch.maximum, S, S)
case("elementwise", "minimum", torch.minimum, S, (5,))
TIES = np.float32([[1, 2, 2], [3, 3, 3]])
case("elementwise", "maximum_ties", torch.maximum, TIES, TIES[:, ::-1].copy())
MASK = np.random.default_rng(0).random((3, 5)) > 0.5
case("elementwise", "where", torch.where, MASK, S, (5,))
for name in ("less", "greater_equal", "equal", "not_equal"):
    compare = {"equal": torch.eq, "not_equal": torch.ne}.get(name) or getattr(torch, name)
    case("elementwise", name, compare, TIES, TIES[:, ::-1].copy())
ODD = np.float32([0, -np.inf, np.inf, np.nan, 1])
for name in ("isnan", "isinf", "isfinite"):
    case("elementwise", name, getattr(torch, name), ODD)

# -- reductions ------------------------------------------------------------------------------------

R = (3, 4, 5)
case("reduce", "sum", lambda x: x.sum((0, 2)), R)
case("reduce", "mean", lambda x: x.mean(1, keepdim=True), R)
case("reduce", "max", lambda x: x.amax((0, 1)), R)
case("reduce", "min", lambda x: x.amin(-1), R)
case("reduce", "max_ties", lambda x: x.amax(-1), TIES)
case("reduce", "var", lambda x: x.var((0, 2), correction=0), R, second=True)
case("reduce", "var_ddof1", lambda x: x.var(1, correction=1), R)
case("reduce", "logsumexp", lambda x: x.logsumexp((0, 2)), R, second=True)
case("reduce", "cumsum", lambda x: x.cumsum(1), R)
case("reduce", "argmax", lambda x: x.argmax(1), R)
case("reduce", "argmin", lambda x: x.argmin(), R)
case("reduce", "any", lambda m: m.any(0), MASK)
case("reduce", "all", lambda m: m.all(1), MASK)

# -- shapes, indices, sorting ----------------------------------------------------------------------

case("shape", "reshape", lambda x: x.transpose(0, 1).reshape(2, -1), (4, 6))
case("shape", "transpose", lambda x: x.permute(2, 0, 1), R)
case("shape", "concatenate", lambda a, b: torch.cat([a, b], 1), (2, 3, 4), (2, 1, 4))
case("shape", "stack", lambda a, b: torch.stack([a, b], -1), S, S)
case("shape", "split", lambda x: x.split([1, 3], 1), R)
case("shape", "slice", lambda x: x[1:, ::2, -2:], R)
case("shape", "flip", lambda x: x.flip(0, 2), R)
case("shape", "pad", lambda x: F.pad(x, (0, 2, 1, 3), value=-1.5), S)
case("shape", "broadcast_to", lambda x: x.expand(2, 3, 5), (3, 1))
case("shape", "take", lambda x, i: x[:, i], R, ids(1, 4, 2, 3))
case("shape", "gather", lambda x, i: x.gather(1, i), R, ids(2, 4, 3, 6, 5))
case("shape", "scatter_add", lambda x, i, u: x.index_add(0, i, u), S, ids(3, 3, 7), (7, 5))
case("shape", "index_neighbours", lambda x, i, j: x[:, i, j], R, ids(4, 4, 6), ids(5, 5, 6))
case("shape", "index_apart", lambda x, i, j: x[i, :, j], R, ids(6, 3, 2, 1), ids(7, 5, 3))
case("shape", "index_mask", lambda x, m: x[m], S, MASK)
case("shape", "sort", lambda x: x.sort(0).values, R)
case("shape", "sort_descending", lambda x: x.sort(dim=-1, descending=True, stable=True).values, R)
case("shape", "argsort", lambda x: x.argsort(dim=1, stable=True), R)
case("shape", "top_k", lambda x: tuple(x.topk(3)), (4, 17))
case("shape", "one_hot", lambda i: F.one_hot(i, 6), ids(8, 6, 2, 3))
for ta in (False, True):
    for tb in (False, True):
        a, b = ((7, 5) if ta else (5, 7)), ((3, 7) if tb else (7, 3))

        def product(a: Tensor, b: Tensor, ta: bool = ta, tb: bool = tb) -> Tensor:
            return (a.mT if ta else a) @ (b.mT if tb else b)

        case("matmul", f"matmul_{ta:d}{tb:d}", product, a, b, second=True)
case("matmul", "matmul_batched", torch.matmul, (2, 1, 5, 7), (3, 7, 4))
case("matmul", "matmul_shared", torch.matmul, (2, 3, 5, 7), (7, 4))
case("matmul", "matmul_vector", torch.matmul, (5, 7), (7,))

# -- the fused ops ---------------------------------------------------------------------------------

case("fused", "softmax", lambda x: x.softmax(-1), R, second=True)
case("fused", "softmax_axis0", lambda x: x.softmax(0), R)
case("fused", "log_softmax", lambda x: x.log_softmax(-1), R, second=True)
case("fused", "layer_norm", lambda x, w, b: F.layer_norm(x, (9,), w, b, 1e-5), (4, 3, 9), (9,), (9,), second=True)
case("fused", "embedding", lambda i, w: F.embedding(i, w), ids(9, 7, 3, 11), (7, 4))
TARGETS = np.where(np.arange(11) % 4 == 3, -1, ids(10, 13, 11))


def loss(logits: Tensor, targets: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    total = F.cross_entropy(logits, targets, ignore_index=-1, reduction="sum", label_smoothing=smoothing)
    return total, (targets != -1).sum().to(logits.dtype).detach()


for smoothing in (0.0, 0.1):
    tag = "_smoothed" if smoothing else ""
    case("fused", f"cross_entropy{tag}", lambda x, t, s=smoothing: loss(x, t, s), (11, 13), TARGETS, second=True)
    case(
        "fused",
        f"linear_cross_entropy{tag}",
        lambda x, w, t, s=smoothing: loss(x @ w.T, t, s),
        (11, 6),
        (13, 6),
        TARGETS,
    )


def attend(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None, bias: Tensor | None = None) -> Tensor:
    """[B,T,H,K], [B,S,Hk,K] → [B,T,H,K]; `hidden` is true where a query may not look."""
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    k, v = (t.repeat_interleave(q.shape[1] // k.shape[1], 1) for t in (k, v))
    scores = q @ k.mT * q.shape[-1] ** -0.5
    if bias is not None:
        scores = scores + bias
    if hidden is not None:
        scores = scores.masked_fill(hidden, -torch.inf)
    blind = torch.isinf(scores).all(-1, keepdim=True)
    weights = scores.masked_fill(blind, 0.0).softmax(-1).masked_fill(blind, 0.0)
    return (weights @ v).transpose(1, 2)


def future(t: int, s: int) -> Tensor:
    return torch.arange(s) > torch.arange(t)[:, None] + (s - t)


def beyond(lengths: Tensor, s: int) -> Tensor:
    return (torch.arange(s) >= lengths[:, None])[:, None, None, :]


Q, KV = (2, 5, 4, 3), (2, 7, 4, 3)
LENGTHS = np.int64([7, 4])
case("fused", "attention", lambda q, k, v: attend(q, k, v, None), Q, KV, KV, second=True)
case("fused", "attention_causal", lambda q, k, v: attend(q, k, v, future(5, 5)), Q, Q, Q, second=True)
case("fused", "attention_causal_longer", lambda q, k, v: attend(q, k, v, future(5, 7)), Q, KV, KV)
case("fused", "attention_causal_shorter", lambda q, k, v: attend(q, k, v, future(7, 5)), KV, Q, Q)
case("fused", "attention_lengths", lambda q, k, v, n: attend(q, k, v, beyond(n, 7)), Q, KV, KV, LENGTHS)
case("fused", "attention_grouped", lambda q, k, v: attend(q, k, v, None), Q, (2, 7, 2, 3), (2, 7, 2, 3))
case("fused", "attention_bias", lambda q, k, v, b: attend(q, k, v, None, b), Q, KV, KV, (4, 5, 7))


def packed(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """Segments 0:3 and 3:5 of the queries over 0:4 and 4:6 of the keys; the last query has none."""
    parts = []
    for (a, b), (c, d) in (((0, 3), (0, 4)), ((3, 5), (4, 6))):
        hidden = future(b - a, d - c) if causal else None
        parts.append(attend(q[None, a:b], k[None, c:d], v[None, c:d], hidden)[0])
    return torch.cat([*parts, torch.zeros_like(q[5:])])


case("fused", "attention_packed", lambda q, k, v: packed(q, k, v, False), (6, 2, 3), (6, 2, 3), (6, 2, 3))
case("fused", "attention_packed_causal", lambda q, k, v: packed(q, k, v, True), (6, 2, 3), (6, 2, 3), (6, 2, 3))


# -- recurrent layers --------------------------------------------------------------------------------


def recurrent(
    kind: type[torch.nn.RNNBase], x: Tensor, weights: list[Tensor], states: list[Tensor], lengths: Tensor, reverse: bool
) -> tuple[Tensor, ...]:
    """A layer over x [B,T,D]: outputs, 0 beyond a length, and the last states; `reverse` goes from each row's end."""
    steps = torch.arange(x.shape[1])
    back = (lengths[:, None] - 1 - steps) % x.shape[1] if reverse else steps.expand(x.shape[:2])
    layer = kind(x.shape[2], states[0].shape[1], batch_first=True).double()
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    rows = torch.nn.utils.rnn.pack_padded_sequence(
        x.take_along_dim(back[..., None], 1), lengths, batch_first=True, enforce_sorted=False
    )
    given = tuple(s[None] for s in states)
    given = given if kind is torch.nn.LSTM else given[0]
    y, last = torch.func.functional_call(layer, dict(zip(names, weights)), (rows, given))
    y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])
    y = y.take_along_dim(back[..., None], 1) * (steps < lengths[:, None])[..., None]
    return y, *(s[0] for s in (last if isinstance(last, tuple) else (last,)))


X, STEPS = (3, 6, 5), np.int64([6, 2, 4])
for reverse in (False, True):
    tag = "_reverse" if reverse else ""
    case(
        "recurrent",
        f"lstm{tag}",
        lambda x, wx, wh, b, h, c, n, r=reverse: recurrent(
            torch.nn.LSTM, x, [wx, wh, b, torch.zeros_like(b)], [h, c], n, r
        ),
        X, (16, 5), (16, 4), (16,), (3, 4), (3, 4), STEPS, second=True,
    )  # fmt: skip
    case(
        "recurrent",
        f"gru{tag}",
        lambda x, wx, wh, bx, bh, h, n, r=reverse: recurrent(torch.nn.GRU, x, [wx, wh, bx, bh], [h], n, r),
        X, (12, 5), (12, 4), (12,), (12,), (3, 4), STEPS, second=True,
    )  # fmt: skip


# -- computing and storing -------------------------------------------------------------------------


def draw(name: str, inputs: tuple[Spec, ...], positive: bool) -> list[np.ndarray]:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    arrays = []
    for spec in inputs:
        x = rng.normal(size=spec).astype(np.float32) if isinstance(spec, tuple) else spec
        arrays.append(np.abs(x) + np.float32(0.2) if positive else x)
    return arrays


def answer(name: str, case: Case) -> dict[str, np.ndarray]:
    fn, inputs, options = case
    arrays = draw(name, inputs, options.get("positive", False))
    tensors = [torch.tensor(a) for a in arrays]
    tensors = [t.double().requires_grad_() if t.is_floating_point() else t for t in tensors]
    stored: dict[str, np.ndarray] = {}
    for i, a in enumerate(arrays):
        stored[f"in{i}"] = a.astype(np.int32) if a.dtype == np.int64 else a
    result = fn(*tensors)
    outs = list(result) if isinstance(result, (tuple, list)) else [result]
    for i, out in enumerate(outs):
        stored[f"out{i}"] = out.detach().numpy()
    tracked = [(i, o) for i, o in enumerate(outs) if o.requires_grad]
    if not tracked:
        return stored
    cotangents = [torch.tensor(c) for c in draw(name + "'", tuple(tuple(o.shape) for _, o in tracked), False)]
    for (i, _), c in zip(tracked, cotangents):
        stored[f"cotangent{i}"] = c.numpy()
    leaves = [(i, t) for i, t in enumerate(tensors) if t.requires_grad]
    total = sum((o * c).sum() for (_, o), c in zip(tracked, cotangents))
    grads = torch.autograd.grad(total, [t for _, t in leaves], create_graph=True)
    for (i, _), g in zip(leaves, grads):
        stored[f"grad{i}"] = g.detach().numpy()
    if options.get("second"):
        along = sum((g * t.detach()).sum() for g, (_, t) in zip(grads, leaves))
        for (i, _), g in zip(leaves, torch.autograd.grad(along, [t for _, t in leaves], materialize_grads=True)):
            stored[f"second{i}"] = g.numpy()
    return stored


def adamw_answers() -> dict[str, np.ndarray]:
    """Five steps of AdamW on a matrix that decays and a vector that does not, clipped to a global norm of 1."""
    rng = np.random.default_rng(0)
    w, b = rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    grads = rng.normal(size=(5, 15)).astype(np.float32) * np.float32([2, 0.1, 1, 3, 0.01])[:, None]
    stored = {"w": w, "b": b, "grads": grads}
    tw, tb = torch.tensor(w).double().requires_grad_(), torch.tensor(b).double().requires_grad_()
    groups = [{"params": [tw], "weight_decay": 0.1}, {"params": [tb], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.98), eps=1e-9)
    norms, after_w, after_b = [], [], []
    for t, g in enumerate(torch.tensor(grads).double()):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (t + 1)
        tw.grad, tb.grad = g[:12].reshape(4, 3).clone(), g[12:].clone()
        norms.append(torch.nn.utils.clip_grad_norm_([tw, tb], 1.0).item())
        optimizer.step()
        after_w.append(tw.detach().numpy().copy())
        after_b.append(tb.detach().numpy().copy())
    return {**stored, "norms": np.array(norms), "after_w": np.array(after_w), "after_b": np.array(after_b)}


def main() -> None:
    torch.manual_seed(0)
    ANSWERS.mkdir(exist_ok=True)
    for family, cases in CASES.items():
        stored = {f"{name}/{k}": v for name, c in cases.items() for k, v in answer(name, c).items()}
        np.savez_compressed(ANSWERS / f"{family}.npz", **stored)
    np.savez_compressed(ANSWERS / "adamw.npz", **adamw_answers())
    for name, stored in transformer_answers().items():
        np.savez_compressed(ANSWERS / f"{name}.npz", **stored)
    total = sum(f.stat().st_size for f in ANSWERS.glob("*.npz"))
    print(f"{sum(map(len, CASES.values()))} cases, {total / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
