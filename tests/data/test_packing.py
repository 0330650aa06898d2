"""Packed plans and batches: every pair once, everything fits, hardly any padding, the same tokens as padded ones."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlib.data.batch import PackedBatch, collate
from seqlib.data.packing import PlannedPack, pack_plan
from seqlib.data.plan import Plan, PlannedBatch
from seqlib.data.store import write_store
from seqlib.util.errors import DataError, ShapeError, UsageError

SPEC = SimpleNamespace(pad_id=0, bos_id=1, eos_id=2)
LENGTHS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=150)


def plan(lengths, **changes) -> Plan:
    options = {"tokens": 128, "max_length": 41, "seed": 1, "epoch": 0, "digest": "d"} | changes
    return pack_plan(np.array(lengths, np.int32).reshape(-1, 2), **options)


def some(count: int = 5000, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    source = draw.gamma(4, 5, count).astype(int)
    target = (source * draw.normal(1.1, 0.2, count)).clip(1).astype(int)
    return np.minimum(np.stack([source, target], 1), 60)


@settings(deadline=None, max_examples=150)
@given(LENGTHS, st.integers(41, 300), st.integers(1, 3), st.sampled_from([None, 20, 41]))
def test_every_pair_once_and_it_fits(lengths, tokens, parts, max_length) -> None:
    sizes = np.array(lengths) + 1
    fits = (sizes <= (max_length or 1000)).all(1)
    options = {"tokens": tokens * parts, "parts": parts, "max_length": max_length}
    if not fits.any():
        with pytest.raises(DataError, match="can be used"):
            plan(lengths, **options)
        return
    made = plan(lengths, **options)
    placed = np.concatenate([batch.indices for batch in made.batches])
    assert sorted(placed.tolist()) == np.flatnonzero(fits).tolist()
    ((segments, source, target),) = made.shapes
    assert max(source, target) == tokens
    for batch in made.batches:
        assert (batch.segments, batch.source_tokens, batch.target_tokens) == (segments, source, target)
        packs = batch.cut(parts)
        assert np.concatenate([pack.indices for pack in packs]).tolist() == batch.indices.tolist()
        for pack in packs:
            assert len(pack.indices) <= segments
            assert (sizes[pack.indices].sum(0) <= [source, target]).all()
    assert made.padded_tokens == len(made.batches) * parts * (source + target)
    assert made.real_tokens == sizes[fits].sum()


def test_pure_and_in_random_order() -> None:
    def flat(made: Plan) -> list[int]:
        return np.concatenate([batch.indices for batch in made.batches]).tolist()

    first = plan(some(), tokens=1024, max_length=64)
    assert flat(first) == flat(plan(some(), tokens=1024, max_length=64))
    others = [plan(some(), tokens=1024, max_length=64, **{name: "3"}) for name in ("seed", "epoch", "digest")]
    assert not any(flat(first) == flat(other) for other in others)
    spread = [np.ptp(batch.indices) for batch in first.batches]
    assert min(spread) > 2500  # a batch draws from the whole corpus of 5000
    early = some()[np.concatenate([batch.indices for batch in first.batches[:20]])]
    assert abs(early.mean() / some().mean() - 1) < 0.1  # no lengths are left for the end


def test_the_same_on_every_version() -> None:
    """These indices must never change: a resumed run relies on them."""
    made = plan(np.arange(80).reshape(40, 2) % 23, tokens=64, max_length=24, seed=5, epoch=2, digest="abc")
    assert [batch.indices.tolist() for batch in made.batches][:3] == [
        [0, 15, 39, 34, 22],
        [11, 24, 25, 32, 18],
        [30, 1, 8, 37, 20],
    ]


def test_little_padding() -> None:
    made = plan(some(20_000), tokens=2048, max_length=64)
    assert made.padding_share < 0.02


def test_chosen_pairs_as_often_as_wanted() -> None:
    chosen = np.array([7, 7, 3, 7, 100])
    made = plan(some(), tokens=256, max_length=64, chosen=chosen)
    assert sorted(np.concatenate([b.indices for b in made.batches]).tolist()) == sorted(chosen.tolist())
    assert made.shapes == plan(some(), tokens=256, max_length=64).shapes


def test_errors() -> None:
    with pytest.raises(UsageError, match=r"a pair of 41 tokens does not fit a pack of 40: lower batch\.max_length"):
        plan([(40, 3)], tokens=40)
    with pytest.raises(UsageError, match="planned in 2 parts cannot be cut into 3"):
        plan([(4, 3)], parts=2).batches[0].cut(3)
    for name in ("tokens", "parts", "max_length"):
        with pytest.raises(UsageError, match=f"{name} must be at least 1"):
            plan([(1, 1)], **{name: 0})


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(*[st.lists(st.integers(4, 99), max_size=11)] * 2), min_size=1, max_size=30), st.integers(1, 2)
)
def test_packed_tokens_are_those_of_padded_rows(tmp_path_factory, pairs, parts: int) -> None:
    store = write_store(tmp_path_factory.mktemp("packs") / "s", pairs, 100)
    made = pack_plan(store.lengths(), tokens=24 * parts, max_length=None, seed=0, epoch=0, digest="d", parts=parts)
    for whole in made.batches:
        for planned in (whole, *whole.cut(parts)):
            batch = collate(store, planned, SPEC)
            assert isinstance(batch, PackedBatch)
            assert batch.weights is None
            assert all(getattr(batch, name).dtype == np.int32 for name in batch._fields[:-1])
            count = len(planned.indices)
            rows = collate(store, PlannedBatch(planned.indices, max(count, 1), 12, 12), SPEC)
            for g in range(count):
                for name, side in (("src", "src"), ("tgt_in", "tgt"), ("tgt_out", "tgt")):
                    offsets = getattr(batch, f"{side}_offsets")
                    length = getattr(rows, f"{side}_lengths")[g]
                    found = getattr(batch, name)[offsets[g] : offsets[g + 1]]
                    assert found.tolist() == getattr(rows, name)[g, :length].tolist()
                    positions = getattr(batch, f"{side}_positions")[offsets[g] : offsets[g + 1]]
                    assert positions.tolist() == list(range(length))
            for side in ("src", "tgt"):
                offsets = getattr(batch, f"{side}_offsets")
                assert (offsets[count:] == offsets[count]).all()
                assert not getattr(batch, f"{side}_positions")[offsets[count] :].any()
            assert (batch.tgt_out[batch.tgt_offsets[count] :] == -1).all()
            assert not batch.src[batch.src_offsets[count] :].any()


def test_a_foreign_plan_is_refused(tmp_path: Path) -> None:
    store = write_store(tmp_path / "s", [([5, 6, 7], [7])], 100)
    for planned in [
        PlannedPack(np.array([0]), 1, 3, 8, (1,)),  # three ids and eos do not fit 3
        PlannedPack(np.array([1]), 1, 8, 8, (1,)),
        PlannedPack(np.array([0, 0]), 1, 8, 8, (2,)),
    ]:
        with pytest.raises(ShapeError, match="not its plan"):
            collate(store, planned, SPEC)
