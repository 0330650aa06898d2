"""What an output may not be: too short, repetitive, containing certain token sequences, without a given beginning.

A constraint takes tokens away (logit -inf) from what a row may choose; the others keep their logits, and scores stay
those of the model. R rows of the sentences held, V vocabulary, T steps so far.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seqlib.util.errors import UsageError


@dataclass(frozen=True)
class Constraints:
    """Of a batch of sentences; raises UsageError for values out of range.

    `min_length` is the least number of tokens of an output, the end token counted. `no_repeat_ngram` n lets no n
    tokens occur twice in an output; 0 allows all. `banned` are token sequences that no output contains. `prefixes`
    gives each sentence the tokens that its output begins with, which the other constraints don't touch. Where nothing
    would be left to choose, the output ends.
    """

    min_length: int = 0
    no_repeat_ngram: int = 0
    banned: Sequence[Sequence[int]] = ()
    prefixes: Sequence[Sequence[int]] = ()

    def __post_init__(self) -> None:
        for name in ("min_length", "no_repeat_ngram"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name}: expected at least 0, got {getattr(self, name)}")
        if any(not sequence for sequence in self.banned):
            raise UsageError("banned: expected sequences of at least one token, got an empty one")

    def check(self, sentences: int, limits: np.ndarray, vocabulary: int, eos_id: int) -> None:
        """Raises UsageError where they don't fit a batch of `sentences` with these `limits`, int [B]."""
        if self.min_length > limits.min():
            raise UsageError(f"min_length: {self.min_length} is more than the {limits.min()} tokens allowed")
        if self.prefixes and len(self.prefixes) != sentences:
            raise UsageError(f"prefixes: expected one for each of {sentences} sentences, got {len(self.prefixes)}")
        for name, sequences in (("banned", self.banned), ("prefixes", self.prefixes)):
            for token in (token for sequence in sequences for token in sequence):
                if not 0 <= token < vocabulary or (token == eos_id and name == "banned"):
                    raise UsageError(f"{name}: token {token} is no word of the vocabulary of {vocabulary}")
        for prefix, limit in zip(self.prefixes, limits.tolist(), strict=False):
            if len(prefix) >= limit:
                raise UsageError(f"prefixes: one of {len(prefix)} tokens leaves no room in the {limit} allowed")

    @property
    def active(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.min_length > 1 or self.no_repeat_ngram or len(self.banned) or self.any_prefix)

    @property
    def any_prefix(self) -> bool:
        """Whether an output has to begin with something."""
        return any(len(prefix) for prefix in self.prefixes)

    def apply(
        self, logits: np.ndarray, history: np.ndarray, sentences: np.ndarray, eos_id: int, given: int = 0
    ) -> None:
        """Take away in place what may not follow: logits [R,V], history int [R,T], sentences int [R] of the rows.

        The first `given` tokens of a history are not of the output, but count for repetitions and banned sequences."""
        steps = history.shape[1] - given
        row = np.arange(len(logits))
        forced = [(r, self.prefixes[b][steps]) for r, b in enumerate(sentences) if self.forces(b, steps)]
        forced_rows, forced_tokens = np.array(forced, np.int64).reshape(-1, 2).T
        forced_logits, end = logits[forced_rows, forced_tokens], logits[:, eos_id].copy()
        if steps + 1 < self.min_length:
            logits[:, eos_id] = -np.inf
        if self.no_repeat_ngram:
            self._take_repeated(logits, history)
        for sequence in self.banned:
            *before, last = sequence
            if len(before) <= history.shape[1]:
                met = (history[:, history.shape[1] - len(before) :] == before).all(axis=1)
                logits[met, last] = -np.inf
        dead = row[np.isneginf(logits.max(axis=1))]
        logits[dead, eos_id] = end[dead]
        logits[forced_rows] = -np.inf
        logits[forced_rows, forced_tokens] = forced_logits

    def forces(self, sentence: int, steps: int) -> bool:
        """Whether the token behind `steps` others of a sentence is one of its prefix."""
        return len(self.prefixes) > 0 and steps < len(self.prefixes[sentence])

    def _take_repeated(self, logits: np.ndarray, history: np.ndarray) -> None:
        n, length = self.no_repeat_ngram, history.shape[1]
        if length < n:
            return
        windows = np.lib.stride_tricks.sliding_window_view(history, n, axis=1)  # [R, T - n + 1, n]
        tail = history[:, length - n + 1 :]
        rows, places = np.nonzero((windows[:, :, :-1] == tail[:, None, :]).all(axis=2))
        logits[rows, windows[rows, places, -1]] = -np.inf
