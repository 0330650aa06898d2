"""Text classification: texts or pairs of texts with a class, several labels, or a number."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from seqlib.data.epochs import Epochs
from seqlib.data.labelled import LabelledBatch, LabelledStore, SampledLabels, collate_labelled
from seqlib.decode.classify import Classifier, probabilities
from seqlib.problems.spec import Labels, ProblemSpec
from seqlib.train import baselines as cheap
from seqlib.train.label_scores import defined, label_scores, losses, score_names
from seqlib.train.tasks.base import Finished, Scorer, Task
from seqlib.util.errors import DataError, UsageError, unknown
from seqlib.util.log import get_logger

if TYPE_CHECKING:
    from seqlib.bundle import Bundle
    from seqlib.train.config import RunConfig
    from seqlib.train.report.page import Section
    from seqlib.train.trainer import Trainer


class LabelScorer(Scorer):
    """Labels dev during training with the model as a saved one would; the compiled programs are kept."""

    def __init__(self, model: Any, problem: Any, data: Any, config: RunConfig) -> None:
        self._data, self._model = data, model
        self.available = "dev" in data.stores and len(data.store("dev")) > 0
        self.names = ("loss", *score_names(data.spec.labels)) if self.available else ()
        self.scored = len(data.store("dev")) if self.available else 0
        self.ranked = next((name for name in problem.metrics if name in self.names), "loss")
        self._classifier: Classifier | None = None
        self._weights = parse_class_weights(config.data.class_weights, data.spec.labels, data.targets("train"))

    def dev(self) -> dict[str, float]:
        store, labels, training = self._data.store("dev"), self._data.spec.labels, self._model.training
        if self._classifier is None:
            self._classifier = Classifier(self._model, self._data.tokenizer, self._data.spec)
        logits = self._classifier.logits([store.pair(number) for number in range(len(store))])
        self._model.train(training)
        targets = self._data.targets("dev")
        weights = np.ones(len(targets)) if self._weights is None else self._weights[targets]
        loss = float((losses(logits, targets, labels) * weights).sum() / max(weights.sum(), 1e-9))
        return {"loss": loss, **label_scores(targets, probabilities(logits, labels), labels)}

    def rank(self, scores: Mapping[str, float]) -> float:
        """The first metric; of those that are equal, the lower loss."""
        loss, ranked = scores["loss"], scores[self.ranked]
        if math.isnan(loss) or math.isnan(ranked):
            return -math.inf
        return -loss if self.ranked == "loss" else ranked - 1e-4 * min(loss, 10.0)

    def record(self, scores: Mapping[str, float]) -> dict[str, Any]:
        return {name: x for name, x in scores.items() if not math.isnan(x)} | {"texts": self.scored}

    def release(self) -> None:
        self._classifier = None


class TextClassificationTask(Task):
    """Batches are `LabelledBatch` of `seqlib.data.labelled`; what is used is `seqlib.decode.classify`."""

    name = "text_classification"
    use = "classify"
    default_model = "bag_ngrams"
    figures = (
        ("accuracy", "dev accuracy", ".3f"),
        ("macro_f1", "dev macro F1", ".3f"),
        ("spearman", "dev Spearman", ".3f"),
        ("loss", "dev loss", ".3f"),
    )
    evaluate_options = ("baselines",)

    def epochs(self, config: RunConfig, data: Any, tell: bool = False) -> Epochs:
        batch, labels, targets = config.batch, data.spec.labels, data.targets("train")
        weights = parse_class_weights(config.data.class_weights, labels, targets)
        ends = data.spec.pair_ends if labels.pairs else 0
        store = LabelledStore(data.store("train"), targets, batch.max_length, pairs=ends, class_weights=weights)
        if tell and store.cut:
            get_logger().info(
                "%s of %s texts are longer than %d tokens: the rest of them is not read (batch.max_length)",
                f"{store.cut:,}",
                f"{len(store):,}",
                batch.max_length,
            )
        sampling = self.sampling(config, data)
        sampled = None if sampling is None else SampledLabels(store, sampling)
        return Epochs(store, collate=collate_labelled, sampling=sampled, **self.batching(config, data))

    def scorer(self, model: Any, problem: Any, data: Any, config: RunConfig, longest: int) -> LabelScorer:
        return LabelScorer(model, problem, data, config)

    def baselines(self, problem: Any, data: Any, config: RunConfig, split: str = "dev") -> dict[str, dict[str, Any]]:
        return cheap.label_baselines(problem, split) if split in problem.splits() else {}

    def finish(self, trainer: Trainer, final: bool = True) -> Finished:
        return Finished({"max_length": trainer.model_config.max_length})

    def evaluate(
        self, saved: Bundle, problem: Any, split: str, *, limit: int, device: str, precision: str, **options: Any
    ) -> dict[str, Any]:
        """Scores, loss and number of texts; with `baselines` also those of cheap models on all of the split. Raises
        DataError, naming file and line, for a label that the model does not know."""
        from seqlib.decode.load import from_bundle

        problem.check_split(split)
        records = list(islice(problem.records(split), limit or None))
        if not records:
            raise DataError(f"{problem.name}: split {split!r} is empty")
        classifier = from_bundle(saved, device=device, precision=precision)
        labels = classifier.spec.labels
        targets = np.concatenate([record_target(record, labels) for record in records])
        texts = [record.pair() if labels.pairs else record.pair()[0] for record in records]
        logits = classifier.logits(classifier.encode(texts))
        scores = label_scores(targets, probabilities(logits, labels), labels)
        loss = float(losses(logits, targets, labels).mean())
        found = {**defined(scores), "loss": round(loss, 4), "texts": len(records)}
        return {**found, "baselines": cheap.label_baselines(problem, split)} if options.get("baselines") else found

    def sections(self, saved: Bundle | None, data: Any, config: RunConfig) -> list[Section]:
        """Labels and lengths; the confusion matrix and the worst texts of dev."""
        from seqlib.train.report import labelled

        return labelled.sections(saved, data, config)

    def sample_spec(self) -> ProblemSpec:
        labels = Labels(names=("a", "b", "c"))
        return ProblemSpec(task=self.name, source_vocab=32, target_vocab=3, shared_vocab=False, labels=labels)

    def sample_batches(self, config: RunConfig) -> Iterator[LabelledBatch]:
        lengths = np.array([20, 9, 17], np.int32)
        ids = np.full((3, 20), 5, np.int32)
        yield LabelledBatch(ids, lengths, None, np.array([0, 1, 2], np.int32), np.ones(3, np.float32))

    def sample_use(self, model: Any, spec: Any, config: RunConfig) -> None:
        Classifier(model, None, spec).logits([([5, 6, 7], []), ([8, 9], [])])


TASK = TextClassificationTask()


def record_target(record: Any, labels: Labels) -> np.ndarray:
    """The target of one record, [1, ...]. Raises DataError naming its file and line."""
    from seqlib.problems.text_classification import read_targets

    return read_targets([record.label], labels, f"{record.file}:{record.line}")


def parse_class_weights(text: str, labels: Labels, targets: np.ndarray) -> np.ndarray | None:
    """float32 [L] of `balanced` or `spam=3,ham=1`; None for "". `balanced` gives each class of `targets` the same sum.

    Raises UsageError for unknown classes and for values that are not above 0.
    """
    if not text:
        return None
    if labels.kind != "multi_class":
        raise UsageError(f"data.class_weights is for classes; these labels are {labels.kind.replace('_', ' ')}")
    if text == "balanced":
        counts = np.bincount(targets, minlength=len(labels.names))
        return (len(targets) / (len(labels.names) * np.maximum(counts, 1))).astype(np.float32)
    found = np.ones(len(labels.names), np.float32)
    for part in text.split(","):
        name, _, value = part.rpartition("=")
        if name.strip() not in labels.names:
            raise unknown("class in data.class_weights", name.strip() or part.strip(), labels.names)
        try:
            weight = float(value)
        except ValueError:
            weight = math.nan
        if not 0 < weight < math.inf:
            raise UsageError(f"data.class_weights: {part.strip()!r} is not CLASS=NUMBER with a number above 0")
        found[labels.names.index(name.strip())] = weight
    return found
