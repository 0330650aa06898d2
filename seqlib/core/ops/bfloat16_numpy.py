"""The CPU kernel of bfloat16_product, by oneDNN: a bias and an activation are added while a tile is in registers."""

from typing import Any

from seqlib.core.backends import onednn_cpu as onednn


def product(outs: Any, ins: Any, scratch: Any, *, width: int, activation: str) -> None:
    """The kernel of bfloat16_product."""
    x, words, bias = ins
    onednn.product(x, words, outs[0], True, bias=bias, activation=activation)
