"""What training, evaluation and reports ask of a task: translation, text classification, language modelling."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from seqlib.data.sampled import Sampling
from seqlib.data.subword import SubwordSampler, check_strength
from seqlib.problems.spec import ProblemSpec
from seqlib.util.lookup import available

if TYPE_CHECKING:
    from seqlib.bundle import Bundle
    from seqlib.data.epochs import Epochs
    from seqlib.train.config import RunConfig
    from seqlib.train.report.page import Section
    from seqlib.train.trainer import Trainer


class Scorer:
    """Scores a model on dev during training; what is costly to make is kept between evaluations. This is the
    base of the tasks' own; it ranks by the loss."""

    available: bool
    """False where there is nothing on dev to score."""
    names: tuple[str, ...]
    """What `dev` gives, the loss first; () when it is not available."""
    scored: int = 0
    """How many records of dev are used as a saved model would be (0: only the loss is taken)."""
    ranked: str = "loss"
    """The score that callbacks watch unless they are told another."""

    def dev(self) -> dict[str, float]:
        """The scores; the model's mode is restored."""
        raise NotImplementedError

    def rank(self, scores: Mapping[str, float]) -> float:
        """What the best checkpoint has most of, made of that score; minus infinity for NaN."""
        return -math.inf if math.isnan(scores["loss"]) else -scores["loss"]

    def record(self, scores: Mapping[str, float]) -> dict[str, Any]:
        """The scores with how they were got, for the saved model."""
        return dict(scores)

    def release(self) -> None:
        """Let caches and programs go; they are made again when they are needed."""


class Finished(NamedTuple):
    """What a saved model has beside its weights: defaults for its use (`generation_config.json`), the calibration of
    its confidence, further files."""

    generation: dict[str, Any]
    confidence: dict[str, Any] | None = None
    files: dict[str, bytes] | None = None


class Task:
    """One kind of problem: how its data become batches, and how a model of it is scored, saved and shown.

    There is one in each file of this folder, named `TASK` there; the file has the name that problems, specs and models
    give as their task. A model's part is `loss(batch, smoothing)`: (sum, weight), two float32 scalars. A batch is a
    NamedTuple of arrays (None where there is nothing) with three methods: `sizes()` names what tells its shape from
    others, `tokens()` counts what speeds are given in, `places()` the same with padding.
    """

    name: ClassVar[str]
    use: ClassVar[str]
    """The command that uses a saved model."""
    default_model: ClassVar[str]
    """The model of a run that names none."""
    figures: ClassVar[tuple[tuple[str, str, str], ...]] = (("loss", "dev loss", ".3f"),)
    """Scores for the top of a report: name, label, format."""
    loss_unit: ClassVar[str] = "nats a text"
    evaluate_options: ClassVar[tuple[str, ...]] = ()
    """Options of `seqlib evaluate` that this task has beside those of all."""

    def propose_preset(self, config: RunConfig) -> str:
        """The preset of a run that names none: the one named after the problem, else `base`; "" where there is none."""
        names = set(available("seqlib.models"))
        wanted = [*families(config.problem), "base"]
        return next((f"{config.model}_{stem}" for stem in wanted if f"{config.model}_{stem}" in names), "")

    def prepare(self, config: RunConfig, problem: Any, **how: Any) -> Any:
        """The problem's data ready for training, made when they are not in the cache yet: `digest`, `folder`, `spec`,
        `tokenizer`, `report`, `stores` by split. `how` is further arguments of `seqlib.data.prepare.prepare`."""
        from seqlib.data.prepare import prepare

        data = config.data
        if data.subword_sampling:
            check_strength(data.tokenizer or problem.tokenizer, data.subword_sampling)
        sizes = {"vocab_size": data.vocab_size or None, "tokenizer": data.tokenizer or None}
        return prepare(problem, data.cache_dir or None, seed=config.seed, **sizes, **how)

    def epochs(self, config: RunConfig, data: Any, tell: bool = False) -> Epochs:
        """The plans of the run's epochs over prepared data; `tell` logs what is unusual about them."""
        raise NotImplementedError

    def sampling(self, config: RunConfig, data: Any) -> Sampling | None:
        """The epochs of train with words cut anew in each, where the run wants that."""
        if not config.data.subword_sampling:
            return None
        sampler = SubwordSampler(data.tokenizer, config.data.subword_sampling)
        return Sampling(data.store("train"), sampler, data.digest, config.seed, config.batch.max_length)

    def batching(self, config: RunConfig, data: Any) -> dict[str, Any]:
        """The settings of `Epochs`, and of other epochs like it, that a run's configuration gives."""
        batch = config.batch
        return {
            "digest": data.digest,
            "seed": config.seed,
            "tokens": batch.size,
            "max_length": batch.max_length,
            "kind": batch.kind,
            "shapes": batch.shapes,
            "parts": batch.accumulate,
        }

    def placed(self, model: Any, config: RunConfig) -> None:
        """What is done with a training model once it is where it computes."""

    def amount(self, trainer: Trainer) -> tuple[str, str]:
        """How much there is to train on, in words, and what one of the epoch's store is called, in the plural."""
        return f"{(count := len(trainer.epochs.store)):,} text{'s' * (count != 1)}", "texts"

    def scorer(self, model: Any, problem: Any, data: Any, config: RunConfig, longest: int) -> Scorer:
        """`longest` is what the model's positions hold."""
        raise NotImplementedError

    def baselines(self, problem: Any, data: Any, config: RunConfig, split: str = "dev") -> dict[str, dict[str, Any]]:
        """Scores of cheap models on a split by their name, each with its `seconds`; those on dev are told before
        training, and stand beside the model's."""
        return {}

    def decoding_bytes(self, trainer: Trainer) -> int:
        """What evaluation during and after training takes beside the model, for the memory forecast."""
        return 0

    def finish(self, trainer: Trainer, final: bool = True) -> Finished:
        """What is saved with the model, its weights chosen; not `final`: during a run, not what takes long."""
        return Finished({})

    def evaluate(
        self, saved: Bundle, problem: Any, split: str, *, limit: int, device: str, precision: str, **options: Any
    ) -> dict[str, Any]:
        """Scores of a saved model on a split (its first `limit` records; 0: all) with how they were got; `options` are
        of `evaluate_options`, those that were given. Raises UsageError and DataError for an unknown or empty split."""
        raise NotImplementedError

    def sections(self, saved: Bundle | None, data: Any, config: RunConfig) -> list[Section]:
        """What a report tells from data and, once the run has ended, the saved model."""
        return []

    def sample_spec(self) -> ProblemSpec:
        """A spec for `sample_batches`."""
        return ProblemSpec(task=self.name, source_vocab=32, target_vocab=32)

    def sample_batches(self, config: RunConfig) -> Iterator[Any]:
        """A small batch of each kind that the configured model takes, token ids below 32."""
        raise NotImplementedError

    def sample_use(self, model: Any, spec: Any, config: RunConfig) -> None:
        """Run once what a saved model is used for, on a few tokens, so that its kernels are compiled."""


def families(problem: str) -> list[str]:
    """`translate_multi30k_ende` → `multi30k_ende`, `multi30k`."""
    parts = problem.replace("-", "_").split("_")[1:]
    return ["_".join(parts[:n]) for n in range(len(parts), 0, -1)]
