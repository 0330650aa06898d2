"""Greedy and beam search on a model that is a function of the prefix."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlib.core.ops.sort_numpy import top_k_rows
from seqlib.decode.penalty import gnmt, power, table
from seqlib.decode.search import Rules, start
from seqlib.util.errors import SeqlibError, UsageError
from tests.decode.fake import BOS, EOS, FakeModel, decode, exhaustive


def key(hypotheses):
    return [(h.tokens, h.score, h.log_prob, h.stop_reason, h.token_log_probs.tolist()) for h in hypotheses]


@pytest.mark.parametrize(
    "penalty,alpha", [("gnmt", 0.6), ("gnmt", 0.0), ("gnmt", -0.5), ("power", 1.0), ("power", 2.0)]
)
@pytest.mark.parametrize("seed", range(4))
def test_wide_beam_finds_the_exhaustive_best(penalty, alpha, seed):
    model, limit = FakeModel(5, seed), 5
    best = exhaustive(model, 0, limit, alpha, penalty)
    results, _ = decode(model, [0], [limit], beam=300, n_best=4, alpha=alpha, penalty=penalty)
    finished = [h for h in results[0] if h.stop_reason == "eos"]
    assert [h.tokens for h in finished] == [tokens for _, tokens in best[:4]]
    assert [h.score for h in finished] == [score for score, _ in best[:4]]


@pytest.mark.parametrize("seed", range(6))
def test_greedy_is_the_chain_of_best_tokens(seed):
    model = FakeModel(9, seed, step=0.5)
    (hypotheses,), _ = decode(model, [0], [12], beam=1)
    prefix: tuple[int, ...] = ()
    total = np.float32(0.0)
    while len(prefix) < 12:
        log_probs = model.log_probs(0, prefix)
        best = int(model.logits(0, prefix).argmax())
        total += log_probs[best]
        if best == EOS:
            break
        prefix = (*prefix, best)
    assert hypotheses[0].tokens == prefix
    assert hypotheses[0].log_prob == float(total)
    assert hypotheses[0].stop_reason == ("eos" if len(prefix) < 12 else "length")


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    beam=st.integers(1, 6),
    vocabulary=st.integers(4, 90),
    alpha=st.floats(-1.0, 2.0),
    limit=st.integers(1, 9),
    ties=st.booleans(),
    data=st.data(),
)
def test_the_bound_and_leaving_change_nothing(seed, beam, vocabulary, alpha, limit, ties, data):
    n_best = data.draw(st.integers(1, beam))
    model = FakeModel(vocabulary, seed, step=1.0 if ties else None)
    options = {"beam": beam, "n_best": n_best, "alpha": alpha}
    limits = [limit, max(1, limit - 2), limit + 1]
    plain, most = decode(model, [0, 1, 2], limits, early_stop=False, **options)
    for leave in (False, True):
        fast, steps = decode(model, [0, 1, 2], limits, leave=leave, **options)
        assert [key(h) for h in fast] == [key(h) for h in plain]
        assert steps <= most
    alone = [decode(model, [i], [limits[i]], **options)[0][0] for i in range(3)]
    assert [key(h) for h in alone] == [key(h) for h in plain]


def test_the_bound_saves_steps():
    model = FakeModel(6, 3, sharpness=4.0)
    _, slow = decode(model, [0, 1], [60, 60], beam=4, early_stop=False)
    _, fast = decode(model, [0, 1], [60, 60], beam=4)
    assert fast < slow == 60


@pytest.mark.parametrize("seed", range(5))
def test_n_best_is_sorted_and_distinct(seed):
    results, _ = decode(FakeModel(12, seed), [0, 1], [7, 7], beam=6, n_best=6)
    for hypotheses in results:
        assert len(hypotheses) == 6
        assert len({h.tokens for h in hypotheses if h.stop_reason == "eos"}) == sum(
            h.stop_reason == "eos" for h in hypotheses
        )
        reasons = [h.stop_reason for h in hypotheses]
        assert reasons == sorted(reasons)  # "eos" before "length"
        for reason in ("eos", "length"):
            scores = [h.score for h in hypotheses if h.stop_reason == reason]
            assert scores == sorted(scores, reverse=True)
    assert decode(FakeModel(12, seed), [0], [7], beam=6, n_best=2)[0][0][0].tokens == results[0][0].tokens


def test_scores_are_float32_sums_over_the_penalty():
    (hypotheses,), _ = decode(FakeModel(12, 1), [0], [9], beam=4, n_best=3, alpha=0.6)
    for h in hypotheses:
        n = len(h.tokens) + (h.stop_reason == "eos")
        assert len(h.token_log_probs) == n
        total = np.float32(0.0)
        for value in h.token_log_probs:
            total += value
        assert h.log_prob == float(total)
        assert h.score == float(total / np.float32(((5 + n) / 6) ** 0.6))


class Flat(FakeModel):
    """Every token is as likely as any other, the end token included from `open_at` on."""

    def logits(self, sentence, prefix):
        x = np.zeros(self.vocabulary, np.float32)
        if len(prefix) < 2:
            x[EOS] = -50.0
        return x


def test_ties_go_to_the_lower_id():
    (greedy,), _ = decode(Flat(7), [0], [4], beam=1)
    assert greedy[0].tokens == (0, 0, 0, 0)
    (beam,), _ = decode(Flat(7), [0], [3], beam=3, n_best=3, alpha=0.0)
    assert [h.tokens for h in beam] == [(0, 0), (0, 0, 0), (0, 0, 1)]  # the third beam token, 2, is the end


def test_a_sentence_that_never_ends_stops_at_its_limit():
    class Endless(FakeModel):
        def logits(self, sentence, prefix):
            x = super().logits(sentence, prefix)
            x[EOS] = -1e9
            return x

    results, steps = decode(Endless(6), [0, 1], [3, 5], beam=2, n_best=2)
    assert steps == 5
    assert [[len(h.tokens) for h in r] for r in results] == [[3, 3], [5, 5]]
    assert {h.stop_reason for r in results for h in r} == {"length"}


def test_penalties():
    assert gnmt(0.6)(np.array([1, 7])).tolist() == [1.0, 2.0**0.6]
    assert power(2.0)(np.array([3])).tolist() == [9.0]
    assert table("gnmt", 0.0, 3).tolist() == [1.0, 1.0, 1.0, 1.0]
    assert table("power", 1.0, 3).dtype == np.float32
    with pytest.raises(UsageError, match="gnmt"):
        table("gnmmt", 1.0, 3)
    with pytest.raises(UsageError, match="finite"):
        table("gnmt", float("nan"), 3)


def test_logits_that_are_not_numbers_are_refused():
    search = start(np.array([4, 4]), Rules(2, 1, table("gnmt", 0.6, 4), BOS, EOS))
    logits = np.zeros((4, 5), np.float32)
    logits[3] = np.nan
    with pytest.raises(SeqlibError, match=r"step 1.*sentence 1"):
        search.advance(logits, logits.sum(axis=1))


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 6), st.integers(1, 300), st.integers(0, 10_000), st.booleans(), st.data())
def test_top_k_rows_is_a_stable_sort(rows, width, seed, ties, data):
    k = data.draw(st.integers(1, min(width, 12)))
    x = np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)
    x = np.round(x) if ties else x
    before = x.copy()
    values, columns = top_k_rows(x, k)
    order = np.argsort(-before, axis=1, kind="stable")[:, :k]
    assert (columns == order).all()
    assert (values == np.take_along_axis(before, order, axis=1)).all()
    assert (x == before).all()


def test_top_k_rows_with_rows_of_minus_infinity():
    x = np.full((2, 130), -np.inf, np.float32)
    x[0, 129] = 1.0
    before = x.copy()
    values, columns = top_k_rows(x, 3)
    assert (values[0, 0], columns[0, 0]) == (1.0, 129)
    assert (values[1] == -np.inf).all()
    assert (x == before).all()
    with pytest.raises(ValueError, match="between 1 and 130"):
        top_k_rows(x, 131)
