"""Text in, what an encoder makes of it out: vectors, words in place of masks, classes.

B texts, T tokens, D model width, C classes.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from seqlib.core import ops
from seqlib.core.compile import compile
from seqlib.core.tape import no_grad
from seqlib.decode.programs import rung
from seqlib.util.errors import UsageError

_ROWS = (1, 4, 8, 16, 32)
_LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, 8192)


class TextEncoder:
    """An encoder `model` with its `tokenizer` (`data.pretrained`), which reads at most `limit` tokens of a text (0: the
    model's longest)."""

    def __init__(self, model: Any, tokenizer: Any, limit: int = 0):
        self.model, self.tokenizer = model.eval(), tokenizer
        self.limit = min(limit or model.config.max_length, model.config.max_length)

        def run(tokens: Any, lengths: Any, types: Any) -> Any:
            with no_grad():
                return self._compute(tokens, lengths, types)

        self._run = compile(run, state=[model])

    def _compute(self, tokens: Any, lengths: Any, types: Any) -> Any:
        """tokens and types int32 [B,T], lengths int32 [B] → what is kept of each row, [B, …]."""
        raise NotImplementedError

    def _rows(self, texts: Sequence[str], others: Sequence[str] | None, batch_rows: int, keep: Callable) -> list[Any]:
        """`keep(result of a row, its length)` for every text, in their order; batches have texts of like lengths."""
        if isinstance(texts, str):
            raise UsageError("expected a list of texts, got one string; pass [text]")
        if others is not None and len(others) != len(texts):
            raise UsageError(f"pairs: expected as many second texts as first ones, {len(texts)}, got {len(others)}")
        if not 1 <= batch_rows <= _ROWS[-1]:
            raise UsageError(f"batch_rows: expected 1 to {_ROWS[-1]}, got {batch_rows}")
        encoded = self.tokenizer.template(texts, others, self.limit) if texts else []
        order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].ids))
        out: list[Any] = [None] * len(encoded)
        for begin in range(0, len(order), batch_rows):
            members = order[begin : begin + batch_rows]
            width = min(rung(len(encoded[members[-1]].ids), _LENGTHS), self.model.config.max_length)
            tokens = np.full((rung(len(members), _ROWS), width), max(self.tokenizer.pad_id, 0), np.int32)
            types, lengths = np.zeros_like(tokens), np.ones(len(tokens), np.int32)
            for row, i in enumerate(members):
                n = lengths[row] = len(encoded[i].ids)
                tokens[row, :n], types[row, :n] = encoded[i].ids, encoded[i].types
            results = self._run(tokens, lengths, types).numpy()
            for row, i in enumerate(members):
                out[i] = keep(results[row], encoded[i])
        return out


class Embedder(TextEncoder):
    """Vectors of texts: the mean of a text's rows ("mean"), its first row ("cls") or their maxima ("max"), by
    `pooling`; with `normalise` of length 1, so that a product of two is their cosine (Reimers and Gurevych 2019)."""

    def __init__(self, model: Any, tokenizer: Any, limit: int = 0, pooling: str = "mean", normalise: bool = True):
        super().__init__(model, tokenizer, limit)
        self.pooling, self.normalise = pooling, normalise

    def _compute(self, tokens: Any, lengths: Any, types: Any) -> Any:
        return self.model.embed(self.model(tokens, lengths, types), lengths, self.pooling, self.normalise)

    def embed(self, texts: Sequence[str], batch_rows: int = 32) -> np.ndarray:
        """float32 [B, D], a row for each of `texts`. What is beyond the `limit` of tokens is not read. Raises
        UsageError when `texts` is one string."""
        rows = self._rows(texts, None, batch_rows, lambda row, _: row)
        return np.stack(rows) if rows else np.zeros((0, self.model.config.d_model), np.float32)


class Filled(NamedTuple):
    """A word for a mask: its `token`, the `text` of it, its `probability`, and the whole text with it, `filled`."""

    token: int
    text: str
    probability: float
    filled: str


class MaskFiller(TextEncoder):
    """The words that a model puts in the place of a mask."""

    def _compute(self, tokens: Any, lengths: Any, types: Any) -> Any:
        return ops.softmax(self.model(tokens, lengths, types))

    def fill_mask(self, text: str, k: int = 5) -> list[list[Filled]]:
        """For each mask in `text` (the tokenizer's mask token: ``[MASK]``, ``<mask>``) its `k` likeliest words, the
        others being masked still. Raises UsageError for a text without one, or a tokenizer."""
        mask = self.tokenizer.mask_id
        ((ids, _),) = self.tokenizer.template([text], None, self.limit)
        if mask < 0 or mask not in ids:
            name = self.tokenizer.piece(mask) if mask >= 0 else "that this tokenizer does not have"
            raise UsageError(f"fill_mask: there is no mask in {text!r}; put {name} where a word is wanted")
        (found,) = self._rows([text], None, 1, lambda row, _: row)
        out = []
        for at in (i for i, token in enumerate(ids) if token == mask):
            best = np.argsort(-found[at], kind="stable")[:k].tolist()
            whole = [self.tokenizer.decode([*ids[:at], token, *ids[at + 1 :]]) for token in best]
            out.append([Filled(t, self.tokenizer.decode([t]), float(found[at, t]), w) for t, w in zip(best, whole)])
        return out
