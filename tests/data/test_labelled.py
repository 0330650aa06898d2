"""Labelled texts as batches: the layout of rows, what is cut, plans of one side."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from seqlib.data.labelled import LabelledStore, collate_labelled, cut_lengths
from seqlib.data.plan import bucket_plan
from seqlib.data.pretrained import PretrainedTokenizer
from seqlib.data.store import write_store
from seqlib.problems.spec import ProblemSpec

SPEC = ProblemSpec(source_vocab=50, target_vocab=2)
PAIRS = [([5, 6, 7], [8]), ([9], [10, 11]), ([12, 13, 14, 15, 16, 17], [18, 19, 20, 21, 22])]
TARGETS = np.array([0, 1, 1], np.int32)


def _batch(tmp_path: Path, pairs: bool, max_length: int, weights: np.ndarray | None = None):
    rows = PAIRS if pairs else [(first, []) for first, _ in PAIRS]
    store = LabelledStore(
        write_store(tmp_path / "s", rows, 50), TARGETS, max_length, pairs=pairs, class_weights=weights
    )
    plan = bucket_plan(
        store.lengths(), tokens=64, max_length=max_length, seed=0, epoch=0, digest="x", max_shapes=1, shuffle=False
    )
    assert plan.real_tokens == sum(min(max_length, len(a) + len(b) + 2 + pairs) for a, b in rows)
    return collate_labelled(store, plan.batches[0], SPEC), store, plan


def test_rows_of_single_texts(tmp_path: Path) -> None:
    batch, store, plan = _batch(tmp_path, False, 6, np.array([1, 3], np.float32))
    assert batch.types is None and store.cut == 1 and plan.shapes[0].target_length == 0
    assert batch.ids[:3, :6].tolist() == [[1, 5, 6, 7, 2, 0], [1, 9, 2, 0, 0, 0], [1, 12, 13, 14, 15, 2]]
    assert batch.lengths[:4].tolist() == [5, 3, 6, 2]
    assert batch.weights[:4].tolist() == [1, 3, 3, 0] and batch.targets[:3].tolist() == [0, 1, 1]
    assert (batch.tokens(), batch.places()) == (14, batch.ids.size)


def test_rows_of_pairs(tmp_path: Path) -> None:
    batch, store, _ = _batch(tmp_path, True, 9)
    assert batch.types is not None and store.cut == 1
    assert batch.ids[0, :8].tolist() == [1, 5, 6, 7, 2, 8, 2, 0] and batch.types[0, :8].tolist() == [0] * 5 + [1, 1, 0]
    assert batch.ids[2, :9].tolist() == [1, 12, 13, 14, 2, 18, 19, 20, 2]


@pytest.mark.parametrize("seed", range(3))
def test_the_longer_text_is_cut_first(seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(0, 30, (200, 2))
    kept = cut_lengths(lengths, 23, True)
    room = np.minimum(lengths.sum(1), 20)
    assert (kept.sum(1) == room).all() and (kept <= lengths).all() and (kept >= 0).all()
    cut = lengths.sum(1) > 20
    assert (np.abs(np.minimum(lengths, 10) - kept)[cut].min(1) == 0).all()


@pytest.mark.parametrize("limit", [12, 9])
def test_pairs_as_roberta_has_them(tmp_path: Path, limit: int) -> None:
    vocab = {token: number for number, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *"abcdef"])}
    files = {"vocab.json": msgspec.json.encode(vocab), "merges.txt": b"#version: 0.2\n"}
    tokenizer = PretrainedTokenizer(files)
    assert tokenizer.pair_ends == 2
    texts = [("abc", "d"), ("a", "bc"), ("abcdef", "fed")]
    rows = [(tokenizer.encode(first), tokenizer.encode(second)) for first, second in texts]
    store = LabelledStore(write_store(tmp_path / "s", rows, 11), TARGETS, limit, pairs=tokenizer.pair_ends)
    spec = ProblemSpec(source_vocab=11, target_vocab=2, pad_id=1, bos_id=0, eos_id=2)
    ids, lengths, _ = store.rows(np.arange(3), 4, 13, spec)
    wanted = tokenizer.template(*map(list, zip(*texts, strict=True)), limit)
    assert [row[:size].tolist() for row, size in zip(ids, lengths, strict=False)][:3] == [row.ids for row in wanted]
    assert lengths[:3].tolist() == (store.lengths()[:, 0] + 1).tolist()
