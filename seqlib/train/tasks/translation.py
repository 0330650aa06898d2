"""Translation: pairs of sentences, scored by BLEU, chrF and the loss, with a confidence that is calibrated on dev."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqlib.data.batch import Batch, PackedBatch
from seqlib.data.epochs import Epochs
from seqlib.data.mixing import Mixture, parse_mix
from seqlib.data.store import write_store
from seqlib.data.vocabulary import encode_pairs
from seqlib.train import advice
from seqlib.train.metrics import score_texts
from seqlib.train.scores import CALIBRATED, CALIBRATION_SOURCES, TranslationScorer, split_loss
from seqlib.train.setup import why_not_packed
from seqlib.train.step import compiled_loss
from seqlib.train.tasks.base import Finished, Task
from seqlib.util.atomic import write_text
from seqlib.util.errors import DataError, OutOfMemoryError
from seqlib.util.log import get_logger

if TYPE_CHECKING:
    from seqlib.bundle import Bundle
    from seqlib.decode.translate import Translator
    from seqlib.train.config import RunConfig
    from seqlib.train.report.page import Section
    from seqlib.train.trainer import Trainer

_TOKENS = 2048  # a batch and side, for the loss
_PLACE = 2_000_000  # measured: the two programs of a decoding cache
_SOURCE = 1_000  # measured: a training source, and what is counted of it, while the confidence is fitted


class TranslationTask(Task):
    """Batches are `Batch` and `PackedBatch` of `seqlib.data.batch`; what is used is `seqlib.decode.translate`."""

    name = "translation"
    use = "translate"
    default_model = "transformer"
    figures = (("bleu", "dev BLEU", ".1f"), ("chrf", "dev chrF", ".1f"), ("loss", "dev loss", ".3f"))
    loss_unit = "nats a target token"
    evaluate_options = ("beam", "alpha", "translations")

    def propose_preset(self, config: RunConfig) -> str:
        """By the size of the corpus and the memory there is, see `advice`."""
        return advice.propose_preset(config)

    def epochs(self, config: RunConfig, data: Any, tell: bool = False) -> Epochs:
        mix = parse_mix(config.data.mix)
        mixture = None
        if mix:
            weights = (1.0, *(weight for _, weight in mix))
            sizes = data.report.splits["train"].corpora
            mixture = Mixture((*sizes, *[0] * (len(weights) - len(sizes))), weights, config.data.temperature)
            if tell:
                names = [",".join(config.data.paths), *(files for files, _ in mix)]
                get_logger().info("the mixture of corpora:\n%s", mixture.report(names))
        sampling = self.sampling(config, data)
        return Epochs(data.store("train"), mixture=mixture, sampling=sampling, **self.batching(config, data))

    def amount(self, trainer: Trainer) -> tuple[str, str]:
        lengths = trainer.epochs.store.lengths()
        return f"{len(lengths):,} pairs, {int(lengths[:, 1].sum()) + len(lengths):,} target tokens", "pairs"

    def scorer(self, model: Any, problem: Any, data: Any, config: RunConfig, longest: int) -> TranslationScorer:
        return TranslationScorer(model, problem, data, config, longest)

    def decoding_bytes(self, trainer: Trainer) -> int:
        """Caches: of dev translations during the run, which an untrained model makes as long as they may be, or of
        those for the confidence at its end, about as long as the references."""
        from seqlib.decode.engine import Engine

        decode, data = trainer.config.decode, trainer.data
        if "dev" not in data.stores:
            return 0
        lengths = data.store("dev").lengths()
        scored, last = lengths[: trainer.scorer.scored], lengths[:CALIBRATED]
        engine = Engine(trainer.model, data.spec)
        try:
            with trainer.model.evaluating():
                during, places = engine.cache_bytes(scored[:, 0].tolist(), decode.dev_beam)
                after, others = engine.cache_bytes(last[:, 0].tolist(), decode.beam, last[:, 1].tolist())
            if trainer.device == "cuda":
                return max(during, after)
            fitting = _SOURCE * min(len(data.store("train")), CALIBRATION_SOURCES)
            return max(during + _PLACE * places, after + _PLACE * others + fitting)
        except MemoryError as error:
            raise OutOfMemoryError(
                f"there is no room for the caches of decoding dev sentences: lower decode.dev_beam ({decode.dev_beam}) "
                f"or decode.beam ({decode.beam}), or give shorter dev sentences"
            ) from error

    def finish(self, trainer: Trainer, final: bool = True) -> Finished:
        """The confidence, calibrated on dev, and decoding defaults in the names that other tools use."""
        from seqlib.decode.load import FORMULAS
        from seqlib.decode.translate import Translator

        decode, data, spec = trainer.config.decode, trainer.data, trainer.data.spec
        generation = {
            "num_beams": decode.beam,
            "length_penalty": decode.alpha,
            "length_penalty_formula": FORMULAS[decode.penalty],
            "max_length": trainer.model_config.max_length,
            "bos_token_id": spec.bos_id,
            "eos_token_id": spec.eos_id,
            "pad_token_id": spec.pad_id,
            "decoder_start_token_id": spec.bos_id,
        }
        if not final:
            return Finished(generation)
        how: Any = {"beam": decode.beam, "alpha": decode.alpha, "penalty": decode.penalty}
        translator = Translator(trainer.model, data.tokenizer, spec, **how)
        if (found := calibrate(translator, data)) is None:
            return Finished(generation)
        return Finished(generation, found.to_dict(), found.files())

    def evaluate(
        self, saved: Bundle, problem: Any, split: str, *, limit: int, device: str, precision: str, **options: Any
    ) -> dict[str, Any]:
        """Translations against references: `score_texts`, `flagged` (share below the confidence threshold, None
        without one), `beam` and `alpha`, `loss`; `translations` names a file for them."""
        from seqlib.decode.load import from_bundle

        problem.check_split(split)
        pairs = list(islice(problem.samples(split), limit or None))
        if not pairs:
            raise DataError(f"{problem.name}: split {split!r} is empty")
        translator = from_bundle(saved, device=device, precision=precision)
        how = {name: options.get(name, getattr(translator, name)) for name in ("beam", "alpha")}
        found = translator.translate([source for source, _ in pairs], **how)
        texts, references = [item.text for item in found], [target for _, target in pairs]
        scores = score_texts(texts, references, saved.spec.target_language, lowercased=True)
        known = [item.flagged for item in found if item.flagged is not None]
        scores["flagged"] = round(sum(known) / len(known), 4) if known else None
        loss = pairs_loss(translator.model, translator.tokenizer, saved.spec, pairs, saved.model_config.max_length)
        if options.get("translations") is not None:
            write_text(options["translations"], "".join(item.text + "\n" for item in found))
        return {**scores, **how, "loss": None if loss is None else round(loss, 4)}

    def sections(self, saved: Bundle | None, data: Any, config: RunConfig) -> list[Section]:
        """Lengths; the worst dev sentences and the attention of one."""
        from seqlib.decode.load import from_bundle
        from seqlib.train.report import samples

        found = [samples.length_section(config, data)]
        if saved is not None and "dev" in data.stores and len(data.store("dev")):
            found += samples.sentences_and_attention(from_bundle(saved), data, config)
        return found

    def sample_batches(self, config: RunConfig) -> Iterator[Batch | PackedBatch]:
        """A padded batch, and a packed one where the model takes it."""
        ids, lengths = np.full((3, 20), 5, np.int32), np.array([20, 9, 17], np.int32)
        targets, target_lengths = np.full((3, 24), 5, np.int32), np.array([24, 12, 7], np.int32)
        yield Batch(ids, lengths, targets, targets, target_lengths)
        if why_not_packed(config):
            return
        (src, offsets), (tgt, target_offsets) = (
            (np.full(room, 5, np.int32), np.array([0, *np.cumsum(lengths)], np.int32))
            for room, lengths in ((48, (20, 9, 17)), (64, (24, 12, 24)))
        )
        places, target_places = (
            np.concatenate([*map(np.arange, np.diff(o)), np.zeros(len(x) - o[-1])]).astype(np.int32)
            for x, o in ((src, offsets), (tgt, target_offsets))
        )
        yield PackedBatch(src, places, offsets, tgt, tgt, target_places, target_offsets)

    def sample_use(self, model: Any, spec: Any, config: RunConfig) -> None:
        from seqlib.decode.engine import Engine

        for beam in (1, config.decode.beam):
            Engine(model, spec).decode([[5, 6, 7], [8, 9]], beam=beam, max_length=4)


TASK = TranslationTask()


def calibrate(translator: Translator, data: Any) -> Any:
    """Fit the translator's confidence on prepared data; None, with a line that says why, without enough dev text."""
    if "dev" not in data.stores:
        get_logger().warning("no confidence threshold: there is no dev split")
        return None
    dev_texts = data.texts("dev")[0][:CALIBRATED]
    try:
        return translator.calibrate(train_sources(data), dev_texts)
    except DataError as error:
        get_logger().warning("no confidence threshold: %s", error)
        return None


def train_sources(data: Any) -> Iterator[str]:
    """Up to 50,000 training sources, evenly spread over the corpus, as the tokenizer gives them back."""
    store = data.store("train")
    for index in range(0, len(store), -(-len(store) // CALIBRATION_SOURCES)):
        yield data.tokenizer.decode(store.pair(index)[0].tolist())


def pairs_loss(model: Any, tokenizer: Any, spec: Any, pairs: Sequence[tuple[str, str]], longest: int) -> float | None:
    """Mean cross entropy in nats per target token of `pairs`, without smoothing; None where all are longer than the
    model takes."""
    with tempfile.TemporaryDirectory(prefix="seqlib-") as folder:
        store = write_store(Path(folder) / "store", encode_pairs(tokenizer, pairs), tokenizer.vocab_size)
        if not (store.lengths() < longest).all(1).any():
            return None
        with model.evaluating():
            total, weight = split_loss(compiled_loss(model), store, spec, tokens=_TOKENS, max_length=longest)
        return total / weight
