"""A new vocabulary for a pretrained model: rows of its embeddings for other pieces.

A piece that both tokenizers have keeps its row; a new one begins with the mean of the rows of the old pieces that
spell it (Gee et al. 2022, "Fast Vocabulary Transfer"); old ones that the new tokenizer lacks are dropped.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from seqlib.util.errors import UsageError

_ROWS = re.compile(r"embedding\.weight|output_weight|output_bias")


def transplanted(weights: Mapping[str, np.ndarray], size: int, rows: list[list[int]]) -> dict[str, np.ndarray]:
    """The `weights` of a model with a vocabulary of `size` for another one: row i of embeddings and output weights is
    the mean of their rows `rows[i]`, of all where that is empty."""
    found = dict(weights)
    for name, old in weights.items():
        if _ROWS.search(name) and len(old) == size:
            mean = old.mean(0)
            found[name] = np.stack([old[own].mean(0) if own else mean for own in rows]).astype(old.dtype)
    return found


def rows_of(old: Any, old_spec: Any, new: Any, new_spec: Any) -> tuple[list[list[int]], dict[str, int]]:
    """For each piece of the tokenizer `new` those of `old` that its row is made of, the specs saying which ids begin,
    end and fill; and how many pieces are reused, added and dropped."""
    known = {_surface(old, token): token for token in reversed(range(old.vocab_size))}
    special = {getattr(new_spec, name): getattr(old_spec, name) for name in ("pad_id", "bos_id", "eos_id")}
    special |= {new.unk_id: old.unk_id} if old.unk_id >= 0 else {}
    rows: list[list[int]] = []
    reused: list[int] = []
    for token in range(new.vocab_size):
        surface = _surface(new, token)
        kept = special.get(token, known.get(surface))
        rows.append(_spelt(old, surface) if kept is None else [kept])
        reused += [] if kept is None else [kept]
    dropped = old.vocab_size - len(set(reused))
    return rows, {"reused": len(reused), "added": len(rows) - len(reused), "dropped": dropped}


def _surface(tokenizer: Any, token: int) -> str:
    """What a piece stands for, with ▁ for a space."""
    try:
        piece = tokenizer.piece(token)
    except (KeyError, IndexError, UsageError):  # a row that no piece has
        return f"\0{token}"
    if getattr(tokenizer, "byte_level", False):
        piece = tokenizer.decode([token]) or piece
    return piece.replace(" ", "▁")


def _spelt(old: Any, surface: str) -> list[int]:
    """The old pieces of a text, without the space that a tokenizer puts before it and what is unknown; none of a
    byte."""
    if surface.startswith("<0x"):
        return []
    ids = [token for token in old.encode(surface.replace("▁", " ")) if token != old.unk_id]
    return ids[1:] if ids and not surface.startswith("▁") and _surface(old, ids[0]) == "▁" else ids
