"""What `seqlib summary` is about: a configuration's model, or a folder's, built without memory."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from seqlib import bundle
from seqlib.bundle.architecture import builder, is_location
from seqlib.core.meta import meta
from seqlib.core.rng import Generator
from seqlib.data.labelled import LabelledBatch
from seqlib.data.text import as_text
from seqlib.problems.spec import ProblemSpec
from seqlib.train import checkpoint
from seqlib.train import config as run_config
from seqlib.train.config import CONFIG_FILE, RunConfig
from seqlib.train.setup import build_model, build_optimizer, open_problem, prepare_data
from seqlib.train.summary import Summary, empty_batch, summary
from seqlib.util.errors import UsageError

_PLAIN_BATCH = 2048  # tokens a side, where batch.tokens is to be measured


class Subject(NamedTuple):
    """A model without memory, the name it goes by, and its problem's spec."""

    name: str
    model: Any
    spec: ProblemSpec

    def facts(self) -> dict[str, Any]:
        """The head of the page as numbers."""
        spec = self.spec
        return {"name": self.name, "source_vocab": spec.source_vocab, "target_vocab": spec.target_vocab}

    def title(self) -> str:
        """The head of the page."""
        spec, languages = self.spec, ""
        if spec.source_language:
            languages = f"{spec.source_language} → {spec.target_language}, "
        both = "" if spec.source_vocab == spec.target_vocab else f"{spec.source_vocab:,} and "
        return f"{self.name}: {languages}{both}{spec.target_vocab:,} pieces"


def subject_of(config: RunConfig, folder: str | None = None, planned: bool = True) -> Subject:
    """The model that `seqlib train` would build, or that of the bundle or run in `folder` with its `folder_config`,
    newly drawn; without memory if it is only `planned`. Raises UsageError when nothing tells the size of the
    vocabulary, BundleError or DataError for a damaged folder."""
    where = Path(folder or "")
    if folder is not None and (not (where / CONFIG_FILE).is_file() or (where / "model" / "seqlib.json").is_file()):
        own = config.model if is_location(config.model) else None
        saved = bundle.read(where, check_digests=False, model=own)
        with meta() if planned else nullcontext():
            model = builder(saved.architecture)(saved.model_config, saved.spec, Generator(0))
        return Subject(folder, model, saved.spec)
    spec = _spec(config) if folder is None else _prepared_spec(where)
    with meta() if planned else nullcontext():
        model, _ = build_model(config, spec, Generator(0))
    return Subject(folder or config.hparams_set or config.model, model, spec)


def folder_config(folder: Path, model: str | None) -> RunConfig:
    """The configuration of a run, the default one for a bundle alone. `model` says where the code of a user's own model
    is; UsageError without it when the run has one, since only code that is named may run."""
    path = folder / CONFIG_FILE
    config = run_config.read(path) if path.is_file() else RunConfig(model="")
    if model is None and is_location(config.model):
        raise UsageError(
            f"{folder}: its model is code of somebody's own, {config.model} when it was trained; say where that is "
            "now: --model FILE.py:NAME"
        )
    # A run's configuration holds the whole model, so its preset is not asked.
    return msgspec.structs.replace(config, model=model or config.model, hparams_set="")


def summarize(subject: Subject, config: RunConfig, **sizes: Any) -> Summary:
    """The summary for a `sample_batch`, with the configuration's optimizer, frozen parameters and accumulation."""
    given = sample_batch(subject, config, **sizes)
    optimizer = build_optimizer(config, subject.model)
    optim, parts = config.optim, config.batch.accumulate
    how = {"smoothing": optim.smoothing, "accumulate": parts, "consistency": optim.consistency}
    return summary(subject.model, given, optimizer=optimizer, **how)


def sample_batch(
    subject: Subject, config: RunConfig, rows: int | None, source_tokens: int, target_tokens: int | None = None
) -> Any:
    """A batch of `rows` (None: what `batch.tokens` holds) of so many tokens, all of them 0; by default as many
    of the target as of the source."""
    source, target = source_tokens, target_tokens or source_tokens
    longest = int(subject.model.config.max_length)
    if max(source, target) > longest:
        raise UsageError(f"the model takes sentences of at most {longest} tokens, got {max(source, target)}")
    batch = config.batch
    tokens = _PLAIN_BATCH if batch.tokens == "auto" else batch.size
    rows = rows or max(1, tokens // (max(source, target) * batch.accumulate))
    given: Any = empty_batch(rows, source, target, packed=batch.kind == "packing")
    if subject.spec.task == "language_model":
        given = as_text(given)
    if labels := subject.spec.labels:
        ids, shape = np.zeros((rows, source), np.int32), (rows, labels.outputs)[: 1 + (labels.kind == "multi_label")]
        targets = np.zeros(shape, np.int32 if labels.kind == "multi_class" else np.float32)
        types, lengths = ids if labels.pairs else None, np.full(rows, source, np.int32)
        given = LabelledBatch(ids, lengths, types, targets, np.ones(rows, np.float32))
    return given


class _Pieces(NamedTuple):
    """What a problem's spec asks of a tokenizer."""

    vocab_size: int
    pad_id: int = 0
    bos_id: int = 1
    eos_id: int = 2


def _prepared_spec(folder: Path) -> ProblemSpec:
    """The spec of the data that a run's newest checkpoint names."""
    prepared = Path(checkpoint.newest(folder / "checkpoints").state["data_folder"])
    return ProblemSpec.read(prepared / "problem.json")


def _spec(config: RunConfig) -> ProblemSpec:
    size = config.data.vocab_size
    if not config.problem and not config.data.paths:
        if not size:
            raise UsageError(
                "the size of the vocabulary is missing: give --problem NAME, --data FILES or --vocab_size N"
            )
        return ProblemSpec(source_vocab=size, target_vocab=size)
    problem = open_problem(config)
    size = size or problem.vocab_size or 0
    pieces: Any = _Pieces(size) if size else prepare_data(config, problem).tokenizer
    return problem.spec(pieces)
