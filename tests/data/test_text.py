"""Texts as streams of tokens, and the windows over them."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from seqlib.data.prepare import prepare
from seqlib.data.text import WindowEpochs, stream_of, write_texts
from seqlib.problems.language_model import LanguageModel
from seqlib.util.errors import DataError, UsageError

STREAM = np.arange(103, dtype=np.uint16)


def windows(lanes: bool = False, **changes: object) -> WindowEpochs:
    return WindowEpochs(
        **{"stream": STREAM, "digest": "d", "seed": 1, "tokens": 40, "length": 10, "lanes": lanes} | changes
    )  # type: ignore[arg-type]


def test_a_window_begins_in_each_stretch_of_the_stream_in_an_order_of_its_own() -> None:
    epochs = windows(tokens=20)
    plan = epochs.plan(0)
    batches = [epochs.collated(planned, None, 0)[0] for planned in plan.batches]  # type: ignore[arg-type]
    assert all((batch.targets == batch.inputs + 1).all() and batch.inputs.shape == (2, 10) for batch in batches)
    firsts = np.sort(np.concatenate([batch.inputs[:, 0] for batch in batches]))
    assert (firsts[:-1] // 10 == np.arange(len(firsts) - 1)).all() and firsts[-1] <= 92
    assert sum(batch.tokens() for batch in batches) == plan.real_tokens == 100 and len(set(firsts % 10)) > 3
    again, other, seeded = windows(tokens=20).plan(0), epochs.plan(1), windows(tokens=20, seed=2).plan(0)
    assert [b.indices.tolist() for b in again.batches] == [b.indices.tolist() for b in plan.batches]
    for plan_of_other in (other, seeded):
        assert [b.indices.tolist() for b in plan_of_other.batches] != [b.indices.tolist() for b in plan.batches]
    assert len(epochs.store) == 10 and plan.padding_share == 0.0


def test_rows_of_lanes_go_on_where_they_ended() -> None:
    epochs = windows(lanes=True)
    plan = epochs.plan(3)
    starts = np.stack([planned.indices for planned in plan.batches])
    assert starts.shape[1] == 4 and (np.diff(starts, axis=0) == 10).all()
    assert (np.diff(starts[0]) == 10 * len(starts)).all()


def test_parts_and_what_does_not_fit() -> None:
    epochs = windows(parts=2)
    parts = epochs.collated(epochs.plan(0).batches[0], None, 0)  # type: ignore[arg-type]
    assert [part.inputs.shape for part in parts] == [(2, 10)] * 2
    with pytest.raises(UsageError, match=r"4 windows can't be cut into batch.accumulate 3"):
        windows(parts=3).collated(epochs.plan(0).batches[0], None, 0)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"holds no window of batch.max_length 10"):
        windows(tokens=9).plan(0)
    with pytest.raises(DataError, match="103 tokens of text are fewer than a batch of 20 windows of 10"):
        windows(tokens=200).plan(0)


class Verse(LanguageModel):
    name = "lm_verse"

    def __init__(self, documents: bool) -> None:
        self.documents = documents

    def splits(self) -> tuple[str, ...]:
        return ("train", "dev")

    def texts(self, split: str):
        yield from ["roses  are red\n", "\n", "violets\tare blue\n"] * (3 if split == "train" else 1)


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("kind", ["characters", "bytes", "bpe"])
def test_a_prepared_text_comes_back(documents: bool, kind: str, tmp_path: Path) -> None:
    problem = Verse(documents)
    data = prepare(problem, tmp_path, tokenizer=kind, vocab_size=290, write=write_texts)  # type: ignore[arg-type]
    stream = stream_of(data.store("dev"), documents, data.spec.eos_id)
    assert data.tokenizer.decode(stream.tolist()) == "roses  are red\n\nviolets\tare blue\n"
    split = data.report.splits["dev"]
    assert (split.pairs, split.characters, split.bytes) == (3, 33, 33)
    assert (stream == data.spec.eos_id).sum() == (4 if documents else 0) and data.spec.bos_id == data.spec.eos_id
    if documents:
        ends = np.flatnonzero(stream == data.spec.eos_id)
        assert [data.tokenizer.decode(stream[a:b].tolist()) for a, b in itertools.pairwise(ends)] == [
            *Verse(True).texts("dev")
        ]
    assert prepare(problem, tmp_path, tokenizer=kind, vocab_size=290, write=write_texts).folder == data.folder  # type: ignore[arg-type]
