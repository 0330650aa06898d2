"""The CPU kernel of bfloat16_product, by oneDNN: a bias and an activation are added while a tile is in registers."""

from typing import Any

from seqlib.core.backends import onednn_cpu as onednn


def product(outs: Any, ins: Any, scratch: Any, *, widths: tuple[int, ...], bias: bool, activation: str) -> None:
    """The kernel of bfloat16_product."""
    (x, *rest), out, start = ins, outs[0], 0
    last = rest[-1] if bias else None
    for words, n in zip(rest, widths, strict=False):
        to = slice(start, start := start + n)
        part = (out, last) if n == out.shape[1] else (out[:, to], None if last is None else last[to])
        onednn.product(x, words, part[0], True, bias=part[1], activation=activation)
