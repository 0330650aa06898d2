"""`RunConfig`: everything that decides a training run, one frozen tree, saved as JSON in the run folder.

Every path in the tree is a flag of `seqlib train` (`optim.lr` is `--optim.lr`). Values come in layers, later ones
winning: the defaults below, the training half of the preset (`hparams_set`), a configuration file, flags.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

import msgspec

from seqlib.data.tokenizer import KINDS
from seqlib.util.errors import UsageError, hint, unknown
from seqlib.util.memory import parse_size

CONFIG_FILE = "run.json"
"""The configuration in a run folder."""


class DataConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where sentences come from, and how they become token ids."""

    paths: tuple[str, ...] = ()
    """Own files: two line-aligned files, or one TSV, CSV, JSONL, TMX or Parquet file (.gz and .zst are read); a data
    set of the Hugging Face hub, hf:name[:config][:split]; a text file or a folder of them, for a language model."""
    dev_paths: tuple[str, ...] = ()
    """Own development files; without them a part of `paths` is held out."""
    test_paths: tuple[str, ...] = ()
    """Own test files; without them a part of `paths` is held out."""
    dev_size: float = 0.0
    """Part held out for development: a fraction below 1, or a number of pairs; 0: 2 %, at most 2,000 pairs."""
    test_size: float = 0.0
    """Part held out for testing, likewise."""
    columns: tuple[str, ...] = ()
    """Names of the source and target column of a TSV, CSV, JSONL or Parquet file or of a data set."""
    text: tuple[str, ...] = ()
    """Field of a JSONL file with the texts of a language model, or with conversations, or the fields of prompts and
    answers (then only answers are learnt); with `label` the column of the text, or the columns of
    the two texts, that it is of."""
    label: str = ""
    """Column of the label: a class, several with `;` between, or a number, by what stands in it."""
    label_kind: Literal["", "multi_class", "multi_label", "regression"] = ""
    """What labels are; by default as they look."""
    class_weights: str = ""
    """What texts of a class count in the loss: `balanced`, or `spam=3,ham=1`; by default 1."""
    weight: str = ""
    """Column or field of a table with what each pair counts in the loss, a number of at least 0; by default 1."""
    mix: str = ""
    """Further corpora, each with how often its pairs are seen in an epoch beside those of `paths`, which are seen once:
    `small.tsv*3; crawl.en,crawl.de*0.25`."""
    temperature: float = 1.0
    """Of a mixture: shares of an epoch are (pairs times weight) ** (1 / temperature); above 1 they are more even."""
    languages: tuple[str, ...] = ()
    """Source and target language; by default read from the file names."""
    data_dir: str = ""
    """Folder that holds the problem's raw files (train.en, train.de, ...), read instead of a download."""
    cache_dir: str = ""
    """Folder for prepared token stores; by default the user's cache folder."""
    vocab_size: int = 0
    """Tokenizer pieces; 0: the problem's own, or a size proposed from the corpus."""
    tokenizer: str = ""
    """unigram, bpe, characters or bytes, or the folder of a pretrained one; by default the problem's own. With `--from`
    the pretrained model's, unless such a kind is named, or `new`: then its rows are put in order for new pieces."""
    subword_sampling: float = 0.0
    """Words are cut into other pieces in every epoch, by this alpha of a unigram tokenizer (such as 0.2; the smaller,
    the more even the chances), or with this share of a bpe tokenizer's merges left out (such as 0.1); 0: never."""
    encoding: str = "utf-8"
    """Text encoding of own files."""
    reverse: bool = False
    """Swap source and target."""


class OptimConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The optimizer, its rate over time, and the loss."""

    name: str = "adamw"
    """adamw, muon, adafactor or sgd."""
    lr: float = 1e-3
    """Constant factor of the learning rate (its peak, for the default schedule)."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Decay of the first and second moment."""
    eps: float = 1e-9
    """Added to the root of the second moment."""
    momentum: float = 0.0
    """Of sgd, of muon's hidden matrices (0.95 is usual) and of adafactor's updates; 0: none."""
    rounds: int = 5
    """Newton-Schulz rounds of muon; 3 cost less and serve as well in short trainings."""
    nesterov: bool = False
    """Nesterov's form of sgd's momentum."""
    relative: bool = True
    """Adafactor's steps are relative to the root mean square of each parameter."""
    ema: float = 0.0
    """Decay of a moving average of the weights, which is then what is evaluated and saved; 0: none."""
    freeze: tuple[str, ...] = ()
    """Patterns of names of parameters that are not trained (`encoder.*`)."""
    layer_decay: float = 1.0
    """What the rate of each layer is multiplied by, once more for each layer below the head (ULMFiT; 0.8)."""
    lora_rank: int = 0
    """Above 0 only low-rank adapters of this rank are trained, and the head (Hu et al. 2022)."""
    lora_alpha: float = 0.0
    """The adapters count alpha / rank times; 0: twice."""
    lora_targets: tuple[str, ...] = ("*_proj",)
    """Patterns of the layers that get adapters."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    clip_norm: float = 1.0
    """Largest global gradient norm; 0 switches clipping off."""
    schedule: str = "constant*linear_warmup*cosine_decay"
    """Product of named factors; the *_decay factors end where the run ends, in steps or in time."""
    warmup: int = 200
    """Steps of linear warm-up."""
    smoothing: float = 0.1
    """Label smoothing."""
    consistency: float = 0.0
    """R-Drop (Wu et al. 2021): every batch goes through the model twice, with other dropout, and what the two say is to
    agree; their alpha (1 to 5); 0: once."""


class BatchConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The shape of batches."""

    kind: Literal["buckets", "packing", "padding", "windows"] = "buckets"
    """buckets: pairs of like length padded together; packing: pairs one after another in rows of fixed length, hardly
    any padding; padding: pairs in random order padded to the longest, to compare with; windows: of `max_length` tokens
    over the whole text of a language model."""
    tokens: int | Literal["auto"] = 2048
    """Tokens a batch and side, padding included; auto: the smallest batch that is about as fast as any, measured."""
    max_length: int = 128
    """Longest sentence in tokens; longer pairs are left out of training and counted."""
    shapes: int = 12
    """Most batch shapes, hence compiled training programs, a run may have."""
    accumulate: int = 1
    """Micro-batches that a batch is cut into; their gradients are added up for one update, which takes less memory."""

    @property
    def size(self) -> int:
        """`tokens` as a number. Raises UsageError while it is "auto"."""
        if isinstance(self.tokens, str):
            raise UsageError("batch.tokens auto: must be measured before batches are planned")
        return self.tokens


class DecodeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Decoding for development scores, and the defaults saved with the model."""

    beam: int = 4
    """Beam width saved with the model; 1 is greedy."""
    alpha: float = 0.6
    """Exponent of the length penalty."""
    penalty: Literal["gnmt", "power"] = "gnmt"
    """The length penalty: gnmt, ((5 + n) / 6) ** alpha, or power, n ** alpha."""
    dev_beam: int = 1
    """Beam width for development BLEU during training."""
    dev_sentences: int = 500
    """Development sentences translated for dev BLEU; 0: all, -1: none (then the loss picks the best)."""


class RunConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One training run.

    The groups `data`, `optim`, `batch` and `decode` have settings of their own.
    """

    problem: str = ""
    """Name of a problem (`seqlib list problems`); not needed with own files."""
    model: str = ""
    """Name of a model (`seqlib list models`), or `file.py:name` for your own; by default one that suits the problem."""
    hparams_set: str = ""
    """Name of a preset (`seqlib list hparams_sets`); by default proposed from the corpus."""
    hparams: dict[str, int | float | bool | str | list[int | float | bool] | None] = {}
    """Fields of the model's configuration that differ from the preset (`--hparams d_model=128,dropout=0.2`). In the
    configuration of a run all of them are here."""
    pretrained: str = ""
    """Handle of a pretrained model to start from; it says model, sizes and tokenizer."""
    output_dir: str = ""
    """The run folder."""
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    batch: BatchConfig = BatchConfig()
    decode: DecodeConfig = DecodeConfig()
    train_steps: int = 0
    """Steps to train; 0: as long as time_limit, or some epochs, by the size of the corpus, when neither is given."""
    time_limit: str = ""
    """Wall time to train, `90s`, `30m`, `2h`, `1h30m`; the schedule fits it."""
    eval_every: int | str = 1000
    """Steps (`1000`) or time (`5m`) between evaluations on dev; 0: only at the end."""
    save_every: int | str = 1000
    """Steps (`1000`) or time (`10m`) between checkpoints; 0: only at the end."""
    log_every: int = 50
    """Steps between log lines."""
    callbacks: tuple[str, ...] = ()
    """What else happens during the run: `name` or `name:setting=value`; your own by `file.py:Name` or `module:Name`."""
    keep_last: int = 5
    """Checkpoints kept, besides the best."""
    average: int = 5
    """Checkpoints averaged for the saved model, if that scores better on dev than the best one; 0 or 1: none."""
    baselines: bool = True
    """Train cheap models beside it, where the task has any, and print their scores beside the model's."""
    report: bool = True
    """Write REPORT.html when the run ends; some dev sentences are translated for it."""
    memory_limit: str = ""
    """Most memory the run may take, `8GB`; one that is forecast to take more is refused. By default what is free."""
    seed: int = 1
    """Seed of initial weights, dropout and data order."""
    precision: str = "auto"
    """Arithmetic: fp32; bf16 or fp16, with weights and sums in fp32; auto: bf16 on a GPU that has it, else fp32."""
    device: str = "auto"
    """cpu or cuda; auto: the GPU where there is one."""


