"""Text in, labels out: the same for a text alone and in any batch."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from seqlib.core.compile import compile
from seqlib.core.tape import no_grad
from seqlib.data.labelled import cut_lengths, lay_out
from seqlib.util.errors import UsageError

_CELLS = 4096  # places of a batch
_ROWS = (1, 4, 16, 64, 256)
_ENCODED = 2048  # texts encoded at a time


class Classification(NamedTuple):
    """What a text is: its `label` (of several those with a probability of at least 1/2, `;` between; a number as text),
    how probable that is (of several the lowest; 1 for a number), the `probabilities` of all labels (a number's `value`
    instead), and whether it was `cut` because it is longer than the model reads."""

    label: str
    probability: float
    probabilities: dict[str, float]
    value: float | None = None
    cut: bool = False

    def record(self) -> dict[str, Any]:
        """For JSON: probabilities to six digits, `value` of numbers alone."""
        found = {**self._asdict(), "probability": round(self.probability, 6)}
        found["probabilities"] = {name: round(value, 6) for name, value in self.probabilities.items()}
        return {name: value for name, value in found.items() if value is not None}


class Classifier:
    """A trained `model` with its `tokenizer` and `spec`, see `seqlib.load`.

    Padding of a text depends on its own length alone, and without gradients a row of a product has the same bits
    whatever is beside it, so (on the CPU) a text's probabilities are the same alone and in any batch.
    """

    def __init__(self, model: Any, tokenizer: Any, spec: Any) -> None:
        self.model, self.tokenizer, self.spec = model.eval(), tokenizer, spec
        self.longest: int = model.config.max_length
        self._ends = spec.pair_ends if spec.labels.pairs else 0

        def forward(ids: Any, lengths: Any, types: Any) -> Any:
            with no_grad():
                return model(ids, lengths, types)

        self._compiled = cache(lambda length: compile(forward, state=[model]))  # one for each length of texts

    def classify(self, texts: Iterable[str | tuple[str, str]]) -> list[Classification]:
        """The labels of texts, or of (text, second text) where the problem has pairs. Raises UsageError for the one in
        place of the other."""
        found: list[Classification] = []
        given = list(texts)
        for start in range(0, len(given), _ENCODED):
            encoded = self.encode(given[start : start + _ENCODED])
            outputs = probabilities(self.logits(encoded), self.spec.labels)
            sizes = np.array([[len(first), len(second)] for first, second in encoded], np.int64)
            cut = sizes.sum(1) > self._cut(sizes).sum(1)
            found += [self._told(row, bool(short)) for row, short in zip(outputs, cut, strict=True)]
        return found

    def encode(self, texts: Sequence[str | tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
        """Ids of the first and the second text, without special ones."""
        pairs = self.spec.labels.pairs
        for text in texts:
            if isinstance(text, str) == pairs:
                wanted = "pairs of texts (a, b)" if pairs else "single texts"
                raise UsageError(f"this model labels {wanted}, got {text!r}")
        first = self.tokenizer.encode_batch([text[0] if pairs else text for text in texts])
        second = self.tokenizer.encode_batch([text[1] for text in texts]) if pairs else [[] for _ in texts]
        return list(zip(first, second, strict=True))

    def logits(self, encoded: Sequence[tuple[Sequence[int], Sequence[int]]]) -> np.ndarray:
        """What `encode` gave → float32 [n, L]."""
        sides = 2 if self._ends else 1
        sizes = np.array([[len(first), len(second)] for first, second in encoded], np.int64).reshape(-1, 2)
        kept = self._cut(sizes)
        padded = _padded(kept.sum(1) + 2 + self._ends, self.longest)
        found = np.zeros((len(encoded), self.spec.labels.outputs), np.float32)
        for length in np.unique(padded):
            members = np.flatnonzero(padded == length)
            most = max(rows for rows in _ROWS if rows == 1 or rows * length <= _CELLS)
            for start in range(0, len(members), most):
                chosen = members[start : start + most]
                rows = next(rows for rows in _ROWS if rows >= len(chosen))
                texts = []
                for side in range(sides):
                    tokens = np.concatenate([np.asarray(encoded[n][side], np.int32) for n in chosen])
                    texts.append((tokens, sizes[chosen, side], kept[chosen, side]))
                ids, lengths, types = lay_out(texts, rows, int(length), self.spec, self._ends)
                with self.model.evaluating():
                    found[chosen] = self._compiled(int(length))(ids, lengths, types).numpy()[: len(chosen)]
        return found

    def _cut(self, sizes: np.ndarray) -> np.ndarray:
        return cut_lengths(sizes, self.longest, self._ends)

    def _told(self, row: np.ndarray, cut: bool) -> Classification:
        labels = self.spec.labels
        if labels.kind == "regression":
            return Classification(f"{row[0]:.4g}", 1.0, {}, float(row[0]), cut)
        every = {name: float(value) for name, value in zip(labels.names, row, strict=True)}
        if labels.kind == "multi_label":
            held = [name for name, value in every.items() if value >= 0.5]
            sure = min(max(value, 1 - value) for value in every.values())
            return Classification(";".join(held), sure, every, None, cut)
        best = max(every, key=every.__getitem__)
        return Classification(best, every[best], every, None, cut)


def probabilities(logits: np.ndarray, labels: Any) -> np.ndarray:
    """[n, L]: of classes (rows sum to 1), of labels each for itself, or numbers [n, 1] between low and high."""
    wide = logits.astype(np.float64)
    if labels.kind == "multi_class":
        wide = np.exp(wide - wide.max(1, keepdims=True))
        return wide / wide.sum(1, keepdims=True)
    if labels.kind == "multi_label":
        return 1 / (1 + np.exp(-np.clip(wide, -60, 60)))
    middle, half = (labels.low + labels.high) / 2, (labels.high - labels.low) / 2
    return wide * half + middle


def _padded(lengths: np.ndarray, longest: int) -> np.ndarray:
    """Lengths rounded up to multiples of a quarter of the power of 2 below, at least of 8."""
    steps = np.maximum(8, 2 ** np.floor(np.log2(lengths)).astype(np.int64) // 4)
    return np.minimum(-(-lengths // steps) * steps, longest)
