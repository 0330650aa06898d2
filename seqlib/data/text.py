"""Texts as token stores for language models, and the epochs that are read from them as windows or as documents.

N tokens of a split, B rows, T tokens of a window.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from seqlib.data.batch import Batch, PackedBatch, SpecialIds, TextBatch
from seqlib.data.epochs import Epochs, Planned
from seqlib.data.plan import Plan
from seqlib.data.prepare import Wanted
from seqlib.data.report import PrepareReport, SplitReport
from seqlib.data.store import TokenStore, write_store
from seqlib.data.tokenizer import Tokenizer, train_tokenizer
from seqlib.util.errors import DataError, UsageError
from seqlib.util.progress import progress

_CHUNK = 1024
_TEXTS = 200_000  # that a tokenizer is trained on at most
_PIECES = ((2_000_000, 2000), (20_000_000, 8000), (None, 16_000))  # vocabulary by bytes of text below a limit


def write_texts(problem: Any, wanted: Wanted, folder: Path) -> tuple[PrepareReport, Tokenizer]:
    """What `prepare` does for a language model: a tokenizer trained on the texts of train, if none is given, and a
    store of each split, a sequence for each text. Raises DataError where train is empty."""
    report = PrepareReport()
    report.splits = {role: SplitReport(expression=expression) for role, expression in wanted.roles.items()}

    def texts(role: str) -> Iterator[str]:
        return ("".join(record.pair()) for record in problem.read(wanted.roles[role]))

    for role, split in report.splits.items():
        for text in texts(role):
            split.pairs += 1
            split.characters += len(text)
            split.bytes += len(text.encode("utf-8", "replace"))
    size = report.splits["train"].bytes
    if not size:
        raise DataError(f"{problem.name}: there is no text to train on")
    tokenizer = wanted.given
    if tokenizer is None:
        pieces = next(pieces for limit, pieces in _PIECES if limit is None or size < limit)
        proposed = {"characters": 1024, "bytes": 260}.get(wanted.kind, pieces)
        most = wanted.max_texts or _TEXTS
        kept = (text for text in texts("train") if text)
        tokenizer = train_tokenizer(wanted.kind, kept, wanted.vocab_size or proposed, wanted.seed, most, raw=True)
    for role, split in report.splits.items():
        with progress(split.pairs, f"encoding {role}") as bar:

            def encoded(role: str = role, bar: Any = bar) -> Iterator[tuple[list[int], list[int]]]:
                if problem.answers:
                    yield from (problem.learnt(record, tokenizer) for record in problem.read(wanted.roles[role]))
                    return
                rest = texts(role)
                while chunk := list(islice(rest, _CHUNK)):
                    yield from (([], ids) for ids in tokenizer.encode_batch(chunk))
                    bar.advance(len(chunk))

            split.describe(write_store(folder / role, encoded(), tokenizer.vocab_size).lengths())
    return report, tokenizer


def stream_of(store: TokenStore, documents: bool, eos_id: int) -> np.ndarray:
    """All tokens of a split in order, int [N]: of a text in pieces those of the store, memory-mapped; of documents with
    the end token before, between and behind them."""
    if not documents:
        return store.tokens
    ends = np.asarray(store.offsets[2::2])
    out = np.full(len(store.tokens) + len(ends) + 1, eos_id, store.tokens.dtype)
    inside = np.ones(len(out), bool)
    inside[0] = False
    inside[ends + np.arange(1, len(ends) + 1)] = False
    out[inside] = store.tokens
    return out


class PlannedWindows(NamedTuple):
    """Windows of ``length`` T tokens that begin at ``indices`` (int64 [B]) of a stream."""

    indices: np.ndarray
    length: int

    @property
    def cells(self) -> int:
        """Places for tokens."""
        return len(self.indices) * self.length

    def cut(self, parts: int) -> "list[PlannedWindows]":
        """Its rows in `parts`. Raises UsageError where they can't be of one size."""
        if len(self.indices) % parts:
            raise UsageError(f"a batch of {len(self.indices)} windows can't be cut into batch.accumulate {parts}")
        return [self._replace(indices=rows) for rows in np.split(self.indices, parts)]


