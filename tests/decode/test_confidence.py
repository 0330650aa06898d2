"""The source model and the calibration of confidence."""

from __future__ import annotations

import json

import numpy as np
import pytest

from seqlib.decode.confidence import SOURCE_FILE, Calibration, TailCurve, features, fit
from seqlib.decode.source_model import SourceModel, words
from seqlib.util.errors import DataError

SUBJECTS = ["the train to NAME", "the doctor from NAME", "a bus", "the meeting with NAME", "the ferry", "a ticket"]
VERBS = ["leaves at NUM", "arrives on monday at NUM", "costs NUM euros", "is cancelled", "is late by NUM minutes"]
ENDS = ["", " because of the snow", " and waits in NAME", " from platform NUM"]
SYLLABLES = ["ka", "ro", "mi", "ten", "lu", "bor", "shi", "vel", "gra", "do", "pen", "ulf"]

OFF_DOMAIN = [
    "Quantum field theory unifies special relativity with quantum mechanics.",
    "The parliament adopted the resolution after a heated debate.",
    "My grandmother's recipe calls for two cups of flour.",
    "Photosynthesis converts sunlight into chemical energy.",
    "She whispered that the old house had always been haunted.",
    "Interest rates rose sharply while unemployment kept falling.",
    "Please restart your computer and install the latest driver.",
    "The defendant was found not guilty on all counts.",
    "He scored the winning goal in the last second of the game.",
    "Ancient Romans built roads that are still in use today.",
]


def sentence(rng: np.random.Generator) -> str:
    text = rng.choice(SUBJECTS) + " " + rng.choice(VERBS) + rng.choice(ENDS)
    while "NAME" in text:
        name = "".join(rng.choice(SYLLABLES, rng.integers(2, 5)))
        text = text.replace("NAME", name.capitalize(), 1)
    while "NUM" in text:
        text = text.replace("NUM", str(rng.integers(1, 400)), 1)
    return text[0].upper() + text[1:] + "."


@pytest.fixture(scope="module")
def corpora():
    rng = np.random.default_rng(0)
    return [[sentence(rng) for _ in range(n)] for n in (4000, 600, 600)]


@pytest.fixture(scope="module")
def source(corpora):
    return SourceModel.fit(corpora[0])


def source_side(source, texts, rng):
    """Features with output losses that say nothing: the same distribution for every text."""
    return [features(t, len(words(t)), -rng.exponential(0.02, len(words(t)) + 1), source) for t in texts]


def test_words():
    assert words("Don't stop: 14.30 Uhr, Straße!") == ["Don't", "stop", ":", "14", ".", "30", "Uhr", ",", "Straße", "!"]
    assert words("私は猫 cat") == ["私", "は", "猫", "cat"]


def test_probabilities_sum_to_one(source):
    size = len(source.vocabulary)
    for word in ("the", "is", "\tCapital"):
        before = np.full(size, source.vocabulary.index(word))
        assert np.exp(-source._surprise(before, np.arange(size))).sum() == pytest.approx(1.0, abs=1e-9)


def test_names_are_usual_and_other_words_are_not(source):
    usual, _ = source.surprise("The train to Kabor leaves at 12.")
    new_name, unknown = source.surprise("The train to Wyxqing leaves at 12.")
    new_word, also = source.surprise("The train to eat leaves at 12.")
    assert np.flatnonzero(unknown).tolist() == np.flatnonzero(also).tolist() == [3]
    assert new_name.mean() == pytest.approx(usual.mean(), abs=0.01)
    assert new_word.mean() > usual.mean() + 0.3


def test_off_domain_is_flagged_and_in_domain_is_not(corpora, source):
    rng = np.random.default_rng(1)
    calibration = fit(source_side(source, corpora[1], rng), source)
    inside = calibration.confidence(source_side(source, corpora[2], rng))
    outside = calibration.confidence(source_side(source, OFF_DOMAIN, rng))
    assert (outside < calibration.threshold).all()
    assert (inside < calibration.threshold).mean() <= 0.02
    assert abs(np.median(inside) - 0.5) < 0.1
    assert ((inside >= 0) & (inside <= 1)).all()


def test_hesitant_output_alone_is_flagged(corpora, source):
    rng = np.random.default_rng(2)
    calibration = fit(source_side(source, corpora[1], rng), source)
    text = corpora[2][0]
    count = len(words(text))
    good = features(text, count, np.full(count + 1, -0.02), source)
    bad = features(text, count, np.full(count + 1, -1.5), source)
    found = calibration.confidence([good, bad])
    assert found[0] > 0.1 > calibration.threshold > found[1]


def test_round_trip(corpora, source):
    rng = np.random.default_rng(3)
    calibration = fit(source_side(source, corpora[1], rng), source)
    data, files = json.loads(json.dumps(calibration.to_dict())), calibration.files()
    assert set(files) == {SOURCE_FILE}
    assert len(files[SOURCE_FILE]) < 100_000
    again = Calibration.from_dict(data, files)
    items = source_side(again.source, corpora[2][:50], np.random.default_rng(4))
    assert items == source_side(source, corpora[2][:50], np.random.default_rng(4))
    np.testing.assert_allclose(again.confidence(items), calibration.confidence(items), rtol=1e-6)


def test_damage_is_named(corpora, source):
    rng = np.random.default_rng(3)
    calibration = fit(source_side(source, corpora[1], rng), source)
    data = calibration.to_dict()
    with pytest.raises(DataError, match=r"model: confidence\.npz: is damaged"):
        Calibration.from_dict(data, {SOURCE_FILE: calibration.files()[SOURCE_FILE][:100]}, "model")
    with pytest.raises(DataError, match=r"confidence\.npz"):
        Calibration.from_dict(data, {}, "model")
    with pytest.raises(DataError, match="format 7"):
        Calibration.from_dict({**data, "format": 7}, {}, "model")
    with pytest.raises(DataError, match="output_loss"):
        calibration.confidence([{"length_ratio": 0.0}])


def test_too_little_to_calibrate_on(source):
    item = features("A bus.", 3, np.array([-0.1]), source)
    with pytest.raises(DataError, match="at least 50"):
        fit([item] * 49, source)
    with pytest.raises(DataError, match="not finite"):
        fit([{**item, "output_loss": float("nan")}] * 60, source)
    with pytest.raises(DataError, match="no words"):
        SourceModel.fit(["", "12 13"])


def test_without_a_source_model():
    rng = np.random.default_rng(5)
    dev = [features("x", 10, -rng.exponential(0.1, 10), None) for _ in range(300)]
    calibration = fit(dev)
    assert calibration.files() == {}
    assert calibration.confidence([features("x", 10, np.full(10, -3.0), None)])[0] < 1e-3
    assert calibration.confidence([]).shape == (0,)


def test_tail_curve_is_a_tail_probability():
    values = np.random.default_rng(6).exponential(2.0, 5000)
    curve = TailCurve.fit(values)
    x = np.linspace(0.0, 30.0, 200)
    found = curve(x)
    assert (np.diff(found) >= 0).all()
    np.testing.assert_allclose(found, x / 2.0, rtol=0.15, atol=0.05)
    constant = TailCurve.fit(np.ones(100))
    np.testing.assert_allclose(constant(np.array([0.0, 1.0, 1.0 + 1e-12])), 0.0, atol=1e-6)
    assert constant(np.array([2.0]))[0] > 50.0
