"""The engine and the translator on a small Transformer with random weights."""

from __future__ import annotations

import numpy as np
import pytest

from seqlib.core.rng import Generator
from seqlib.decode.alignment import attention_of, pharaoh, token_links, word_links, words
from seqlib.decode.confidence import Calibration
from seqlib.decode.engine import Engine
from seqlib.decode.programs import shrunk
from seqlib.decode.sampling import Sampling
from seqlib.decode.translate import Translator
from seqlib.models.transformer import TransformerConfig, build
from seqlib.problems.spec import ProblemSpec
from seqlib.util.errors import DataError, UsageError

VOCABULARY = 24
SPEC = ProblemSpec(source_vocab=VOCABULARY, target_vocab=VOCABULARY)
LETTERS = "abcdefghijklmnopqrst"


class Letters:
    """A token a letter."""

    def encode(self, text: str) -> list[int]:
        return [4 + LETTERS.index(c) for c in text if c in LETTERS]

    def decode(self, ids) -> str:
        return "".join(LETTERS[i - 4] if i >= 4 else "?" for i in ids)


@pytest.fixture(scope="module")
def model():
    config = TransformerConfig(
        encoder_layers=2, decoder_layers=2, d_model=32, d_ff=64, heads=4, max_length=90, tie_output=False
    )
    model = build(config, SPEC, Generator(3))
    weights = model.state_dict()
    weights["output_weight"] = weights["output_weight"] * 3.0  # decided enough for ends to come at all lengths
    weights["output_weight"][SPEC.eos_id] *= 1.6
    model.load(weights)
    return model.eval()


@pytest.fixture(scope="module")
def engine(model):
    return Engine(model, SPEC)


@pytest.fixture(scope="module")
def sources():
    rng = np.random.default_rng(0)
    return [rng.integers(4, VOCABULARY, n).tolist() for n in (3, 7, 12, 1, 20, 5, 9, 2, 14, 6)]


def forced(model, source, tokens):
    """log-probabilities float32 [n, V] that the uncached model gives to each next token."""
    src = np.array([[*source, SPEC.eos_id]], np.int32)
    lengths = np.array([src.shape[1]], np.int32)
    logits = model(src, lengths, np.array([[SPEC.bos_id, *tokens]], np.int32)).numpy()[0]
    top = logits.max(axis=1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))


def test_greedy_follows_the_uncached_model(model, engine, sources):
    for source, (best,) in zip(sources, engine.decode(sources, beam=1, max_length=40), strict=True):
        log_probs = forced(model, source, best.tokens)
        chain = log_probs.argmax(axis=1).tolist()
        ended = best.stop_reason == "eos"
        assert chain[: len(best.tokens)] == list(best.tokens)
        assert ended == (len(best.tokens) < 40)
        if ended:
            assert chain[-1] == SPEC.eos_id
        np.testing.assert_allclose(best.token_log_probs, log_probs.max(axis=1)[: len(best.token_log_probs)], atol=2e-4)


@pytest.mark.parametrize("beam", [2, 5])
def test_beam_scores_are_those_of_the_uncached_model(model, engine, sources, beam):
    found = engine.decode(sources, beam=beam, n_best=beam, max_length=40)
    assert len({len(h.tokens) for answer in found for h in answer}) > 3
    for source, answer in zip(sources, found, strict=True):
        assert len({h.tokens for h in answer}) == beam
        for h in answer:
            targets = [*h.tokens, SPEC.eos_id][: len(h.token_log_probs)]
            expected = forced(model, source, h.tokens)[np.arange(len(targets)), targets]
            np.testing.assert_allclose(h.token_log_probs, expected, atol=2e-4)


def test_the_bound_changes_no_answer(engine, sources):
    options = {"beam": 4, "n_best": 2, "max_length": 30}
    plain = engine.decode(sources, early_stop=False, **options)
    fast = engine.decode(sources, **options)
    assert [[h.tokens for h in a] for a in fast] == [[h.tokens for h in a] for a in plain]


def test_programs_are_made_once(engine, sources):
    engine.decode(sources, beam=3)
    places = dict(engine.programs._places)
    engine.decode(sources[::-1], beam=3)
    assert all(engine.programs._places.get(size) is place for size, place in places.items())


