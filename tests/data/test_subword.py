"""Subword sampling: the distributions of the papers, purity, the same text, the same shapes in every epoch."""

import itertools
import math
import random
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from seqlib.data import subword
from seqlib.data.epochs import KINDS, Epochs
from seqlib.data.sampled import Sampling
from seqlib.data.store import TokenStore, write_store
from seqlib.data.subword import SubwordSampler
from seqlib.data.tokenizer import BytesTokenizer, SentencePieceTokenizer
from seqlib.util.errors import UsageError

SPEC = SimpleNamespace(pad_id=0, bos_id=1, eos_id=2)
STEMS = ("under", "over", "inter", "stand", "nation", "state", "land", "ing", "al", "ed", "er", "s")
TEXTS = [
    " ".join("".join(random.Random(f"{n} {k}").choices(STEMS, k=1 + (n + k) % 3)) for k in range(1 + n % 6))
    for n in range(1500)
]
ODD = ["", "naïve 😀😀 ሰላም …", "underunderunder", "UNDER 12", "\u00a0x", "漢字 understanding", *TEXTS[:200]]


@pytest.fixture(scope="module", params=["unigram", "bpe"])
def tokenizer(request: pytest.FixtureRequest) -> SentencePieceTokenizer:
    return SentencePieceTokenizer.train(TEXTS, 360, kind=request.param)


