"""Constraints: a wide beam finds the best of all allowed outputs; each constraint by hand; refusals."""

from __future__ import annotations

import numpy as np
import pytest

from seqlib.decode.constraints import Constraints
from seqlib.util.errors import UsageError
from tests.decode.fake import EOS, FakeModel, decode, exhaustive


def contains(tokens: tuple[int, ...], sequence: tuple[int, ...]) -> bool:
    n = len(sequence)
    return any(tokens[i : i + n] == sequence for i in range(len(tokens) - n + 1))


def repeats(tokens: tuple[int, ...], n: int) -> bool:
    grams = [tokens[i : i + n] for i in range(len(tokens) - n + 1)]
    return len(set(grams)) < len(grams)


CASES = {
    "min_length": (Constraints(min_length=4), lambda t: len(t) + 1 >= 4),
    "unigrams": (Constraints(no_repeat_ngram=1), lambda t: not repeats(t, 1)),
    "bigrams": (Constraints(no_repeat_ngram=2), lambda t: not repeats(t, 2)),
    "banned": (Constraints(banned=[(3,), (0, 4)]), lambda t: not contains(t, (3,)) and not contains(t, (0, 4))),
    "prefix": (Constraints(prefixes=[(4, 0)]), lambda t: t[:2] == (4, 0)),
    "all": (
        Constraints(min_length=3, no_repeat_ngram=2, banned=[(1, 1), (3,)], prefixes=[(0,)]),
        lambda t: len(t) >= 2 and not repeats(t, 2) and not contains(t, (1, 1)) and 3 not in t and t[0] == 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("alpha", [0.0, 0.6, -0.5])
def test_a_wide_beam_finds_the_best_allowed_outputs(name: str, alpha: float) -> None:
    constraints, allowed = CASES[name]
    for seed in range(3):
        model, limit = FakeModel(5, seed), 5
        best = exhaustive(model, 0, limit, alpha, allowed=allowed)
        results, _ = decode(model, [0], [limit], beam=300, n_best=4, alpha=alpha, constraints=constraints)
        finished = [h for h in results[0] if h.stop_reason == "eos"]
        assert [h.tokens for h in finished] == [tokens for _, tokens in best[:4]]
        assert [h.score for h in finished] == [score for score, _ in best[:4]]


@pytest.mark.parametrize("beam", [1, 3])
def test_each_sentence_has_its_prefix_and_leaving_changes_nothing(beam: int) -> None:
    model = FakeModel(9, 4, sharpness=3.0)
    prefixes = [(5, 5, 5), (), (7,)]
    options = {"beam": beam, "constraints": Constraints(no_repeat_ngram=2, prefixes=prefixes)}
    stay, _ = decode(model, [0, 1, 2], [9, 9, 9], **options)
    leave, _ = decode(model, [0, 1, 2], [9, 9, 9], leave=True, **options)
    for (a, *_), (b, *_), prefix in zip(stay, leave, prefixes, strict=True):
        assert a.tokens == b.tokens and a.score == b.score and a.tokens[: len(prefix)] == prefix
        assert not repeats(a.tokens[max(0, len(prefix) - 1) :], 2)


def test_where_nothing_is_left_the_output_ends() -> None:
    model = FakeModel(6, 1)
    constraints = Constraints(min_length=9, no_repeat_ngram=1)
    for beam in (1, 2):
        ((best, *_),), _ = decode(model, [0], [9], beam=beam, constraints=constraints)
        assert best.stop_reason == "eos" and sorted(best.tokens) == [0, 1, 3, 4, 5]


def test_scores_are_those_of_the_model() -> None:
    model = FakeModel(9, 2)
    ((best,),), _ = decode(model, [0], [6], beam=1, constraints=Constraints(min_length=5, prefixes=[(4,)]))
    log_probs = [model.log_probs(0, best.tokens[:i])[t] for i, t in enumerate((*best.tokens, EOS))]
    np.testing.assert_array_equal(best.token_log_probs, log_probs[: len(best.token_log_probs)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_length": -1}, "min_length: expected at least 0"),
        ({"no_repeat_ngram": -2}, "no_repeat_ngram: expected at least 0"),
        ({"banned": [()]}, "banned: expected sequences of at least one token"),
        ({"min_length": 8}, "min_length: 8 is more than the 7 tokens allowed"),
        ({"banned": [(3, 50)]}, "banned: token 50 is no word of the vocabulary of 9"),
        ({"prefixes": [(3,), (-1,)]}, "prefixes: token -1 is no word"),
        ({"prefixes": [(3,)]}, "prefixes: expected one for each of 2 sentences, got 1"),
        ({"prefixes": [(3,) * 7, ()]}, "prefixes: one of 7 tokens leaves no room in the 7 allowed"),
    ],
)
def test_refusals(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Constraints(**options).check(2, np.array([7, 8]), 9, EOS)
