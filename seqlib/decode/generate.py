"""Prompts in, what follows them out: alone or in batches, at once or as a stream."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from seqlib.data import chat
from seqlib.decode.engine import Engine, prefill_length
from seqlib.decode.sampling import Sampling, sentence_keys
from seqlib.decode.streaming import StreamedText, check_stops
from seqlib.nn.lora import using
from seqlib.util.errors import UsageError

if TYPE_CHECKING:
    from seqlib.bundle import Bundle
    from seqlib.data.vocabulary import Tokenizer
    from seqlib.decode.programs import CausalModel
    from seqlib.decode.search import Hypothesis, Search
    from seqlib.problems.spec import ProblemSpec


@dataclass(frozen=True)
class Generation:
    """What followed a `prompt`: `text` and its `tokens`, without the end token; `log_prob` is the sum of their
    log-probabilities in nats by the model, the end token's included. `stop_reason` is "eos", "stop" (a stop string was
    met; `text` ends before it) or "length"."""

    prompt: str
    text: str
    tokens: tuple[int, ...]
    log_prob: float
    stop_reason: str

    def record(self) -> dict[str, Any]:
        """For JSON: all but the tokens."""
        named = ("prompt", "text", "log_prob", "stop_reason")
        return {name: getattr(self, name) for name in named}


class TextGenerator:
    """A language `model` with its `tokenizer` and the `spec` of its problem. `begin` are the ids that every text starts
    with, before the prompt; `ends` are ids that end an output as the spec's end token does (not those of beams)."""

    def __init__(
        self,
        model: CausalModel,
        tokenizer: Tokenizer,
        spec: ProblemSpec,
        *,
        begin: Sequence[int] = (),
        ends: Sequence[int] = (),
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.spec = spec
        self.begin, self.ends = list(begin), frozenset(ends) - {spec.eos_id}
        self.engine = Engine(model, spec)

    def generate(
        self,
        prompts: Sequence[str | Sequence[int]],
        *,
        n: int = 1,
        max_tokens: int = 200,
        stop: Sequence[str] = (),
        batch_rows: int = 32,
        beam: int = 1,
        alpha: float = 0.0,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int = 0,
        min_length: int = 0,
        no_repeat_ngram: int = 0,
        banned: Sequence[str] = (),
        watch: Callable[[int, str], bool] | None = None,
        adapter: str | None = None,
    ) -> list[Generation]:
        """Continue each of `prompts` `n` times, by at most `max_tokens` tokens or up to one of `stop`; the `n` of a
        prompt follow each other. An empty prompt is the beginning of a text; one of token ids is taken as it is.

        Tokens are drawn (`temperature`, `top_k`, `top_p`, `min_p`, `repetition_penalty` and `seed` as in `Sampling`; 0
        for the temperature takes the most probable ones), by the prompt and the number of the output, so that they
        don't depend on what else is generated. `beam` above 1 searches instead, with the length penalty's `alpha`, and
        gives the `n` best. `min_length`, `no_repeat_ngram` and `banned` as in `Constraints`. `batch_rows` outputs are
        made together. `adapter` is as in `Translator.translate`. `watch` is told each new piece of text with the number
        of its output (not of beams), and ends that output by answering False. Raises UsageError for arguments out of
        range or when `prompts` is one string.
        """
        if isinstance(prompts, str):
            raise UsageError("generate: expected a list of prompts, got one string; pass [text]")
        if n < 1 or batch_rows < 1 or max_tokens < 1:
            raise UsageError(f"n, batch_rows and max_tokens: expected at least 1, got {n}, {batch_rows}, {max_tokens}")
        sampling = Sampling(temperature, top_k, top_p, seed, min_p, repetition_penalty)
        if beam > 1 and (sampling != Sampling(seed=seed) or stop):
            raise UsageError("generate: beam search has neither settings of sampling nor stop strings; leave beam at 1")
        if beam > 1 and n > beam:
            raise UsageError(f"n: expected 1 to beam = {beam}, got {n}")
        options = self._options(max_tokens, adapter, min_length, no_repeat_ngram, banned)
        options |= {"beam": beam, "n_best": n, "alpha": alpha} if beam > 1 else {"sampling": sampling}
        stops, ids = check_stops(stop), [self._ids(prompt) for prompt in prompts]
        out: list[list[Generation]] = [[] for _ in prompts]
        copies = 1 if beam > 1 else n
        rows = [(i, j) for i in range(len(prompts)) for j in range(copies)]
        for batch in _batches(rows, [prefill_length(len(each)) for each in ids], max(1, batch_rows // max(beam, 1))):
            followed = beam == 1 and bool(stops or self.ends or watch is not None)
            texts = [self._text(ids[i], stops) if followed else None for i, _ in batch]
            search = None
            for search in self._steps(batch, ids, options):
                _push(search, texts, [_forced(ids[i]) for i, _ in batch], self.spec.eos_id)
                if watch is not None and followed:
                    _tell(search, texts, [i * n + j for i, j in batch], watch)
            assert search is not None
            for (i, _), text, found in zip(batch, texts, search.results(), strict=True):
                out[i] += [self._generation(prompts[i], ids[i], each, text) for each in found]
        return [generation for each in out for generation in each]

    def chat(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> Generation:
        """The assistant's next message after `messages` (``{"role": "user", "content": "…"}`` …), which the model's
        template puts into words; `options` are those of `generate`. Raises UsageError as `data.chat.render`."""
        return self.generate([self._turn(messages)], **options)[0]

    def chat_stream(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> Generator[str, None, Generation]:
        """`chat` piece by piece, with the options of `stream`."""
        return self.stream(self._turn(messages), **options)

    def _turn(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        return chat.encode(self.tokenizer, chat.render(self.tokenizer, messages, add_generation_prompt=True))

    def _text(self, ids: Sequence[int], stops: Sequence[str]) -> StreamedText:
        return StreamedText(self.tokenizer.decode, ids, stops, self.ends)

    def stream(
        self,
        prompt: str | Sequence[int],
        *,
        max_tokens: int = 200,
        stop: Sequence[str] = (),
        min_length: int = 0,
        no_repeat_ngram: int = 0,
        banned: Sequence[str] = (),
        adapter: str | None = None,
        **sampling: Any,
    ) -> Generator[str, None, Generation]:
        """What `generate` gives for one prompt, piece by piece as it comes; its settings of sampling are `Sampling`'s.
        The generator returns the whole. Until it is closed or read to its end, the model is busy."""
        stops, ids = check_stops(stop), self._ids(prompt)
        text = self._text(ids, stops)
        options = self._options(max_tokens, adapter, min_length, no_repeat_ngram, banned)
        options["sampling"] = Sampling(**sampling)
        search = None
        for search in self._steps([(0, 0)], [ids], options):
            _push(search, [text], [_forced(ids)], self.spec.eos_id)
            if piece := text.fresh():
                yield piece
        assert search is not None
        if piece := text.fresh(last=True):
            yield piece
        return self._generation(prompt, ids, search.results()[0][0], text)

    def _options(
        self, max_tokens: int, adapter: str | None, min_length: int, no_repeat_ngram: int, banned: Sequence[str]
    ) -> dict[str, Any]:
        found = {"adapter": adapter, "max_tokens": max_tokens, "min_length": min_length}
        return found | {"no_repeat_ngram": no_repeat_ngram, "banned": [self.tokenizer.encode(text) for text in banned]}

    def _ids(self, prompt: str | Sequence[int]) -> list[int]:
        if not isinstance(prompt, str):
            return list(prompt) or [self.spec.eos_id]
        return [*self.begin, *self.tokenizer.encode(prompt)] or [self.spec.eos_id]

    def _steps(
        self, batch: Sequence[tuple[int, int]], ids: list[list[int]], options: dict[str, Any]
    ) -> Iterator[Search]:
        keys = sentence_keys([ids[i] for i, _ in batch]) + np.array([j for _, j in batch], np.uint64)
        with using(self.model, options.get("adapter")):
            rest = {name: value for name, value in options.items() if name != "adapter"}
            yield from self.engine.generate([ids[i] for i, _ in batch], keys=keys, **rest)

    def _generation(
        self, prompt: str | Sequence[int], ids: list[int], found: Hypothesis, text: StreamedText | None
    ) -> Generation:
        forced = _forced(ids)
        tokens = found.tokens[forced:]
        if text is None:
            text = StreamedText(self.tokenizer.decode, ids)
            for token in tokens:
                text.push(token)
        text.fresh(last=True)
        reason = "eos" if text.ended else "stop" if text.stopped else found.stop_reason
        tokens = tokens[:-1] if text.ended else tokens
        prompt = prompt if isinstance(prompt, str) else self.tokenizer.decode(prompt)
        return Generation(prompt, text.text, tokens, float(found.token_log_probs[forced:].sum()), reason)


def from_bundle(saved: Bundle, *, device: str = "auto", precision: str = "auto") -> TextGenerator:
    """The generator of a bundle that was read, as `seqlib.decode.load.load` gives it."""
    from seqlib.decode.load import placed

    begin = saved.generation.get("prompt_begins_with", ())
    return TextGenerator(placed(saved.build_model(), device, precision), saved.tokenizer, saved.spec, begin=begin)


def _forced(ids: Sequence[int]) -> int:
    """How many tokens of a prompt come again at the beginning of its output."""
    return len(ids) - 1 - prefill_length(len(ids))


def _batches(rows: list[tuple[int, int]], lengths: list[int], batch_rows: int) -> Iterator[list[tuple[int, int]]]:
    """The rows (prompt, number) in batches of one prefill length."""
    for length in sorted(set(lengths)):
        members = [row for row in rows if lengths[row[0]] == length]
        for begin in range(0, len(members), batch_rows):
            yield members[begin : begin + batch_rows]


def _push(search: Search, texts: Sequence[StreamedText | None], forced: list[int], eos: int) -> None:
    """Give each text that is not over its newest token, and end those that met a stop string."""
    ended: list[int] = []
    for place, row in enumerate(search.held.tolist()):
        text = texts[row]
        if text is None or text.over:
            continue
        token = int(search.tokens[place])
        if search.steps > forced[row] and token != eos and text.push(token):
            ended.append(place)
        text.over = text.stopped or text.ended or bool(search.done[place])
    if ended:
        search.end(np.array(ended))


def _tell(
    search: Search, texts: Sequence[StreamedText | None], numbers: Sequence[int], watch: Callable[[int, str], bool]
) -> None:
    """Give each text's fresh piece to `watch`, and end those that it wants no more of."""
    ended: list[int] = []
    for place, row in enumerate(search.held.tolist()):
        text = texts[row]
        piece = "" if text is None else text.fresh(last=text.over)
        if text is not None and piece and not watch(numbers[row], piece) and not text.over:
            text.over = True
            ended.append(place)
    if ended:
        search.end(np.array(ended))
