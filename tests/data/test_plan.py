"""Batch plans: pure, complete, few shapes, little padding."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlib.data.plan import Plan, bucket_plan, bucket_shapes, padding_plan
from seqlib.util.errors import DataError, UsageError

LENGTHS = st.lists(st.tuples(st.integers(0, 70), st.integers(0, 70)), min_size=1, max_size=120)


def plan(lengths, **changes) -> Plan:
    options = {"tokens": 256, "max_length": 64, "seed": 1, "epoch": 0, "digest": "d"} | changes
    return bucket_plan(np.array(lengths, np.int32).reshape(-1, 2), **options)


def same(one: Plan, two: Plan) -> bool:
    return len(one.batches) == len(two.batches) and all(
        np.array_equal(a.indices, b.indices) and a[1:] == b[1:] for a, b in zip(one.batches, two.batches, strict=True)
    )


def some(count: int = 3000, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    source = draw.gamma(4, 5, count).astype(int)
    return np.stack([source, (source * draw.normal(1.1, 0.2, count)).clip(1).astype(int)], 1)


@settings(deadline=None, max_examples=150)
@given(
    LENGTHS,
    st.integers(1, 400),
    st.integers(1, 12),
    st.sampled_from([1, 4, 8]),
    st.booleans(),
    st.sampled_from([None, 8, 40, 64]),
)
def test_every_pair_once_and_it_fits(lengths, tokens, max_shapes, multiple, shuffle, max_length) -> None:
    sizes = np.array(lengths) + 1
    fits = (sizes <= (max_length or 1000)).all(1)
    options = {"tokens": tokens, "max_shapes": max_shapes, "multiple": multiple, "shuffle": shuffle}
    if not fits.any():
        with pytest.raises(DataError, match=r"none of the .* pairs can be used: all have more than"):
            plan(lengths, max_length=max_length, **options)
        return
    made = plan(lengths, max_length=max_length, **options)
    placed = np.concatenate([batch.indices for batch in made.batches])
    assert sorted(placed.tolist()) == np.flatnonzero(fits).tolist()
    assert (made.pairs, made.dropped) == (fits.sum(), (~fits).sum())
    for batch in made.batches:
        assert 1 <= len(batch.indices) <= batch.rows
        assert batch.rows == max(1, tokens // max(batch.source_length, batch.target_length))
        assert batch.source_length % multiple == batch.target_length % multiple == 0
        assert (sizes[batch.indices] <= [batch.source_length, batch.target_length]).all()
    assert len({batch[1:] for batch in made.batches}) <= len(made.shapes) <= max_shapes
    cells = sum(batch.rows * (batch.source_length + batch.target_length) for batch in made.batches)
    assert made.padded_tokens == cells
    assert made.real_tokens == sizes[fits].sum()
    assert made.padding_share == pytest.approx(1 - made.real_tokens / cells)


def test_pure() -> None:
    lengths = some()
    first = plan(lengths)
    for epoch in (3, 1, 2):
        plan(lengths, epoch=epoch)  # other calls in between change nothing
    assert same(first, plan(lengths))
    others = [plan(lengths, epoch=1), plan(lengths, seed=2), plan(lengths, digest="e")]
    assert not any(same(first, other) for other in others)
    assert all(other.shapes == first.shapes for other in others)


def test_the_same_in_another_process_and_version() -> None:
    """These indices must never change: a resumed run relies on them, whatever the versions."""
    code = (
        "import numpy as np\n"
        "from seqlib.data.plan import bucket_plan\n"
        "lengths = np.arange(80).reshape(40, 2) % 23\n"
        "made = bucket_plan(lengths, tokens=64, max_length=24, seed=5, epoch=2, digest='abc')\n"
        "print([batch.indices.tolist() for batch in made.batches][:3])"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    lengths = np.arange(80).reshape(40, 2) % 23
    here = bucket_plan(lengths, tokens=64, max_length=24, seed=5, epoch=2, digest="abc")
    assert found.strip() == str([batch.indices.tolist() for batch in here.batches][:3])
    assert found.strip() == "[[26, 2, 36, 25, 3, 14, 37, 13], [31, 9, 32], [38, 5, 27, 39]]"


def test_order_is_shuffled() -> None:
    made = plan(some())
    shapes = [batch[1:] for batch in made.batches]
    assert shapes != sorted(shapes)
    assert any((np.diff(batch.indices) < 0).any() for batch in made.batches)
    spread = [np.ptp(batch.indices) for batch in made.batches if len(batch.indices) > 5]
    assert np.mean(spread) > 1500  # batches draw from the whole corpus of 3000


def test_in_order_for_evaluation() -> None:
    made = plan(some(), shuffle=False)
    assert all((np.diff(batch.indices) > 0).all() for batch in made.batches)
    assert same(made, plan(some(), shuffle=False, seed=9, epoch=7))


def best_by_search(sizes: np.ndarray, tokens: int, max_shapes: int, multiple: int) -> float:
    """Fewest padded tokens over all ways to cut the target axis, then the source axis of each group."""
    padded = -(-sizes // multiple) * multiple
    edges = [np.unique(padded[:, side]).tolist() for side in (0, 1)]

    def bucket(s0, s1, t0, t1) -> float:
        inside = (padded[:, 0] > s0) & (padded[:, 0] <= s1) & (padded[:, 1] > t0) & (padded[:, 1] <= t1)
        rows = max(1, tokens // max(s1, t1))
        return -(-inside.sum() // rows) * rows * (s1 + t1)

    def sources(t0, t1, s0, left) -> dict[int, float]:
        """Best cost by the number of buckets used for sources above s0."""
        if s0 == edges[0][-1]:
            return {0: 0.0}
        found: dict[int, float] = {}
        for s1 in [edge for edge in edges[0] if edge > s0] if left else []:
            for used, cost in sources(t0, t1, s1, left - 1).items():
                found[used + 1] = min(found.get(used + 1, np.inf), cost + bucket(s0, s1, t0, t1))
        return found

    def targets(t0, left) -> float:
        if t0 == edges[1][-1]:
            return 0.0
        best = np.inf
        for t1 in [edge for edge in edges[1] if edge > t0]:
            for used, cost in sources(t0, t1, 0, left).items():
                best = min(best, cost + targets(t1, left - used))
        return best

    return targets(0, max_shapes)


@pytest.mark.parametrize("max_shapes", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("tokens", [64, 300])
def test_buckets_are_the_best(max_shapes: int, tokens: int) -> None:
    sizes = some(200, seed=max_shapes) % 32 + 1
    shapes = bucket_shapes(sizes, tokens, max_shapes, 8)
    assert len(shapes) <= max_shapes
    total = 0
    for shape in shapes:
        inside = (sizes[:, 0] > shape.source_above) & (sizes[:, 0] <= shape.source_length)
        inside &= (sizes[:, 1] > shape.target_above) & (sizes[:, 1] <= shape.target_length)
        total += -(-inside.sum() // shape.rows) * shape.rows * (shape.source_length + shape.target_length)
    assert total == best_by_search(sizes, tokens, max_shapes, 8)


def test_padding_on_a_usual_corpus() -> None:
    made = plan(some(20_000), tokens=2048, max_length=128)
    assert made.padding_share < 0.25
    assert made.padding_share < plan(some(20_000), tokens=2048, max_length=128, max_shapes=4).padding_share


def test_many_lengths_stay_few_candidates() -> None:
    lengths = np.stack([np.arange(4000), np.arange(4000)[::-1]], 1)
    made = plan(lengths, tokens=8192, max_length=None, multiple=1)
    assert len(made.shapes) <= 12
    assert made.pairs == 4000


def test_errors() -> None:
    with pytest.raises(DataError, match="the split is empty"):
        plan([])
    for name in ("tokens", "max_shapes", "multiple", "max_length"):
        with pytest.raises(UsageError, match=f"{name} must be at least 1"):
            plan([(1, 1)], **{name: 0})


@settings(deadline=None, max_examples=80)
@given(LENGTHS, st.integers(1, 400), st.integers(1, 12), st.sampled_from([1, 4]))
def test_plain_padding(lengths, tokens, max_shapes, multiple) -> None:
    sizes = np.array(lengths) + 1
    options = {"tokens": tokens, "max_length": None, "seed": 1, "digest": "d", "multiple": multiple}
    made = padding_plan(np.array(lengths), epoch=0, max_shapes=max_shapes, **options)
    assert sorted(np.concatenate([b.indices for b in made.batches]).tolist()) == list(range(len(sizes)))
    assert len({batch.rows for batch in made.batches}) == 1
    assert len({batch[1:] for batch in made.batches}) <= len(made.shapes) <= max_shapes
    for batch in made.batches:
        assert (sizes[batch.indices] <= [batch.source_length, batch.target_length]).all()
        assert batch.rows >= len(batch.indices) == batch.rows or batch is made.batches[-1]
        assert batch.source_length % multiple == batch.target_length % multiple == 0
    other = padding_plan(np.array(lengths), epoch=1, max_shapes=max_shapes, **options)
    assert other.shapes == made.shapes


def test_plain_padding_pads_most_and_keeps_to_the_tokens() -> None:
    options = {"tokens": 1024, "max_length": 128, "seed": 1, "epoch": 0, "digest": "d"}
    made = padding_plan(some(20_000), **options)
    assert made.padding_share > 2 * bucket_plan(some(20_000), **options).padding_share
    sides = [b.rows * max(b.source_length, b.target_length) for b in made.batches]
    assert 0.8 * 1024 < np.mean(sides) < 1.15 * 1024


def test_chosen_pairs_as_often_as_wanted() -> None:
    chosen = np.array([7, 7, 3, 7, 100])
    for made, whole in (
        (plan(some(), chosen=chosen), plan(some())),
        (
            padding_plan(some(), tokens=256, max_length=64, seed=1, epoch=0, digest="d", chosen=chosen),
            padding_plan(some(), tokens=256, max_length=64, seed=1, epoch=0, digest="d"),
        ),
    ):
        assert sorted(np.concatenate([b.indices for b in made.batches]).tolist()) == sorted(chosen.tolist())
        assert made.shapes == whole.shapes
        assert made.real_tokens == (some()[chosen] + 1).sum()
