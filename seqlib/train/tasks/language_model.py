"""Language modelling: windows over a long text or whole documents, scored by the loss, perplexity and bits a byte."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqlib.data.batch import TextBatch, collate
from seqlib.data.ngrams import KneserNey, unigram_log_probs
from seqlib.data.store import write_store
from seqlib.data.text import DocumentEpochs, WindowEpochs, as_text, has_answers, stream_of, text_batch, write_texts
from seqlib.train.scores import split_loss
from seqlib.train.step import compiled_loss
from seqlib.train.tasks.base import Finished, Scorer, Task
from seqlib.util.errors import DataError, UsageError

if TYPE_CHECKING:
    from seqlib.bundle import Bundle
    from seqlib.train.config import RunConfig
    from seqlib.train.report.page import Section
    from seqlib.train.trainer import Trainer

_LONG = 1024  # of a window for scores, where a model has no end
_TOKENS = 8192  # of a batch for scores
_COUNTED = 5_000_000  # tokens of train that n-grams are counted in
_SCORED = 1_000_000  # tokens of dev that they are scored on
_ORDER = 5
_SMALL = 20_000_000  # bytes of text below which the smallest preset is proposed


class LanguageModelTask(Task):
    """Batches are `TextBatch` of `seqlib.data.batch`; what is used is `seqlib.decode.generate`."""

    name = "language_model"
    use = "generate"
    default_model = "gpt2"
    figures = (
        ("bits_per_byte", "dev bits a byte", ".3f"),
        ("perplexity", "dev perplexity", ".2f"),
        ("loss", "dev loss", ".3f"),
    )
    loss_unit = "nats a token"
    evaluate_options = ("stride",)

    def propose_preset(self, config: RunConfig) -> str:
        """The preset named after the problem, else the smallest of the model that suits characters."""
        found = super().propose_preset(config)
        small = {"gpt2": "gpt2_tiny", "lstm_lm": "lstm_lm_characters"}
        return small.get(config.model, found) if not found or found.endswith("_base") else found

    def prepare(self, config: RunConfig, problem: Any, **how: Any) -> Any:
        if config.data.subword_sampling:
            raise UsageError("data.subword_sampling: a language model's pieces are what it is scored by; leave it at 0")
        return super().prepare(config, problem, write=write_texts, **how)

    def epochs(self, config: RunConfig, data: Any, tell: bool = False) -> Any:
        batch, store = config.batch, data.store("train")
        documents = data.report.problem["documents"]
        if batch.kind == "windows" and has_answers(store):
            raise UsageError("batch.kind windows: only answers are learnt of these documents; use batch.kind buckets")
        if batch.kind != "windows":
            if not documents:
                raise UsageError(f"batch.kind {batch.kind}: {data.spec.name} is one long text; use batch.kind windows")
            return DocumentEpochs(store, **self.batching(config, data))
        recurrent = config.model == "lstm_lm"
        if recurrent and batch.accumulate > 1:
            raise UsageError(
                "batch.accumulate: states are carried from batch to batch, which can't be cut; leave it at 1"
            )
        stream = stream_of(store, documents, data.spec.eos_id)
        sizes = {"tokens": batch.size, "length": batch.max_length, "parts": batch.accumulate}
        return WindowEpochs(stream, data.digest, config.seed, lanes=recurrent, **sizes)

    def placed(self, model: Any, config: RunConfig) -> None:
        """A recurrent model's states go on from window to window."""
        if getattr(model, "recurrent", False) and config.batch.kind == "windows":
            model.carry(config.batch.size // config.batch.max_length)

    def amount(self, trainer: Trainer) -> tuple[str, str]:
        split = trainer.data.report.splits["train"]
        return f"{split.bytes:,} bytes of text, {split.target_tokens:,} tokens", "windows"

    def scorer(self, model: Any, problem: Any, data: Any, config: RunConfig, longest: int) -> LanguageModelScorer:
        return LanguageModelScorer(model, data, config.batch.kind == "windows")

    def baselines(self, problem: Any, data: Any, config: RunConfig, split: str = "dev") -> dict[str, dict[str, Any]]:
        """Single tokens and an interpolated Kneser-Ney 5-gram, counted in at most 5 million tokens of train."""
        if split not in data.stores or has_answers(data.store("train")):
            return {}
        documents, spec = data.report.problem["documents"], data.spec
        train, dev = (stream_of(data.store(name), documents, spec.eos_id) for name in ("train", split))
        train, dev = train[:_COUNTED], dev[:_SCORED]
        found: dict[str, dict[str, Any]] = {}
        for name, log_probs in (
            ("unigram", lambda: unigram_log_probs(train, dev, spec.target_vocab)),
            (f"{_ORDER}-gram", lambda: KneserNey(train, spec.target_vocab, _ORDER).log_probs(dev)),
        ):
            began = time.perf_counter()
            loss = -float(log_probs()[1:].mean())
            found[name] = _figures(loss, data.report.splits[split], len(dev) - 1)
            found[name]["seconds"] = round(time.perf_counter() - began, 2)
        return found

    def finish(self, trainer: Trainer, final: bool = True) -> Finished:
        spec, documents = trainer.data.spec, trainer.data.report.problem["documents"]
        return Finished(
            {
                "max_length": trainer.model_config.max_length,
                "bos_token_id": spec.bos_id,
                "eos_token_id": spec.eos_id,
                "pad_token_id": spec.pad_id,
                "prompt_begins_with": [spec.bos_id] if documents else [],
            }
        )

    def evaluate(
        self, saved: Bundle, problem: Any, split: str, *, limit: int, device: str, precision: str, **options: Any
    ) -> dict[str, Any]:
        """The loss of a split's text in windows as long as the model's positions, each `stride` after the one before:
        only the tokens that the one before does not have are scored (by default windows don't overlap)."""
        from itertools import islice

        from seqlib.decode.load import placed

        problem.check_split(split)
        texts = list(islice(problem.texts(split), limit or None))
        tokenizer, spec = saved.tokenizer, saved.spec
        if problem.answers:
            model = placed(saved.build_model(), device, precision)
            records = islice(problem.records(split), limit or None)
            pairs = (problem.learnt(record, tokenizer) for record in records)
            with tempfile.TemporaryDirectory(prefix="seqlib-") as folder:
                store = write_store(Path(folder) / "store", pairs, spec.target_vocab)
                total, count = documents_loss(compiled_loss(model), store, spec, _window(model))
            return {"loss": total / count, "perplexity": math.exp(min(total / count, 700.0)), "tokens": count}
        ids = tokenizer.encode_batch(texts)
        if problem.documents:
            ids = [[spec.eos_id, *each] for each in ids] + [[spec.eos_id]]
        stream = np.array([token for each in ids for token in each], np.int32)
        if len(stream) < 2:
            raise DataError(f"{problem.name}: split {split!r} has no text")
        model = placed(saved.build_model(), device, precision)
        window = _window(model)
        total, count = stream_loss(compiled_loss(model), stream, window, options.get("stride", _stride(model, window)))
        joined = "".join(texts)
        sizes = {"characters": len(joined), "bytes": len(joined.encode("utf-8", "replace")), "tokens": count}
        return {**_bits(total, count, sizes["characters"], sizes["bytes"]), **sizes, "window": window}

    def sections(self, saved: Bundle | None, data: Any, config: RunConfig) -> list[Section]:
        """What the model writes."""
        from seqlib.decode.generate import from_bundle
        from seqlib.train.report.page import Section, facts, paragraph

        found = [Section("Text", facts({name: vars(split) for name, split in data.report.splits.items()}))]
        if saved is not None:
            written = from_bundle(saved).generate([""], n=3, max_tokens=300, temperature=0.8)
            found.append(Section("What it writes", "".join(paragraph(one.text) for one in written)))
        return found

    def sample_batches(self, config: RunConfig) -> Iterator[TextBatch]:
        ids = np.full((3, 20), 5, np.int32)
        yield TextBatch(ids, ids)
        if config.model == "gpt2":
            places = np.concatenate([np.arange(20), np.arange(9), np.zeros(3)]).astype(np.int32)
            yield TextBatch(np.full(32, 5, np.int32), np.full(32, 5, np.int32), places, np.array([0, 20, 29], np.int32))

    def sample_use(self, model: Any, spec: Any, config: RunConfig) -> None:
        from seqlib.decode.engine import Engine
        from seqlib.decode.sampling import Sampling

        engine, keys = Engine(model, spec), np.zeros(2, np.uint64)
        for _ in engine.generate([[5] * 18, [6] * 18], max_tokens=2, sampling=Sampling(), keys=keys):
            pass


TASK = LanguageModelTask()


class LanguageModelScorer(Scorer):
    """Scores a model on dev during training: windows that don't overlap, or whole documents (those that fit its
    positions), each for itself."""

    def __init__(self, model: Any, data: Any, windows: bool) -> None:
        self._model, self._data, self._windows = model, data, windows
        self._loss = compiled_loss(model)
        self.available = "dev" in data.stores and len(data.store("dev").tokens) > 1
        # The loss in nats a token, its exponential, and what it comes to a byte and a character of text.
        self.names = ("loss", "perplexity", "bits_per_byte", "bits_per_character") if self.available else ()

    def dev(self) -> dict[str, float]:
        """The scores; the model's mode is restored."""
        store, spec, report = self._data.store("dev"), self._data.spec, self._data.report
        with self._model.evaluating():
            if self._windows:
                stream = stream_of(store, report.problem["documents"], spec.eos_id)
                window = _window(self._model)
                total, count = stream_loss(self._loss, stream, window, _stride(self._model, window))
            else:
                total, count = documents_loss(self._loss, store, spec, _window(self._model))
        return _figures(total / count, report.splits["dev"], count)

    def record(self, scores: Mapping[str, float]) -> dict[str, Any]:
        """The scores and the length of the windows."""
        return {**scores, "window": _window(self._model)}


def stream_loss(loss: Any, stream: np.ndarray, window: int, stride: int) -> tuple[float, int]:
    """(sum of the cross entropies in nats, number of tokens) of a stream int [N] but its first token, in windows of so
    many tokens, each `stride` after the one before; `loss` is what `compiled_loss` gives. Raises UsageError for a
    stride that leaves tokens out."""
    if not 1 <= stride <= window:
        raise UsageError(f"stride: expected 1 to the window of {window} tokens, got {stride}")
    known = len(stream) - 1
    window = min(window, known)
    stride = min(stride, window)
    starts = np.append(np.arange(0, known - window, stride), known - window)
    scored = np.minimum(np.diff(starts + window, prepend=0), window)
    rows, total, count = max(1, _TOKENS // window), 0.0, 0
    for begin in range(0, len(starts), rows):
        members = starts[begin : begin + rows]
        batch = text_batch(stream, np.resize(members, rows), window)
        fresh = np.zeros(rows, np.int64)
        fresh[: len(members)] = scored[begin : begin + rows]
        targets = np.where(np.arange(window) >= window - fresh[:, None], batch.targets, -1).astype(np.int32)
        found, weight = loss(batch._replace(targets=targets))
        total += found.item()
        count += round(weight.item())
    return total, count


def documents_loss(loss: Any, store: Any, spec: Any, longest: int) -> tuple[float, int]:
    """(sum of the cross entropies in nats, number of tokens, the end tokens counted) of the documents of a store that
    have fewer than `longest` tokens. Raises DataError when there is none."""
    answers = has_answers(store)
    total, count = split_loss(
        loss, store, spec, tokens=_TOKENS, max_length=longest, collated=lambda *of: as_text(collate(*of), answers)
    )
    return total, round(count)


def _window(model: Any) -> int:
    """Tokens of a window for scores."""
    return min(int(model.config.max_length), _LONG)


def _stride(model: Any, window: int) -> int:
    """A recurrent model's windows overlap, so that few tokens are scored without anything before them."""
    return window * 3 // 4 if getattr(model, "recurrent", False) else window


def _figures(loss: float, split: Any, count: int) -> dict[str, float]:
    """The scores of a loss in nats a token of a split, of which `count` tokens are scored."""
    share = min(1.0, count / max(1, split.target_tokens))
    return _bits(loss * count, count, split.characters * share, split.bytes * share)


def _bits(total: float, count: int, characters: float, size: float) -> dict[str, float]:
    loss = total / count
    bits = total / math.log(2)
    perplexity = math.exp(min(loss, 700.0))
    return {
        "loss": loss,
        "perplexity": perplexity,
        "bits_per_byte": bits / max(1, size),
        "bits_per_character": bits / max(1, characters),
    }