def flat(sequences: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(list(itertools.chain(*sequences)), np.int32), np.array([len(s) for s in sequences])


def parts(ids: np.ndarray, lengths: np.ndarray) -> list[list[int]]:
    ends = np.cumsum(lengths)
    return [ids[end - length : end].tolist() for end, length in zip(ends, lengths, strict=True)]


def keys(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**63, count).astype(np.uint64)


def drawn(tokenizer: SentencePieceTokenizer, strength: float, word: str, count: int) -> Counter[tuple[str, ...]]:
    """How often each segmentation of a word came."""
    ids, lengths = flat([tokenizer.encode(word)] * count)
    found = parts(*SubwordSampler(tokenizer, strength).sample(ids, lengths, keys(count)))
    return Counter(tuple(tokenizer.piece(token) for token in one) for one in found)


def exact(tokenizer: SentencePieceTokenizer, alpha: float, word: str) -> dict[tuple[str, ...], float]:
    """Kudo's distribution by writing out all segmentations."""
    scores = {tokenizer.piece(n): tokenizer.score(n) for n in range(260, tokenizer.vocab_size)}
    text = "▁" + word
    weights: dict[tuple[str, ...], float] = {}
    for cuts in itertools.product((False, True), repeat=len(text) - 1):
        ends = [n + 1 for n, cut in enumerate(cuts) if cut] + [len(text)]
        pieces = tuple(text[a:b] for a, b in zip([0, *ends], ends, strict=False))
        if all(piece in scores for piece in pieces):
            weights[pieces] = math.exp(alpha * sum(scores[piece] for piece in pieces))
    total = sum(weights.values())
    return {pieces: weight / total for pieces, weight in weights.items()}


def dropped_out(tokenizer: SentencePieceTokenizer, dropout: float, word: str, count: int) -> Counter[tuple[str, ...]]:
    """Algorithm 1 of Provilkov et al., word by word."""
    scores = {tokenizer.piece(n): tokenizer.score(n) for n in range(260, tokenizer.vocab_size)}
    draw, found = random.Random(1).random, Counter()
    for _ in range(count):
        split = list("▁" + word)
        while True:
            places = [n for n in range(len(split) - 1) if split[n] + split[n + 1] in scores and draw() >= dropout]
            if not places:
                break
            best = max(places, key=lambda n: (scores[split[n] + split[n + 1]], -n))
            split[best : best + 2] = [split[best] + split[best + 1]]
        found[tuple(split)] += 1
    return found


@pytest.mark.parametrize("strength", [0.1, 0.5])
@pytest.mark.parametrize("word", ["understand", "nationals", "inter"])
def test_the_distribution(tokenizer: SentencePieceTokenizer, strength: float, word: str) -> None:
    count = 20_000
    found = drawn(tokenizer, strength, word, count)
    if tokenizer.kind == "unigram":
        chances, noise = exact(tokenizer, strength, word), 0.0
    else:
        chances = {pieces: n / count for pieces, n in dropped_out(tokenizer, strength, word, count).items()}
        noise = 1.0  # the reference is a sample too
    assert len(chances) >= 4
    for pieces in found.keys() | chances.keys():
        chance = chances.get(pieces, 0.0)
        spread = math.sqrt(max(chance, 1 / count) * count * (1 + noise))
        assert abs(found[pieces] - chance * count) < 5 * spread + 2, pieces


def test_the_best_segmentation_at_the_limit(tokenizer: SentencePieceTokenizer) -> None:
    sampler = SubwordSampler(tokenizer, 1e5 if tokenizer.kind == "unigram" else 1e-12)
    expected = tokenizer.encode_batch(ODD)
    assert parts(*sampler.sample(*flat(expected), keys(len(ODD)))) == expected


def test_the_text_stays_and_nothing_but_key_and_ids_matters(
    tokenizer: SentencePieceTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, encoded = keys(len(ODD)), tokenizer.encode_batch(ODD)
    found = parts(*SubwordSampler(tokenizer, 0.3).sample(*flat(encoded), own))
    assert [tokenizer.decode(ids) for ids in found] == [tokenizer.decode(ids) for ids in encoded]
    assert sum(a != b for a, b in zip(found, encoded, strict=True)) > 60
    sampler = SubwordSampler(tokenizer, 0.3)
    monkeypatch.setattr(subword, "_MOST_EDGES", 50)  # what was learnt of words is forgotten again and again
    for chosen in (range(len(ODD) - 1, -1, -1), [3], [0], []):
        alone = sampler.sample(*flat([encoded[n] for n in chosen]), own[list(chosen)])
        assert parts(*alone) == [found[n] for n in chosen]
    assert parts(*sampler.sample(*flat(encoded), keys(len(ODD), seed=1))) != found


def test_what_cannot_be_cut_anew_stays(tokenizer: SentencePieceTokenizer) -> None:
    """The unknown token of other models, and bytes that are no character."""
    ids = [[3], [4 + 0xFF], [*tokenizer.encode("land")[:1], 3, 4 + 0xC3]]
    assert parts(*SubwordSampler(tokenizer, 0.5).sample(*flat(ids), keys(3))) == ids


def test_errors(tokenizer: SentencePieceTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="bytes knows only one way to cut a word"):
        SubwordSampler(BytesTokenizer(), 0.1)
    with pytest.raises(UsageError, match=r"takes .* such as 0\.[12]; got 0"):
        SubwordSampler(tokenizer, 0.0)
    monkeypatch.setattr(SentencePieceTokenizer, "piece", lambda self, token: "▁a▁b")
    with pytest.raises(UsageError, match="pieces that lie within words; the tokenizer has '▁a▁b'"):
        SubwordSampler(tokenizer, 0.5)


@pytest.fixture
def store(tokenizer: SentencePieceTokenizer, tmp_path: Path) -> TokenStore:
    encoded = tokenizer.encode_batch(TEXTS)
    return write_store(tmp_path / "s", zip(encoded, reversed(encoded), strict=True), tokenizer.vocab_size)


def sampling(store: TokenStore, tokenizer: SentencePieceTokenizer, **changes) -> Sampling:
    options = {"digest": "d", "seed": 1, "max_length": 40} | changes
    return Sampling(store, SubwordSampler(tokenizer, 0.2), **options)


def test_a_store_is_pure_in_every_epoch(store: TokenStore, tokenizer: SentencePieceTokenizer) -> None:
    sampled = sampling(store, tokenizer)
    first, numbers = sampled.epoch(2), np.arange(2 * len(store))
    ids, lengths = first.gather(numbers)
    assert np.array_equal(first.lengths().reshape(-1), lengths)
    some = np.array([77, 0, 1041, 77])
    pieces = parts(ids, lengths)
    assert parts(*sampling(store, tokenizer).epoch(2).gather(some)) == [pieces[n] for n in some]
    for other in (
        sampled.epoch(3),
        sampling(store, tokenizer, seed=2).epoch(2),
        sampling(store, tokenizer, digest="e").epoch(2),
    ):
        assert not np.array_equal(other.gather(numbers)[0], ids)
    assert pieces[0] != pieces[2 * len(store) - 1] or pieces[2] != pieces[-3]  # the same text on the other side


def test_what_grows_too_long_stays_as_it_is(store: TokenStore, tokenizer: SentencePieceTokenizer) -> None:
    sampled = sampling(store, tokenizer, max_length=12)
    plain, longer = store.lengths(), 0
    for epoch in range(3):
        lengths = sampled.epoch(epoch).lengths()
        assert ((lengths <= 11) | (lengths == plain)).all()
        assert (lengths > 11).any()
        longer += int((lengths > plain).sum())
        assert (sampled.shaped_by.max(0) >= np.minimum(lengths, 11).max(0)).all()
    assert longer > 500


@pytest.mark.parametrize("kind", KINDS)
def test_epochs_have_the_same_shapes_and_every_pair(
    store: TokenStore, tokenizer: SentencePieceTokenizer, kind: str
) -> None:
    epochs = Epochs(store, "d", 1, 256, 12, kind, sampling=sampling(store, tokenizer, max_length=12))
    usable = np.flatnonzero((store.lengths() < 12).all(1))
    assert len(usable) < len(store)
    shapes, fills = [], []
    for epoch in range(4):
        plan = epochs.plan(epoch)
        placed = np.concatenate([batch.indices for batch in plan.batches])
        assert set(usable.tolist()) <= set(placed.tolist()) and len(set(placed.tolist())) == len(placed)
        batches = [part for planned in plan.batches for part in epochs.collated(planned, SPEC, epoch)]
        assert sum(int((batch.tgt_out >= 0).sum()) for batch in batches) < plan.real_tokens
        shapes.append(plan.shapes)
        fills.append(plan.real_tokens)
    assert len(set(shapes)) == 1 and len(shapes[0]) <= 12
    assert len(set(fills)) == 4