def test_a_batch_shrinks_when_half_of_it_is_done():
    assert [shrunk(need, 32) for need in (1, 2, 8, 9, 31)] == [1, 8, 8, 32, 32]
    assert [shrunk(need, 64) for need in (1, 8, 32, 33)] == [1, 8, 32, 64]
    assert [shrunk(need, 4) for need in (1, 2, 4)] == [1, 4, 4] and shrunk(1, 1) == 1


def test_caches_stay_within_their_budget(model, sources):
    engine = Engine(model, SPEC)
    engine.programs.budget_bytes = 1
    assert engine.decode(sources, beam=2)
    assert len(engine.programs._places) == 2


def test_arguments_out_of_range(engine):
    for options, message in (
        ({"beam": 0}, "beam: expected at least 1"),
        ({"beam": 2, "n_best": 3}, "n_best: expected 1 to beam = 2"),
        ({"beam": 1, "max_length": 0}, "max_length: expected at least 1"),
        ({"beam": 1, "penalty": "gmnt"}, "gnmt"),
    ):
        with pytest.raises(UsageError, match=message):
            engine.decode([[5]], **options)
    with pytest.raises(UsageError, match="at most 89"):
        engine.decode([[5] * 90], beam=1)
    assert engine.decode([], beam=1) == []


def test_translate_keeps_the_order(model):
    translator = Translator(model, Letters(), SPEC, beam=2)
    texts = ["abc", "", "fabulous"[:3], "abcdefghij", "  ", "t", "abc"]
    found = translator.translate(texts, batch_rows=2)
    assert [t.stop_reason == "empty" for t in found] == [not text.strip() for text in texts]
    assert [t.text for t in found] == [t.text for text in texts for t in translator.translate([text], batch_rows=1)]
    assert found[0].tokens == found[6].tokens
    for t in found:
        assert 0.0 <= t.confidence <= 1.0
        assert t.flagged is None
        assert t.text == Letters().decode(t.tokens)
    assert list(translator.translate_stream(iter(texts), batch_rows=2)) == found
    assert translator.translate([]) == []


def test_n_best_and_stop_reasons(model):
    translator = Translator(model, Letters(), SPEC, threshold=1.0)
    (found,) = translator.translate(["abcdef"], beam=4, n_best=3, max_length=8)
    assert len(found.alternatives) == 2
    assert len({found.tokens, *(a.tokens for a in found.alternatives)}) == 3
    assert found.flagged is True
    (cut,) = translator.translate(["abcdef"], beam=1, max_length=1)
    assert (cut.stop_reason, len(cut.tokens)) == ("length", 1)
    (long,) = translator.translate(["ab" * 60], beam=1, max_length=3)
    assert (long.stop_reason, long.flagged) == ("truncated_source", True)


def test_wrong_arguments(model):
    translator = Translator(model, Letters(), SPEC)
    with pytest.raises(UsageError, match="one string"):
        translator.translate("abc")
    with pytest.raises(UsageError, match="batch_rows"):
        translator.translate(["abc"], batch_rows=0)
    with pytest.raises(UsageError, match="threshold"):
        Translator(model, Letters(), SPEC, threshold=1.5)


def test_calibrate(model):
    rng = np.random.default_rng(1)
    texts = ["".join(rng.choice(list(LETTERS[:6]), rng.integers(2, 9))) for _ in range(200)]
    translator = Translator(model, Letters(), SPEC, beam=1)
    calibration = translator.calibrate(texts[:120], [*texts[120:], ""])
    assert calibration.dev_sentences == 80
    again = Calibration.from_dict(calibration.to_dict(), calibration.files())
    other = Translator(model, Letters(), SPEC, calibration=again, beam=1)
    found = other.translate(texts[120:])
    assert found == translator.translate(texts[120:])
    assert all(t.flagged == (t.confidence < calibration.threshold) for t in found)
    with pytest.raises(DataError, match="at least 50"):
        translator.calibrate(texts, texts[:10])