_DATA_ALIASES = (
    "data_dir text label label_kind class_weights weight mix dev_size test_size columns languages subword_sampling "
    "encoding cache_dir tokenizer vocab_size"
).split()
ALIASES: dict[str, str] = {
    **{name: f"data.{name}" for name in _DATA_ALIASES},
    "data": "data.paths",
    "dev": "data.dev_paths",
    "test": "data.test_paths",
    "lr": "optim.lr",
    "learning_rate": "optim.lr",
    "optimizer": "optim.name",
    "freeze": "optim.freeze",
    "lora": "optim.lora_rank",
    "layer_decay": "optim.layer_decay",
    "from": "pretrained",
    "batch": "batch.tokens",
    "batch_size": "batch.tokens",
    "local_eval_frequency": "eval_every",
    "keep_checkpoint_max": "keep_last",
    "random_seed": "seed",
    "decode_beam_size": "decode.beam",
    "decode_alpha": "decode.alpha",
}
"""Short flags and T2T's names, and the path each one stands for (flags equal to a path need no entry)."""

RESUMABLE = frozenset(
    "train_steps time_limit eval_every save_every log_every keep_last average callbacks baselines report memory_limit "
    "decode output_dir".split()
)
"""Fields that a resume may change. Of these only the end of the run (train_steps, time_limit) and callbacks touch what
a step computes, through the learning rate."""

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str) -> float:
    """Seconds in `90s`, `30m`, `2h`, `1h30m` or a bare number of seconds; `UsageError` otherwise."""
    cleaned = text.strip().lower().replace(" ", "")
    if re.fullmatch(r"\d+(\.\d+)?", cleaned):
        seconds = float(cleaned)
    elif re.fullmatch(r"(\d+(\.\d+)?[smhd])+", cleaned):
        parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", cleaned)
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    else:
        raise UsageError(f"time limit {text!r} is not a duration; expected 90s, 30m, 2h or 1h30m")
    if seconds <= 0:
        raise UsageError(f"time limit {text!r} must be longer than 0 seconds")
    return seconds


def parse_interval(value: int | str, name: str) -> tuple[int, float]:
    """(steps, seconds) of an interval given as steps (`1000`) or as time (`5m`); the other one is 0."""
    text = str(value).strip()
    if re.fullmatch(r"\d+", text):
        return int(text), 0.0
    try:
        return 0, parse_duration(text)
    except UsageError:
        raise UsageError(f"{name} {value!r} is neither a number of steps nor a duration such as 5m") from None


def paths(kind: Any = RunConfig, prefix: str = "") -> list[str]:
    """Every path of the tree that takes a value, in order: `problem`, ..., `optim.lr`, ..."""
    found: list[str] = []
    for field in msgspec.structs.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            found += paths(field.type, f"{prefix}{field.name}.")
        else:
            found.append(prefix + field.name)
    return found


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested dictionaries, later ones winning; lists and scalars are replaced as a whole."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            below = merged.get(key)
            if isinstance(below, Mapping) and isinstance(value, Mapping):
                merged[key] = merge(below, value)
            else:
                merged[key] = value
    return merged


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """`{"optim.lr": 1}` as `{"optim": {"lr": 1}}`."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, leaf = path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree


def _refuse_unknown(kind: Any, layer: Mapping[str, Any], prefix: str = "") -> None:
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in layer.items():
        path = prefix + key
        if key not in fields:
            raise UsageError(f"there is no setting {path!r}{hint(path, paths())}")
        type_ = fields[key]
        if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
            if not isinstance(value, Mapping):
                raise UsageError(f"setting {path!r} is a group, not a value; its members: {', '.join(paths(type_))}")
            _refuse_unknown(type_, value, path + ".")


def build(*layers: Mapping[str, Any]) -> RunConfig:
    """A `RunConfig` from nested dictionaries of values, later ones winning.

    Raises `UsageError` for unknown names (with the nearest ones) and for values of the wrong kind.
    """
    for layer in layers:
        _refuse_unknown(RunConfig, layer)
    try:
        config = msgspec.convert(merge(*layers), RunConfig)
    except msgspec.ValidationError as error:
        raise UsageError(f"setting {_where(str(error))}") from error
    check(config)
    return config


def _where(message: str) -> str:
    """msgspec's "Expected `int`, got `str` - at `$.optim.lr`", with the path first."""
    text, _, path = message.partition(" - at `$.")
    return f"{path.rstrip('`')!r}: {text[:1].lower()}{text[1:]}" if path else text


