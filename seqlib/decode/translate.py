"""Text in, translations out: tokenise, sort by length, decode in batches, judge, and give them back in order."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from seqlib.data.vocabulary import begins, target_side
from seqlib.decode.alignment import Links, attention_of, pharaoh, token_links, word_links
from seqlib.decode.confidence import Calibration, features, fit
from seqlib.decode.engine import Engine
from seqlib.decode.source_model import SourceModel
from seqlib.nn.lora import using
from seqlib.util.errors import UsageError

if TYPE_CHECKING:
    from seqlib.data.vocabulary import Tokenizer
    from seqlib.decode.programs import IncrementalModel
    from seqlib.decode.sampling import Sampling
    from seqlib.decode.search import Hypothesis
    from seqlib.problems.spec import ProblemSpec

_STREAM_BATCHES = 16  # translate_stream sorts by length inside chunks of this many batches


@dataclass(frozen=True)
class Alternative:
    """One of the n best besides the first: `text`, `tokens`, `score` and `stop_reason` as in `Translation`."""

    text: str
    tokens: tuple[int, ...]
    score: float
    stop_reason: str


@dataclass(frozen=True)
class Translation:
    """A translated sentence: its `text`, and in `alternatives` the rest of the n best.

    `tokens` are target ids without the end token; `score` is the sum of their log-probabilities in nats over the length
    penalty. `confidence` is in [0, 1]: with a calibration the share of dev sentences that are at least as strange,
    without one the geometric mean probability of a token. `flagged` says that it lies below the threshold (None when
    there is no threshold). `stop_reason` is "eos", "length" (cut at the length limit), "truncated_source" (the source
    was longer than the model's positions and only its beginning was translated; always flagged) or "empty" (nothing
    to translate). With `alignment` asked for, `alignment` has for each output word (source word, output word), counted
    from 0, and `token_alignment` the same for tokens; None otherwise.
    """

    text: str
    tokens: tuple[int, ...]
    score: float
    confidence: float
    flagged: bool | None
    stop_reason: str
    alternatives: tuple[Alternative, ...] = ()
    alignment: Links | None = None
    token_alignment: Links | None = None

    def record(self) -> dict[str, Any]:
        """For JSON: all but the tokens, alignments in Pharaoh's format."""
        named = ("text", "score", "confidence", "flagged", "stop_reason")
        found = {name: getattr(self, name) for name in named}
        if self.alignment is not None and self.token_alignment is not None:
            found |= {"alignment": pharaoh(self.alignment), "token_alignment": pharaoh(self.token_alignment)}
        if self.alternatives:
            others = [{"text": o.text, "score": o.score, "stop_reason": o.stop_reason} for o in self.alternatives]
            found["alternatives"] = others
        return found


