"""The search under all options at once against a plain beam search, written for reading and not for speed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlib.decode.constraints import Constraints
from seqlib.decode.penalty import table
from tests.decode.fake import EOS, FakeModel, decode, normalizers

Tokens = tuple[int, ...]
Finished = list[tuple[Tokens, np.float32, str]]


def allowed(tokens: Tokens, token: int, limits: Constraints, prefix: Sequence[int]) -> bool:
    """Whether `token` may follow `tokens`."""
    if len(tokens) < len(prefix):
        return token == prefix[len(tokens)]
    if token == EOS:
        return len(tokens) + 1 >= limits.min_length
    longer, n = (*tokens, token), limits.no_repeat_ngram
    if n and len(longer) > n and longer[-n:] in {longer[i : i + n] for i in range(len(longer) - n)}:
        return False
    return not any(longer[-len(ban) :] == tuple(ban) for ban in limits.banned)


def plain_beam_search(
    model: FakeModel,
    sentence: int,
    limit: int,
    *,
    beam: int,
    n_best: int,
    penalties: np.ndarray,
    limits: Constraints,
    prefix: Sequence[int],
) -> Finished:
    """To the limit, without a bound: (tokens, score, stop reason), best first."""
    live: list[tuple[Tokens, np.float32]] = [((), np.float32(0.0))]
    finished: list[tuple[Tokens, np.float32]] = []
    for step in range(limit):
        candidates = []
        for place, (tokens, total) in enumerate(live):
            logits = model.logits(sentence, tokens)
            log_probs = np.minimum(logits - normalizers(logits[None])[0], np.float32(0.0))
            choices = [t for t in range(model.vocabulary) if allowed(tokens, t, limits, prefix)] or [EOS]
            candidates += [(-(total + log_probs[t]), place, -logits[t], t, tokens) for t in choices]
        candidates.sort(key=lambda c: c[:4])
        for rank, (loss, _, _, token, tokens) in enumerate(candidates[: 2 * beam]):
            if token == EOS and rank < beam:
                finished.append((tokens, np.float32(-loss) / penalties[step + 1]))
        live = [((*c[4], c[3]), np.float32(-c[0])) for c in candidates[: 2 * beam] if c[3] != EOS][:beam]
        if not live:
            break
    finished.sort(key=lambda item: -item[1])
    found: Finished = [(tokens, score, "eos") for tokens, score in finished[:n_best]]
    cut = sorted(((t, total / penalties[limit]) for t, total in live), key=lambda item: -item[1])
    return found + [(tokens, score, "length") for tokens, score in cut[: n_best - len(found)]]


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 100_000),
    vocabulary=st.integers(4, 12),
    beam=st.integers(1, 5),
    limit=st.integers(2, 8),
    alpha=st.sampled_from([0.0, 0.6, 1.0, -0.5]),
    penalty=st.sampled_from(["gnmt", "power"]),
    ties=st.booleans(),
    min_length=st.integers(0, 4),
    no_repeat_ngram=st.integers(0, 3),
    leave=st.booleans(),
    data=st.data(),
)
def test_the_search_is_the_plain_one(
    seed, vocabulary, beam, limit, alpha, penalty, ties, min_length, no_repeat_ngram, leave, data
):
    words = st.integers(0, vocabulary - 1).filter(lambda token: token != EOS)
    sequences = st.lists(words, min_size=1, max_size=2).map(tuple)
    n_best = data.draw(st.integers(1, beam))
    banned = data.draw(st.lists(sequences, max_size=3))
    limits = [limit, limit + 2, max(2, limit - 1)]
    prefixes = [data.draw(st.lists(words, max_size=n - 1)) for n in limits]
    constraints = Constraints(min(min_length, *limits), no_repeat_ngram, banned, prefixes)
    model = FakeModel(vocabulary, seed, step=1.0 if ties else None)
    options = {"beam": beam, "n_best": n_best, "alpha": alpha, "penalty": penalty}
    found, _ = decode(model, [0, 1, 2], limits, leave=leave, constraints=constraints, **options)
    penalties = table(penalty, alpha, max(limits))
    for sentence, hypotheses in enumerate(found):
        expected = plain_beam_search(
            model,
            sentence,
            limits[sentence],
            beam=beam,
            n_best=n_best,
            penalties=penalties,
            limits=constraints,
            prefix=prefixes[sentence],
        )
        assert [(h.tokens, np.float32(h.score), h.stop_reason) for h in hypotheses] == expected
