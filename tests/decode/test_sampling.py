"""Sampling: the distribution, its cuts, and draws that depend on the sentence and not on the batch."""

from __future__ import annotations

import numpy as np
import pytest

from seqlib.decode.sampling import Sampling, sentence_keys
from seqlib.util.errors import UsageError
from tests.decode.fake import FakeModel, decode

ROWS = 20_000


def shares(sampling: Sampling, logits: list[float]) -> np.ndarray:
    rows = np.tile(np.array(logits, np.float32), (ROWS, 1))
    drawn = sampling.draw(rows, np.arange(ROWS, dtype=np.uint64) * np.uint64(7919), step=3)
    return np.bincount(drawn, minlength=len(logits)) / ROWS


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def test_shares_are_the_probabilities() -> None:
    logits = [2.0, 0.0, -1.0, 1.0, -np.inf]
    for temperature in (0.5, 1.0, 2.0):
        expected = softmax(np.array(logits) / temperature)
        np.testing.assert_allclose(shares(Sampling(temperature), logits), expected, atol=0.012)


def test_top_k_and_top_p_cut_and_keep_proportions() -> None:
    logits = np.log([0.4, 0.1, 0.3, 0.05, 0.15]).tolist()
    np.testing.assert_allclose(shares(Sampling(top_k=2), logits), [4 / 7, 0, 3 / 7, 0, 0], atol=0.012)
    np.testing.assert_allclose(shares(Sampling(top_p=0.6), logits), [4 / 7, 0, 3 / 7, 0, 0], atol=0.012)
    np.testing.assert_allclose(
        shares(Sampling(top_p=0.75), logits), [0.4 / 0.85, 0, 0.3 / 0.85, 0, 0.15 / 0.85], atol=0.012
    )
    assert shares(Sampling(top_k=1), logits)[0] == 1.0 and shares(Sampling(top_p=1e-9), logits)[0] == 1.0
    tied = shares(Sampling(top_k=1), [1.0, 1.0, 0.0])
    np.testing.assert_allclose(tied, [0.5, 0.5, 0.0], atol=0.012)


def test_draws_belong_to_the_sentence() -> None:
    model = FakeModel(12, 5, sharpness=1.0)
    sampling, keys = Sampling(seed=11), sentence_keys([[4], [5, 6], [4, 4]])
    options = {"beam": 3, "n_best": 3, "sampling": sampling}
    together, _ = decode(model, [0, 1, 2], [8, 8, 8], keys=keys, **options)
    left, _ = decode(model, [0, 1, 2], [8, 8, 8], leave=True, keys=keys, **options)
    alone = [decode(model, [i], [8], keys=keys[i : i + 1], **options)[0][0] for i in range(3)]
    for a, b, c in zip(together, left, alone, strict=True):
        assert [(h.tokens, h.score) for h in a] == [(h.tokens, h.score) for h in b] == [(h.tokens, h.score) for h in c]
    assert len({h.tokens for h in together[0]}) > 1
    others, _ = decode(model, [0, 1, 2], [8, 8, 8], keys=keys, **{**options, "sampling": Sampling(seed=12)})
    assert [h.tokens for h in others[0]] != [h.tokens for h in together[0]]
    for hypotheses in together:
        assert len(hypotheses) == 3
        for h in hypotheses:
            given = [model.log_probs(together.index(hypotheses), h.tokens[:i])[t] for i, t in enumerate(h.tokens)]
            np.testing.assert_array_equal(h.token_log_probs[: len(given)], given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"seed": -1}, "seed"),
    ],
)
def test_refusals(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Sampling(**options)