class Translator:
    """A model with its tokenizer and the `spec` of its problem, ready to translate.

    `threshold` overrides the calibration's; a translation whose confidence is below it is flagged. `beam`, `alpha` and
    `penalty` are what `translate` uses when it is not told. What sources and outputs begin with, and what outputs never
    have, is what a pretrained tokenizer was `told`. Raises UsageError for a threshold that is no confidence.
    """

    def __init__(
        self,
        model: IncrementalModel,
        tokenizer: Tokenizer,
        spec: ProblemSpec,
        *,
        calibration: Calibration | None = None,
        threshold: float | None = None,
        beam: int = 4,
        alpha: float = 0.6,
        penalty: str = "gnmt",
    ) -> None:
        if threshold is not None and not 0.0 <= threshold <= 1.0:
            raise UsageError(f"threshold: expected a confidence between 0 and 1, got {threshold}")
        self.model = model
        self.tokenizer = tokenizer
        self.spec = spec
        self.engine = Engine(model, spec)
        self.calibration = calibration
        self.beam = beam
        self.alpha = alpha
        self.penalty = penalty
        self._before, self._begin = begins(tokenizer)
        self._never = [list(ids) for ids in getattr(getattr(tokenizer, "told", None), "never", ())]
        self._threshold = threshold

    @property
    def threshold(self) -> float | None:
        """The confidence below which a translation is flagged."""
        if self._threshold is None and self.calibration is not None:
            return self.calibration.threshold
        return self._threshold

    def translate(
        self,
        texts: Sequence[str],
        beam: int | None = None,
        alpha: float | None = None,
        n_best: int = 1,
        max_length: int | None = None,
        batch_rows: int = 32,
        *,
        penalty: str | None = None,
        min_length: int = 0,
        no_repeat_ngram: int = 0,
        banned: Sequence[str] = (),
        prefixes: Sequence[str] = (),
        sampling: Sampling | None = None,
        alignment: bool = False,
        adapter: str | None = None,
    ) -> list[Translation]:
        """Translate `texts`, in any number; one translation each, in their order.

        `beam` 1 is greedy search. `alpha` is the exponent of the length penalty ("gnmt": ((5+n)/6)^alpha, "power":
        n^alpha). `max_length` bounds an output's tokens, end token counted; by default source tokens + 50. `n_best` at
        most `beam`: the others are in `alternatives`. `batch_rows` sentences are decoded together.

        An output has at least `min_length` tokens, the end token counted, and no `no_repeat_ngram` tokens in a row
        twice; it begins with its text in `prefixes` (one for each of `texts`, "" for none) and contains none of
        `banned` as the tokenizer writes it. With `sampling`, `n_best` outputs are drawn instead of searched for.
        `alignment` finds the words that belong together. `adapter` is the one of those that `nn.lora.load_adapter` put
        into the model that counts in this call ("": none); by default what `nn.lora.use_adapter` chose.
        Raises UsageError for arguments out of range or when `texts` is one string.
        """
        if isinstance(texts, str):
            raise UsageError("translate: expected a list of sentences, got one string; pass [text]")
        if batch_rows < 1:
            raise UsageError(f"batch_rows: expected at least 1, got {batch_rows}")
        if prefixes and len(prefixes) != len(texts):
            raise UsageError(f"prefixes: expected one for each of {len(texts)} sentences, got {len(prefixes)}")
        options: dict[str, Any] = {
            "beam": self.beam if beam is None else beam,
            "n_best": n_best,
            "alpha": self.alpha if alpha is None else alpha,
            "max_length": max_length,
            "penalty": penalty or self.penalty,
            "min_length": min_length,
            "no_repeat_ngram": no_repeat_ngram,
            "banned": [*self._never, *map(target_side(self.tokenizer).encode, banned)],
            "sampling": sampling,
        }
        starts = [*map(target_side(self.tokenizer).encode, prefixes)]
        with using(self.model, adapter):
            found = self._hypotheses(texts, options, batch_rows, starts)
            known = [(index, ids, answer) for index, (ids, answer) in enumerate(found) if answer]
            confidences = self._confidences([(texts[index], ids, answer[0]) for index, ids, answer in known])
            out = [self._empty(alignment)] * len(texts)
            for (index, ids, answer), confidence in zip(known, confidences.tolist(), strict=True):
                made = self._translation(answer, confidence, len(ids) > self.engine.longest_source)
                out[index] = self._aligned(made, ids[: self.engine.longest_source]) if alignment else made
        return out

    def translate_stream(
        self, texts: Iterable[str], *, batch_rows: int = 32, prefixes: Iterable[str] | None = None, **options: Any
    ) -> Iterator[Translation]:
        """Translations of an iterable of any length, in order, reading 16 batches ahead; options as `translate`.

        Raises UsageError when `prefixes` has another length than `texts`."""
        lines, beginnings = iter(texts), None if prefixes is None else iter(prefixes)
        while chunk := list(islice(lines, batch_rows * _STREAM_BATCHES)):
            if beginnings is not None:
                options["prefixes"] = list(islice(beginnings, len(chunk)))
                if len(options["prefixes"]) < len(chunk):
                    raise UsageError("prefixes: there are fewer than sentences; give an empty one where there is none")
            yield from self.translate(chunk, batch_rows=batch_rows, **options)
        if beginnings is not None and next(beginnings, None) is not None:
            raise UsageError("prefixes: there are more than sentences")

    def calibrate(
        self, train_texts: Iterable[str], dev_texts: Sequence[str], *, false_alarms: float = 0.005, batch_rows: int = 32
    ) -> Calibration:
        """Fit the confidence: a source model on training sources, the rest on translations of dev sources.

        From then on the translator uses it; `Calibration.to_dict` and `.files` go into a bundle. Empty dev lines are
        left out. Raises DataError when fewer than 50 dev sentences are left.
        """
        source = SourceModel.fit(train_texts)
        options: dict[str, Any] = {
            "beam": self.beam,
            "alpha": self.alpha,
            "penalty": self.penalty,
            "banned": self._never,
        }
        found = self._hypotheses(dev_texts, options, batch_rows)
        dev = [
            features(text, len(ids), answer[0].token_log_probs, source)
            for text, (ids, answer) in zip(dev_texts, found, strict=True)
            if answer
        ]
        self.calibration = fit(dev, source, false_alarms=false_alarms)
        return self.calibration

    def _hypotheses(
        self, texts: Sequence[str], options: dict[str, Any], batch_rows: int, prefixes: Sequence[Sequence[int]] = ()
    ) -> list[tuple[list[int], list[Hypothesis]]]:
        """For each text its source ids (before any truncation) and hypotheses; no hypotheses for an empty text."""
        sources = [[*self._before, *self.tokenizer.encode(text)] if text.strip() else [] for text in texts]
        longest = self.engine.longest_source
        order = sorted((i for i, ids in enumerate(sources) if ids), key=lambda i: len(sources[i]))
        answers: list[list[Hypothesis]] = [[] for _ in texts]
        for begin in range(0, len(order), batch_rows):
            members = order[begin : begin + batch_rows]
            batch = [sources[i][:longest] for i in members]
            if prefixes or self._begin:
                options["prefixes"] = [[*self._begin, *(prefixes[i] if prefixes else ())] for i in members]
            for index, answer in zip(members, self.engine.decode(batch, **options), strict=True):
                answers[index] = answer
        return list(zip(sources, answers, strict=True))

    def _confidences(self, items: Sequence[tuple[str, list[int], Hypothesis]]) -> np.ndarray:
        if self.calibration is None:
            return np.array([np.exp(np.mean(best.token_log_probs)) for _, _, best in items])
        source = self.calibration.source
        return self.calibration.confidence(
            [features(text, len(ids), best.token_log_probs, source) for text, ids, best in items]
        )

    def _translation(self, answer: list[Hypothesis], confidence: float, truncated: bool) -> Translation:
        best, *others = answer
        flagged = None if self.threshold is None else confidence < self.threshold
        return Translation(
            text=self.tokenizer.decode(list(best.tokens)),
            tokens=best.tokens,
            score=best.score,
            confidence=confidence,
            flagged=True if truncated else flagged,
            stop_reason="truncated_source" if truncated else best.stop_reason,
            alternatives=tuple(
                Alternative(self.tokenizer.decode(list(h.tokens)), h.tokens, h.score, h.stop_reason) for h in others
            ),
        )

    def _aligned(self, translation: Translation, source: Sequence[int]) -> Translation:
        mode = self.model.evaluating() if self.model.training else contextlib.nullcontext()
        with mode:
            weights = attention_of(self.model, self.spec, source, translation.tokens)
        return replace(
            translation,
            alignment=word_links(weights, source, translation.tokens, self.tokenizer.decode),
            token_alignment=token_links(weights),
        )

    def _empty(self, alignment: bool) -> Translation:
        flagged, links = None if self.threshold is None else False, () if alignment else None
        return Translation("", (), 0.0, 1.0, flagged, "empty", alignment=links, token_alignment=links)