def test_constraints_reach_every_sentence_of_a_translation(model):
    translator = Translator(model, Letters(), SPEC, beam=3)
    texts = ["abcdef", "", "tsr", "abcabcabc", "q"] * 3
    prefixes = ["ba", "x", "", "ttt", "c"] * 3
    options = {"prefixes": prefixes, "banned": ["e", "ab"], "min_length": 6, "no_repeat_ngram": 3, "max_length": 14}
    found = translator.translate(texts, batch_rows=4, **options)
    for text, prefix, t in zip(texts, prefixes, found, strict=True):
        if not text:
            assert t.stop_reason == "empty"
            continue
        assert t.text.startswith(prefix) and len(t.tokens) >= 5
        rest = t.text[max(0, len(prefix) - 1) :]
        assert "e" not in rest and "ab" not in t.text
        grams = [t.tokens[i : i + 3] for i in range(len(t.tokens) - 2)]
        assert len(set(grams)) == len(grams)
    assert list(translator.translate_stream(texts, batch_rows=1, **{**options, "prefixes": iter(prefixes)})) == found
    with pytest.raises(UsageError, match="prefixes: expected one for each of 15"):
        translator.translate(texts, prefixes=["a"])
    with pytest.raises(UsageError, match="fewer than sentences"):
        list(translator.translate_stream(texts, prefixes=["a"]))
    with pytest.raises(UsageError, match="more than sentences"):
        list(translator.translate_stream(["a"], prefixes=["a", "b"]))


def test_samples_belong_to_the_sentence_and_the_seed(model):
    translator = Translator(model, Letters(), SPEC)
    texts = ["abcdef", "tsr", "abc", "qqq"]
    options = {"n_best": 3, "max_length": 9, "sampling": Sampling(temperature=1.3, top_k=12, top_p=0.95, seed=5)}
    found = translator.translate(texts, **options)
    assert found == [t for text in texts for t in translator.translate([text], **options)]
    assert found == translator.translate(texts[::-1], batch_rows=2, **options)[::-1]
    for t in found:
        drawn = {t.tokens, *(a.tokens for a in t.alternatives)}
        assert len(t.alternatives) == 2 and len(drawn) > 1
    other = translator.translate(texts, **{**options, "sampling": Sampling(seed=6)})
    assert [t.tokens for t in other] != [t.tokens for t in found]


def test_alignment_follows_the_models_attention(model):
    translator = Translator(model, Letters(), SPEC)
    found = translator.translate(["abcdef", "", "tsr"], alignment=True, min_length=4, max_length=7)
    assert found[1].alignment == () == found[1].token_alignment
    for source, t in (("abcdef", found[0]), ("tsr", found[2])):
        weights = attention_of(model, SPEC, Letters().encode(source), t.tokens)
        assert weights.shape == (len(t.tokens), len(source))
        assert t.token_alignment == tuple((int(i), j) for j, i in enumerate(weights.argmax(axis=1)))
        assert t.alignment == ((0, 0),)  # no spaces: a single word on each side
    assert translator.translate(["abc"], max_length=4)[0].alignment is None


def test_word_links_sum_over_the_tokens_of_words():
    pieces = {4: "▁ein", 5: "▁klei", 6: "ner", 7: "▁Hund", 8: "▁a", 9: "▁small", 10: "▁do", 11: "g"}

    def decode(ids):
        return "".join(pieces[i] for i in ids).replace("▁", " ").strip()

    weights = np.array([[0.6, 0.2, 0.1, 0.1], [0.1, 0.5, 0.2, 0.2], [0.3, 0.3, 0.2, 0.2], [0.3, 0.3, 0.2, 0.25]])
    source, output = [8, 9, 10, 11], [4, 5, 6, 7]
    assert words(source, decode) == [0, 1, 2, 2] and words(output, decode) == [0, 1, 1, 2]
    assert token_links(weights) == ((0, 0), (1, 1), (0, 2), (0, 3))
    assert pharaoh(word_links(weights, source, output, decode)) == "0-0 1-1 2-2"
    assert word_links(weights[:0], source, [], decode) == ()


def test_a_model_without_attention_is_named():
    with pytest.raises(UsageError, match="alignment: object has no cross_attention"):
        attention_of(object(), SPEC, [4], [5])
