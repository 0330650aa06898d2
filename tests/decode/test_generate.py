"""Generation: the cached model against the plain one, batches against single prompts, streams against wholes."""

from __future__ import annotations

import numpy as np
import pytest

from seqlib.core.rng import Generator
from seqlib.data.characters import BytesTokenizer
from seqlib.decode.engine import prefill_length
from seqlib.decode.generate import TextGenerator
from seqlib.decode.sampling import Sampling
from seqlib.decode.streaming import StreamedText
from seqlib.models.gpt2 import GPT2, GPT2Config
from seqlib.problems.spec import ProblemSpec
from seqlib.util.errors import UsageError

VOCABULARY = 260
SPEC = ProblemSpec(task="language_model", source_vocab=VOCABULARY, target_vocab=VOCABULARY)
CONFIG = GPT2Config(vocab=VOCABULARY, layers=2, d_model=32, heads=4, max_length=48, dropout=0.1)
RAW = BytesTokenizer(raw=True)


@pytest.fixture(scope="module")
def generator() -> TextGenerator:
    model = GPT2(CONFIG, Generator(1))
    model.load({name: w * (6 if w.ndim == 2 else 1) for name, w in model.state_dict().items()})
    return TextGenerator(model.train(), RAW, SPEC)


PROMPTS = ["a", "To be, or not", "seventeen letters", "a prompt of more letters than thirty-two", ""]


def greedy(model: GPT2, ids: list[int], count: int) -> tuple[int, ...]:
    """By the whole model, again for each token."""
    found = list(ids)
    while len(found) < len(ids) + count:
        found.append(int(model(np.array([found], np.int32)).numpy()[0, -1].argmax()))
        if found[-1] == SPEC.eos_id:
            break
    return tuple(token for token in found[len(ids) :] if token != SPEC.eos_id)


def test_greedy_follows_the_uncached_model(generator: TextGenerator) -> None:
    found = generator.generate(PROMPTS, temperature=0, max_tokens=8)
    assert generator.model.training  # as it was
    with generator.model.evaluating():
        for prompt, one in zip(PROMPTS, found, strict=True):
            assert one.tokens == greedy(generator.model, RAW.encode(prompt) or [SPEC.eos_id], 8), prompt
            assert one.prompt == prompt and one.text == RAW.decode(one.tokens)


def test_alone_as_in_a_batch_and_past_the_context(generator: TextGenerator) -> None:
    options = {"max_tokens": 70, "seed": 4, "temperature": 0.9, "top_k": 50, "repetition_penalty": 1.3}
    prompts = [*PROMPTS, "b", "seventeen Letters", "more"]
    together = generator.generate(prompts, n=2, **options)
    assert [one.prompt for one in together] == [prompt for prompt in prompts for _ in range(2)]
    for i, prompt in enumerate(prompts):
        assert generator.generate([prompt], n=2, **options) == together[2 * i : 2 * i + 2]
    assert max(len(one.tokens) for one in together) == 70 > CONFIG.max_length
    assert generator.generate(prompts, **{**options, "seed": 5}) != together[::2]


def test_a_stream_gives_what_generate_gives(generator: TextGenerator) -> None:
    whole = generator.generate(["To be"], max_tokens=60, seed=9)[0]
    stream, pieces = generator.stream("To be", max_tokens=60, seed=9), []
    try:
        while True:
            pieces.append(next(stream))
    except StopIteration as end:
        assert end.value == whole
    assert "".join(pieces) == whole.text and len(pieces) > 5
    stop = whole.text[20:23]
    cut = generator.generate(["To be", "other"], max_tokens=60, seed=9, stop=[stop])[0]
    assert (cut.text, cut.stop_reason) == (whole.text[: whole.text.index(stop)], "stop")
    assert "".join(generator.stream("To be", max_tokens=60, seed=9, stop=[stop])) == cut.text
    constraints = {"min_length": 20, "no_repeat_ngram": 2, "banned": [whole.text[5]]}
    other = generator.generate(["To be"], max_tokens=30, seed=9, **constraints)[0]
    assert "".join(generator.stream("To be", max_tokens=30, seed=9, **constraints)) == other.text != whole.text[:30]


def test_an_open_stream_is_told(generator: TextGenerator) -> None:
    stream = generator.stream("a", max_tokens=30)
    next(stream)
    with pytest.raises(UsageError, match="still open in this thread"):
        generator.generate(["a"])
    stream.close()
    generator.generate(["a"], max_tokens=1)


def test_beams_are_searched(generator: TextGenerator) -> None:
    prompt = "twenty-one letters ..."
    found = generator.generate([prompt], beam=3, n=3, max_tokens=6)
    scores = [one.log_prob for one in found]
    best = generator.generate([prompt], temperature=0, max_tokens=6)[0]
    assert scores == sorted(scores, reverse=True) and scores[0] >= best.log_prob - 1e-4
    ids = RAW.encode(prompt)
    with generator.model.evaluating():
        logits = generator.model(np.array([[*ids, *found[0].tokens]], np.int32)).numpy()[0, len(ids) - 1 :]
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    total = sum(float(log_probs[i, token]) for i, token in enumerate(found[0].tokens))
    assert found[0].stop_reason == "eos" or abs(total - scores[0]) < 1e-3


def test_prefilled_lengths_depend_on_the_prompt_alone() -> None:
    assert [prefill_length(n) for n in (1, 16, 17, 33, 250, 1000)] == [0, 0, 16, 32, 240, 960]
    assert all(0 < n - prefill_length(n) <= max(16, n // 8) for n in range(1, 5000))


def test_min_p_repetition_and_temperature_0() -> None:
    logits = np.log(np.array([[0.5, 0.3, 0.2]], np.float32)).repeat(2000, 0)
    keys = np.arange(2000, dtype=np.uint64)
    assert set(Sampling(min_p=0.5).draw(logits, keys, 0)) == {0, 1}
    assert set(Sampling(temperature=0).draw(logits, keys, 0)) == {0}
    seen = np.array([[True, False, False]]).repeat(2000, 0)
    assert set(Sampling(temperature=0, repetition_penalty=2.0).draw(logits, keys, 0, seen)) == {1}  # 0.5 squared
    with pytest.raises(UsageError, match="min_p"):
        Sampling(min_p=1.5)
    with pytest.raises(UsageError, match="repetition_penalty"):
        Sampling(repetition_penalty=0)


def test_text_comes_in_whole_characters_and_holds_back_stops() -> None:
    text = StreamedText(RAW.decode, RAW.encode("é"), ["END", "EX"])
    given = []
    for token in RAW.encode("aö EN ENDE"):
        text.push(token)
        given.append(text.fresh())
    assert given == ["a", "", "ö", " ", "", "", "EN ", "", "", "", ""] and text.stopped and text.text == "aö EN "


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam": 2, "temperature": 0.5}, "beam search has neither"),
        ({"beam": 2, "n": 3}, "n: expected 1 to beam"),
        ({"stop": "END"}, "expected a list of strings"),
        ({"max_tokens": 0}, "expected at least 1"),
    ],
)
def test_bad_requests_are_refused(generator: TextGenerator, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        generator.generate(["a"], **options)
    with pytest.raises(UsageError, match="got one string"):
        generator.generate("a")
    with pytest.raises(UsageError, match="prompt of 49 tokens: the model has 48 places"):
        generator.generate(["a" * 49])
