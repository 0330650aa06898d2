"""Scores on a split: the loss by the compiled forward pass, and translations against references."""

import math
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from seqlib.data.batch import collate
from seqlib.data.plan import bucket_plan
from seqlib.train.config import RunConfig
from seqlib.train.metrics import bleu_available, score_texts
from seqlib.train.step import compiled_loss
from seqlib.train.tasks.base import Scorer
from seqlib.util.log import get_logger

CALIBRATED = 1000
"""Dev sentences that the confidence is set on at the end of a run."""

CALIBRATION_SOURCES = 50_000
"""Training sources that the confidence's model of usual sources reads."""

_SHAPES = 6  # programs that a loss on a split may need


def split_loss(
    loss: Any, store: Any, spec: Any, *, tokens: int, max_length: int, collated: Callable[..., Any] = collate
) -> tuple[float, float]:
    """The sum of the cross entropies of a token store's target tokens (end of sentence included) in nats, and of
    their weights.

    `loss` is what `compiled_loss` gives, for batches that `collated` makes of (store, planned, spec). Pairs with a side
    longer than `max_length` are left out; DataError when that leaves nothing.
    """
    options: Any = {"tokens": tokens, "max_length": max_length, "seed": 0, "epoch": 0, "digest": store.digest}
    plan = bucket_plan(store.lengths(), max_shapes=_SHAPES, shuffle=False, **options)
    total = weight = 0.0
    for planned in plan.batches:
        batch_total, batch_weight = loss(collated(store, planned, spec))
        total += batch_total.item()
        weight += batch_weight.item()
    return total, weight


class TranslationScorer(Scorer):
    """Scores translations of dev during training; the compiled programs are kept between evaluations.

    `longest` is what the model's positions hold. `available` is False when there is no dev pair that fits.
    """

    def __init__(self, model: Any, problem: Any, data: Any, config: RunConfig, longest: int) -> None:
        self._model, self._data, self._config, self._longest = model, data, config, longest
        self._loss = compiled_loss(model)
        self._translator: Any = None
        self.language: str = problem.target_language
        self.available = "dev" in data.stores and bool((data.store("dev").lengths() < longest).all(1).any())
        count = config.decode.dev_sentences
        wanted = self.available and count >= 0
        if wanted and not bleu_available():
            wanted = False
            get_logger().warning("no dev BLEU: sacrebleu is not installed (extra `eval`); the loss picks the best step")
        self.pairs = list(islice(zip(*data.texts("dev"), strict=True), count or None)) if wanted else []
        texts = ("bleu", "chrf", "exact_match") if self.pairs else ()
        self.names = ("loss", *texts) if self.available else ()
        self.scored, self.ranked = len(self.pairs), "bleu" if self.pairs else "loss"

    def dev(self) -> dict[str, float]:
        """{"loss", and with translations "bleu", "chrf", "exact_match"}; the model's mode is restored."""
        with self._model.evaluating():
            store = self._data.store("dev")
            # Not more at a time than a training step holds.
            tokens = -(-self._config.batch.size // self._config.batch.accumulate)
            spec, longest = self._data.spec, self._longest
            total, weight = split_loss(self._loss, store, spec, tokens=tokens, max_length=longest)
            scores = {"loss": total / weight}
            if self.pairs:
                scores |= flat(score_texts(self._translate(), [target for _, target in self.pairs], self.language))
        return scores

    def rank(self, scores: Mapping[str, float]) -> float:
        """What the best checkpoint has most of: BLEU, else minus the loss (minus infinity for NaN)."""
        value = scores.get("bleu", -scores["loss"])
        return -math.inf if math.isnan(value) else value

    def record(self, scores: Mapping[str, float]) -> dict[str, Any]:
        """The scores with sacreBLEU's signatures, the number of sentences and the beam."""
        record: dict[str, Any] = dict(scores)
        if self.pairs:
            targets = [target for _, target in self.pairs]
            signatures = score_texts(targets, targets, self.language)
            for name in ("bleu", "chrf"):
                record[name] = {"score": scores[name], "signature": signatures[name]["signature"]}
            record["sentences"], record["beam"] = len(targets), self._config.decode.dev_beam
        return record

    def release(self) -> None:
        """Let the translator's caches and programs go; they are made again when they are needed."""
        self._translator = None

    def _translate(self) -> list[str]:
        from seqlib.decode.translate import Translator

        if self._translator is None:
            penalty = self._config.decode.penalty
            self._translator = Translator(self._model, self._data.tokenizer, self._data.spec, penalty=penalty)
        sources = [source for source, _ in self.pairs]
        found = self._translator.translate(sources, beam=self._config.decode.dev_beam, alpha=self._config.decode.alpha)
        return [translation.text for translation in found]


def flat(scores: dict[str, Any]) -> dict[str, float]:
    """The numbers of `score_texts` without signatures and counts."""
    return {
        name: value["score"] if isinstance(value, dict) else value
        for name, value in scores.items()
        if name != "sentences"
    }
