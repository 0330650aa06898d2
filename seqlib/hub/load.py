"""`seqlib.load`: from a handle to a model in use. And back: a folder that transformers loads."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from seqlib.core.meta import meta
from seqlib.data.pretrained import read_tokenizer
from seqlib.decode import load as saved
from seqlib.hub import gguf_model
from seqlib.hub.formats import open_checkpoint
from seqlib.hub.formats.npz import model_yml
from seqlib.hub.handles import resolve
from seqlib.models import marian_native
from seqlib.nn.module import Module
from seqlib.problems.spec import Labels, ProblemSpec
from seqlib.util.errors import DataError, UsageError, unknown
from seqlib.util.files import read_json

FAMILIES = {
    **dict.fromkeys(("bert", "roberta", "distilbert"), "bert"),
    **dict.fromkeys(("marian", "bart", "pegasus"), "marian"),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), "llama"),
    **{name: name for name in ("marian_native", "t5", "gpt2")},
    "gemma3_text": "gemma",
}
"""The file in `seqlib.models` for each `model_type` of a config.json."""


def load(
    handle: str | Path,
    *others: str | Path,
    threshold: float | None = None,
    model: str | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> Any:
    """What lies at a `handle`, ready for use: a folder that `seqlib train` wrote (see `decode.load.load`, which
    `others`, `threshold` and `model` are for); a pretrained model in Hugging Face's format, a folder or what a handle
    names (`hub.handles.resolve`); a Marian or GGUF model, the folder or the file; a file of tensors.

    A pretrained model has `.translate`, `.generate`, `.classify`, `.embed` or `.fill_mask`, by its head, and the plain
    module at `.model`. It computes on a `device` ("cpu", "cuda", "auto": the GPU where there is one) in a `precision`
    (see `nn.precision.resolve_precision`). Raises UsageError for an architecture that is not known, SeqlibError with
    the names of missing, unexpected and mis-shaped tensors, DataError for damaged files, and the errors of
    `decode.load.load`.
    """
    folder = resolve(handle) if "://" in str(handle) else Path(handle)
    if others or is_bundle(folder) or not ((folder / "config.json").is_file() or _tells_itself(folder)):
        return saved.load(folder, *others, threshold=threshold, model=model, device=device, precision=precision)
    found = read_config(folder)
    built = saved.placed(read_model(folder, found).eval(), device, precision)
    ready = _READY[built.use](built, folder, found)
    ready.hub_files = {name: (folder / name).read_bytes() for name in _SETTINGS if (folder / name).is_file()}
    defaults = {name: found[name] for name in _DEFAULTS if found.get(name) is not None}
    if built.use in ("translate", "generate") and defaults:  # said by config.json or by the weights themselves
        ready.hub_files.setdefault("generation_config.json", msgspec.json.encode(defaults))
    return ready


def read_model(folder: Path, found: Mapping[str, Any] | None = None) -> Any:
    """The module that a pretrained folder holds, with its weights, for training (`eval()` for use); `found` is its
    config.json. Raises as `load`."""
    found = read_config(folder) if found is None else found
    family = family_of(found, folder)
    checkpoint = open_checkpoint(folder)
    if checkpoint.format == "gguf":
        checkpoint = gguf_model.tensors(checkpoint)
    with meta():
        model = family.from_hf(found, checkpoint, spec_from(found))
    family.names(model).read(model, checkpoint)
    return model


def spec_from(found: Mapping[str, Any]) -> ProblemSpec:
    """Vocabulary and special ids in a config.json."""
    vocab, pad = int(found.get("vocab_size") or 0), found.get("pad_token_id")
    begin = found.get("decoder_start_token_id", found.get("bos_token_id"))
    labels = _labels(found) if str(found.get("architectures")).endswith("ForSequenceClassification']") else None
    return ProblemSpec(
        task="translation" if labels is None else "text_classification",
        labels=labels,
        source_vocab=vocab,
        target_vocab=int(found.get("decoder_vocab_size") or vocab) if labels is None else labels.outputs,
        shared_vocab=found.get("share_encoder_decoder_embeddings", True),
        pad_id=0 if pad is None else pad,
        bos_id=(pad or 0) if begin is None else begin,
        eos_id=_first(found.get("eos_token_id")),
    )


def _labels(found: Mapping[str, Any]) -> Labels:
    named: Mapping[str, str] = found.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    names = tuple(named[key] for key in sorted(named, key=int))
    kinds: dict[str, Any] = {"regression": "regression", "multi_label_classification": "multi_label"}
    kind = kinds.get(found.get("problem_type") or ("regression" if len(names) == 1 else ""), "multi_class")
    # A number is the model's output as it is.
    return Labels(kind="regression", low=-1.0, high=1.0) if kind == "regression" else Labels(names=names, kind=kind)


def _first(ids: int | list[int] | None) -> int:
    """The id that ends a text; of several the first."""
    return (ids[0] if ids else 0) if isinstance(ids, list) else ids or 0


def module(handle: str | Path, trainable: bool | str | Sequence[str] = True) -> Any:
    """The module at a `handle`, with its weights, to be a layer in a model of one's own; `trainable` says which of its
    parameters are trained: all, none (False), or those whose names fit a pattern (``"layers.5.*"``) or one of several.
    Raises as `load`, UsageError for a pattern that fits nothing."""
    found = read_model(resolve(handle))
    if trainable is not True:
        found.freeze("*")
        for pattern in [trainable] if isinstance(trainable, str) else trainable or ():
            found.freeze(pattern, False)
    return found


def family_of(found: Mapping[str, Any], folder: Path) -> Any:
    """The file in `seqlib.models` for a config.json. Raises UsageError for a model_type without one."""
    kind = found.get("model_type")
    if kind not in FAMILIES:
        raise UsageError(f"{folder / 'config.json'}: {unknown('model_type', str(kind), FAMILIES)}")
    return importlib.import_module(f"seqlib.models.{FAMILIES[kind]}")


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """A JSON object in the folder of a model; DataError where it is damaged, {} for a missing file of another name than
    config.json. What a Marian or GGUF file says of itself stands for its config.json."""
    if name == "config.json" and gguf_model.is_gguf(folder):
        return gguf_model.config(open_checkpoint(folder))
    path = folder / name
    if not path.is_file():
        if name != "config.json":
            return {}
        if _tells_itself(folder):
            return _told(folder)
    return read_json(path)


def tokenizer_of(folder: Path, extra: int = 0) -> Any:
    """The tokenizer of a pretrained model; of a GGUF file, the one that it holds. Raises as `read_tokenizer`."""
    if gguf_model.is_gguf(folder):
        return gguf_model.tokenizer(open_checkpoint(folder))
    return read_tokenizer(folder, extra=extra)


def _tells_itself(path: Path) -> bool:
    """Whether these may be weights, a file or the folder of one, that need no config.json beside them."""
    files = [path] if path.is_file() else sorted(path.glob("model*"))
    return gguf_model.is_gguf(path) or any(file.suffix in (".npz", ".bin") for file in files)


def _told(path: Path) -> dict[str, Any]:
    checkpoint = open_checkpoint(path)
    if checkpoint.format != "marian":
        raise DataError(f"{checkpoint.path}: has neither a config.json beside it nor settings in it")
    folder = checkpoint.path.parent
    beside = sorted([*folder.glob("config*.yml"), *folder.glob("*decoder*.yml")])
    decoding = model_yml(beside[0], beside[0].read_bytes()) if beside else {}
    return marian_native.from_settings(checkpoint.metadata, decoding)


def is_bundle(folder: Path) -> bool:
    """Whether a folder holds what seqlib trained."""
    return (folder / "seqlib.json").is_file()


def _embed(model: Module, folder: Path, found: Mapping[str, Any]) -> Any:
    from seqlib.decode.encoder import Embedder

    pooling = read_config(folder, "1_Pooling/config.json")
    chosen = [how for how, name in _POOLING.items() if pooling.get(f"pooling_mode_{name}")]
    modules = folder / "modules.json"
    normalise = not modules.is_file() or b"Normalize" in modules.read_bytes()
    limit = int(read_config(folder, "sentence_bert_config.json").get("max_seq_length") or 0)
    return Embedder(model, read_tokenizer(folder), limit, chosen[0] if chosen else "mean", normalise)


def _fill(model: Module, folder: Path, found: Mapping[str, Any]) -> Any:
    from seqlib.decode.encoder import MaskFiller

    return MaskFiller(model, read_tokenizer(folder))


def _classify(model: Any, folder: Path, found: Mapping[str, Any]) -> Any:
    from seqlib.decode.classify import Classifier

    tokenizer = read_tokenizer(folder)
    ids = {"bos_id": tokenizer.bos_id, "eos_id": tokenizer.eos_id, "pad_id": tokenizer.pad_id}
    return Classifier(model, tokenizer, msgspec.structs.replace(spec_from(found), **ids))


def _translate(model: Any, folder: Path, found: Mapping[str, Any]) -> Any:
    from seqlib.decode.translate import Translator

    tables = ("tokenizer.json", "vocab.json")
    if found["model_type"] == "pegasus" and not any((folder / name).is_file() for name in tables):
        raise UsageError(f"{folder}: the ids of Pegasus' spiece.model are shifted; it takes its tokenizer.json")
    extra = model.spec.source_vocab if model.family == "t5" else 0
    defaults = {**found, **read_config(folder, "generation_config.json")}
    return Translator(
        model,
        read_tokenizer(folder, extra=100 if extra else 0),
        model.spec,
        beam=int(defaults.get("num_beams") or 1),
        alpha=float(defaults.get("length_penalty") or 1.0),
        penalty="power",
    )


def _generate(model: Any, folder: Path, found: Mapping[str, Any]) -> Any:
    from seqlib.decode.generate import TextGenerator

    tokenizer = tokenizer_of(folder)
    found = {**found, **read_config(folder, "generation_config.json")}
    ends = found.get("eos_token_id")
    begins = tokenizer.bos_id in tokenizer.template([""])[0].ids or tokenizer.settings.get("add_bos_token")
    begin = [tokenizer.bos_id] if begins and tokenizer.bos_id >= 0 else []
    return TextGenerator(model, tokenizer, spec_from(found), begin=begin, ends=ends if isinstance(ends, list) else ())


_DEFAULTS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "num_beams", "length_penalty")
_SETTINGS = ("generation_config.json", "modules.json", "sentence_bert_config.json", "1_Pooling/config.json")
"""What `hub.save.save_pretrained` writes back as it was."""
_POOLING = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens"}
_READY = {"embed": _embed, "fill_mask": _fill, "classify": _classify, "translate": _translate, "generate": _generate}