@dataclass(frozen=True)
class WindowEpochs:
    """Epochs of windows of ``length`` T over a ``stream``, ``tokens`` of them a batch, as ``digest``, ``seed`` and the
    epoch decide.

    One window begins in each T tokens, at any of them; they come in any order. With ``lanes`` the stream is cut into as
    many parts as a batch has rows, and row b of each batch goes on where row b of the batch before it ended; the first
    begins at any of the first T tokens. Raises UsageError where a batch holds no window, DataError where the stream is
    shorter than a batch.
    """

    stream: np.ndarray
    digest: str
    seed: int
    tokens: int
    length: int
    parts: int = 1
    lanes: bool = False

    @cached_property
    def store(self) -> range:
        """One number for each window of an epoch."""
        return range((len(self.stream) - 1) // self.length)

    def plan(self, epoch: int) -> Plan:
        """The batches of an epoch."""
        rows = self.tokens // self.length
        if rows < 1:
            raise UsageError(f"batch.tokens {self.tokens} holds no window of batch.max_length {self.length} tokens")
        state = hashlib.sha256(f"{self.digest} {self.seed} {epoch} windows".encode()).digest()
        random = np.random.Generator(np.random.PCG64(int.from_bytes(state[:16], "little")))
        known = len(self.stream) - 1
        first = int(random.integers(min(self.length, max(1, known - rows * self.length + 1)))) if self.lanes else 0
        count = (known - first) // (rows * self.length)
        if count < 1:
            raise DataError(
                f"{len(self.stream):,} tokens of text are fewer than a batch of {rows} windows of {self.length}: lower "
                "batch.tokens or batch.max_length, or give more text"
            )
        starts = first + self.length * np.arange(rows * count, dtype=np.int64)
        if self.lanes:
            ordered = starts.reshape(rows, count).T
        else:
            starts = np.minimum(starts + random.integers(self.length, size=len(starts)), known - self.length)
            ordered = random.permutation(starts).reshape(count, rows)
        batches = [PlannedWindows(np.ascontiguousarray(row), self.length) for row in ordered]
        real = count * rows * self.length
        return Plan(cast(Any, batches), ((rows, self.length),), pairs=rows * count, dropped=0, real_tokens=real)

    def collated(self, planned: Any, spec: SpecialIds, epoch: int) -> list[TextBatch]:
        """A planned batch in its parts."""
        return [text_batch(self.stream, part.indices, part.length) for part in planned.cut(self.parts)]

    def batches(self, spec: SpecialIds, plan: Plan, epoch: int, place: int) -> Iterator[Planned]:
        """As `Epochs.batches`."""
        yield from Epochs.batches(self, spec, plan, epoch, place)  # type: ignore[arg-type]


class DocumentEpochs(Epochs):
    """Epochs of whole documents, padded or packed."""

    def collated(self, planned: Any, spec: SpecialIds, epoch: int) -> list[Any]:
        """A planned batch in its parts."""
        answers = has_answers(self.store)
        return [as_text(batch, answers) for batch in super().collated(planned, spec, epoch)]


def has_answers(store: Any) -> bool:
    """Whether the documents of a store have a part that is learnt, and others that are read."""
    return bool(len(store)) and bool(store.lengths()[0, 0])


def as_text(batch: Batch | PackedBatch, answers: bool = False) -> TextBatch:
    """The target side of a batch; with `answers` the source side has a 1 for each token that is learnt, the end's
    last."""
    targets = batch.tgt_out
    if answers and isinstance(batch, Batch):
        wanted = np.zeros_like(targets)
        known = min(wanted.shape[1], batch.src.shape[1])
        wanted[:, :known] = batch.src[:, :known]
        targets = np.where(wanted == 1, targets, -1).astype(np.int32)
    elif answers and isinstance(batch, PackedBatch):
        segments = np.repeat(np.arange(len(batch.tgt_offsets) - 1), np.diff(batch.tgt_offsets))
        wanted = batch.src[batch.src_offsets[segments] + batch.tgt_positions[: len(segments)]]
        targets = np.where(np.pad(wanted, (0, len(targets) - len(wanted))) == 1, targets, -1).astype(np.int32)
    if isinstance(batch, Batch):
        return TextBatch(batch.tgt_in, targets)
    return TextBatch(batch.tgt_in, targets, batch.tgt_positions, batch.tgt_offsets)


def text_batch(stream: np.ndarray, starts: np.ndarray, length: int) -> TextBatch:
    """Windows of T = `length` tokens from `starts` int [B] on, which end before the stream does."""
    places = np.asarray(starts)[:, None] + np.arange(length + 1)
    ids = np.asarray(stream[places]).astype(np.int32)
    return TextBatch(np.ascontiguousarray(ids[:, :-1]), np.ascontiguousarray(ids[:, 1:]))
