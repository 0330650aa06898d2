"""Batches against a plain per-row reading of the store."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlib.data.batch import Batch, collate
from seqlib.data.packing import PlannedPack
from seqlib.data.plan import PlannedBatch, bucket_plan
from seqlib.data.store import TokenStore, write_store
from seqlib.util.errors import DataError, ShapeError

SPEC = SimpleNamespace(pad_id=0, bos_id=1, eos_id=2)
IDS = st.lists(st.integers(4, 99), max_size=11)


def row_by_row(store: TokenStore, planned: PlannedBatch) -> Batch:
    """The definition, one row at a time."""
    shape = planned.rows, planned.source_length, planned.target_length
    src, tgt_in = np.zeros(shape[:2], np.int32), np.zeros((shape[0], shape[2]), np.int32)
    tgt_out = np.full_like(tgt_in, -1)
    src_lengths, tgt_lengths = np.ones(shape[0], np.int32), np.ones(shape[0], np.int32)
    src[:, 0], tgt_in[:, 0] = 2, 1
    for row, pair in enumerate(planned.indices):
        source, target = (ids.tolist() for ids in store.pair(int(pair)))
        src[row, : len(source) + 1] = [*source, 2]
        tgt_in[row, : len(target) + 1] = [1, *target]
        tgt_out[row, : len(target) + 1] = [*target, 2]
        src_lengths[row], tgt_lengths[row] = len(source) + 1, len(target) + 1
    return Batch(src, src_lengths, tgt_in, tgt_out, tgt_lengths)


@settings(deadline=None, max_examples=80)
@given(st.lists(st.tuples(IDS, IDS), min_size=1, max_size=30), st.integers(1, 200), st.sampled_from([1, 8]))
def test_against_rows(tmp_path_factory, pairs, tokens: int, multiple: int) -> None:
    store = write_store(tmp_path_factory.mktemp("batch") / "s", pairs, 100)
    plan = bucket_plan(
        store.lengths(), tokens=tokens, max_length=None, seed=0, epoch=0, digest=store.digest, multiple=multiple
    )
    for planned in plan.batches:
        batch, expected = collate(store, planned, SPEC), row_by_row(store, planned)
        assert batch.weights is None
        for name in Batch._fields[:-1]:
            found = getattr(batch, name)
            assert found.dtype == np.int32, name
            assert found.flags.c_contiguous, name
            np.testing.assert_array_equal(found, getattr(expected, name), name)


def test_filler_rows_add_nothing(tmp_path: Path) -> None:
    store = write_store(tmp_path / "s", [([5, 6], [7])], 100)
    batch = collate(store, PlannedBatch(np.array([0]), 3, 8, 8), SPEC)
    assert batch.src.shape == batch.tgt_in.shape == (3, 8)
    assert batch.src_lengths.tolist() == [3, 1, 1]
    assert batch.src[1].tolist() == [2, 0, 0, 0, 0, 0, 0, 0]
    assert (batch.tgt_out[1:] == -1).all()
    assert batch.tgt_in[1].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert (batch.tgt_out >= 0).sum() == 2


def test_only_filler(tmp_path: Path) -> None:
    store = write_store(tmp_path / "s", [], 100)
    batch = collate(store, PlannedBatch(np.zeros(0, np.int64), 2, 1, 1), SPEC)
    assert batch.src.tolist() == [[2], [2]]
    assert batch.tgt_out.tolist() == [[-1], [-1]]


def test_a_foreign_plan_is_refused(tmp_path: Path) -> None:
    store = write_store(tmp_path / "s", [([5, 6, 7], [7])], 100)
    for planned in [
        PlannedBatch(np.array([0]), 1, 3, 8),  # three ids and eos do not fit 3
        PlannedBatch(np.array([1]), 1, 8, 8),
        PlannedBatch(np.array([-1]), 1, 8, 8),
        PlannedBatch(np.array([0, 0]), 1, 8, 8),
    ]:
        with pytest.raises(ShapeError, match="not its plan"):
            collate(store, planned, SPEC)


def test_weights_reach_every_target_token(tmp_path: Path) -> None:
    pairs = [([5, 6], [7]), ([5], [7, 8, 9]), ([], [])]
    weights = np.array([2.0, 0.5, 3.0], np.float32)
    store = write_store(tmp_path / "s", pairs, 100, weights)
    indices = np.array([1, 2, 0])
    padded = collate(store, PlannedBatch(indices, 4, 8, 8), SPEC)
    packed = collate(store, PlannedPack(indices, 4, 16, 16, (3,)), SPEC)
    for batch in (padded, packed):
        assert batch.weights is not None and batch.weights.dtype == np.float32
        assert batch.weights.shape == batch.tgt_out.shape
        counted = batch.weights[batch.tgt_out >= 0]
        assert counted.tolist() == [0.5] * 4 + [3.0] + [2.0] * 2
    with pytest.raises(DataError, match="1 weights for 3 pairs"):
        write_store(tmp_path / "t", pairs, 100, weights[:1])
