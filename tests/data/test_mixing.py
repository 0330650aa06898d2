"""Mixtures: grammar, evenness over epochs, purity, temperature."""

import numpy as np
import pytest

from seqlib.data.mixing import Mixture, parse_mix
from seqlib.util.errors import UsageError


def test_grammar() -> None:
    assert parse_mix("big.en,big.de; small.tsv * 3;c.tsv*0.25") == [
        ("big.en,big.de", 1.0),
        ("small.tsv", 3.0),
        ("c.tsv", 0.25),
    ]
    assert parse_mix("") == []
    for bad in ("a.tsv*x", "*3", "a.tsv*0", "a.tsv*-1", "a.tsv*inf", "a.tsv*"):
        with pytest.raises(UsageError, match="expected files and a weight above 0"):
            parse_mix(bad)


def seen(mixture: Mixture, epochs: int) -> np.ndarray:
    """How often each pair came in so many epochs."""
    chosen = [mixture.chosen("d", 1, epoch) for epoch in range(epochs)]
    return np.bincount(np.concatenate(chosen), minlength=sum(mixture.sizes))


def test_every_pair_as_often_as_its_weight_says() -> None:
    mixture = Mixture((100, 30, 7), (1.0, 3.0, 0.25))
    counts = np.split(seen(mixture, 8), [100, 130])
    assert (counts[0] == 8).all()
    assert (counts[1] == 24).all()
    assert (counts[2] == 2).all()
    once = np.split(np.bincount(mixture.chosen("d", 1, 0), minlength=137), [100, 130])
    assert (once[0] == 1).all() and (once[1] == 3).all() and once[2].sum() == 1
    odd = Mixture((10,), (0.3,))
    assert [len(odd.chosen("d", 1, epoch)) for epoch in range(4)] == [3, 3, 3, 3]
    assert seen(Mixture((7,), (1.3,)), 10).min() >= 12


def test_pure() -> None:
    mixture = Mixture((50, 20), (1.0, 0.5))
    first = mixture.chosen("d", 1, 3)
    assert np.array_equal(first, mixture.chosen("d", 1, 3))
    others = [mixture.chosen("e", 1, 3), mixture.chosen("d", 2, 3), mixture.chosen("d", 1, 4)]
    assert not any(np.array_equal(first, other) for other in others)


def test_temperature_evens_out_and_keeps_the_size_of_an_epoch() -> None:
    plain, warm, hot = (Mixture((900, 100), (1.0, 1.0), t) for t in (1.0, 2.0, 1e9))
    assert plain.times() == [1.0, 1.0] and plain.plain and not warm.plain
    assert warm.times()[1] * 100 == pytest.approx(1000 * 10 / (30 + 10))
    assert hot.times()[1] * 100 == pytest.approx(500)
    for mixture in (warm, hot):
        assert sum(s * t for s, t in zip(mixture.sizes, mixture.times(), strict=True)) == pytest.approx(1000)
    assert "small: 100 pairs, each seen 5 times an epoch" in hot.report(["big", "small"])


def test_errors() -> None:
    with pytest.raises(UsageError, match="2 corpora were prepared, but 1 weights given"):
        Mixture((1, 2), (1.0,))
    with pytest.raises(UsageError, match="temperature of a mixture must be above 0"):
        Mixture((1,), (1.0,), 0.0)