_LEAST = {
    -1: "decode.dev_sentences",
    0: "train_steps average data.vocab_size optim.warmup optim.lr optim.clip_norm optim.consistency",
    1: "log_every keep_last batch.tokens batch.shapes batch.accumulate decode.beam decode.dev_beam",
    2: "batch.max_length",
}
"""Settings by the least that they may be."""


def check(config: RunConfig) -> None:
    """Refuse values outside their range (`UsageError`), before any work is done."""
    from seqlib.nn.precision import PRECISIONS  # here: `--help` should not wait for the core

    if config.time_limit:
        parse_duration(config.time_limit)
    if config.memory_limit:
        parse_size(config.memory_limit)
    if config.precision not in PRECISIONS:
        raise unknown("precision", config.precision, PRECISIONS)
    if config.device not in (devices := ("auto", "cpu", "cuda")):
        raise unknown("device", config.device, devices)
    if config.optim.name not in (names := ("adamw", "muon", "adafactor", "sgd")):
        raise unknown("optimizer", config.optim.name, names)
    if config.data.tokenizer not in ("", *KINDS) and not Path(config.data.tokenizer).is_dir():
        raise unknown("tokenizer", config.data.tokenizer, KINDS)
    if not 0 <= config.optim.smoothing < 1:
        raise UsageError(f"optim.smoothing {config.optim.smoothing} must be at least 0 and below 1")
    parse_interval(config.eval_every, "eval_every")
    parse_interval(config.save_every, "save_every")
    for bound, names in _LEAST.items():
        for name in names.split():
            value = attrgetter(name)(config)
            if value != "auto" and value < bound:
                raise UsageError(f"{name} {value} must be at least {bound}")
    if not 0 <= config.seed < 2**64:
        raise UsageError(f"seed {config.seed} must be at least 0 and below 2**64")
    for group in ("data", "optim", "batch", "decode"):
        for name, value in msgspec.structs.asdict(getattr(config, group)).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise UsageError(f"{group}.{name} {value} must be a finite number")


def to_json(config: RunConfig) -> bytes:
    """The configuration as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(config), indent=2)


def read(path: Path) -> RunConfig:
    """Read a saved configuration; `UsageError` names the file when it is missing, damaged or from another version."""
    try:
        return build(msgspec.json.decode(path.read_bytes(), type=dict[str, Any]))
    except OSError as error:
        raise UsageError(f"{path}: no run can be read here ({error.strerror})") from error
    except (msgspec.DecodeError, UnicodeDecodeError, UsageError) as error:
        raise UsageError(
            f"{path}: not a run configuration of this version ({error}); "
            "bring back the file as it was, or use the seqlib that wrote it"
        ) from error


def digest(config: RunConfig) -> str:
    """sha256 over the fields that decide what a step computes; two runs that share it may resume one another."""
    tree = msgspec.to_builtins(config)
    kept = {key: value for key, value in tree.items() if key not in RESUMABLE}
    return hashlib.sha256(msgspec.json.encode(kept, order="deterministic")).hexdigest()


def same_run(saved: RunConfig, asked: RunConfig) -> list[str]:
    """Fields in which a resume asks for something that the saved run cannot change, as lines of text."""
    found: list[str] = []
    for path in paths():
        if path.partition(".")[0] not in RESUMABLE:
            value = attrgetter(path)
            old, new = value(saved), value(asked)
            if old != new:
                found.append(f"{path}: {old!r} in the run, {new!r} asked")
    return found
