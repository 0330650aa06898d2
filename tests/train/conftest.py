"""A corpus that a tiny model learns in seconds: English number words to German ones."""

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seqlib.train import checkpoint
from seqlib.train.callback import Callback
from seqlib.train.trainer import Trainer

WORDS = {
    "one": "eins",
    "two": "zwei",
    "three": "drei",
    "four": "vier",
    "five": "fünf",
    "six": "sechs",
    "seven": "sieben",
    "eight": "acht",
    "nine": "neun",
}


def write_corpus(folder: Path, pairs: int = 900) -> tuple[Path, Path]:
    """Two line-aligned files of distinct sequences of two to five number words."""
    draw = random.Random(7)
    lines: dict[str, str] = {}
    while len(lines) < pairs:
        chosen = draw.choices(list(WORDS), k=draw.randint(2, 5))
        lines[" ".join(chosen)] = " ".join(WORDS[word] for word in chosen)
    files = folder / "numbers.en", folder / "numbers.de"
    files[0].write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    files[1].write_text("".join(f"{line}\n" for line in lines.values()), encoding="utf-8")
    return files


# What a configuration of the fixture `settings` is changed by to train something else than a padded Transformer.
KINDS: dict[str, dict[str, Any]] = {
    "transformer": {},
    "packed transformer": {"batch": {"tokens": 512, "max_length": 48, "kind": "packing"}},
    "lstm_seq2seq": {
        "model": "lstm_seq2seq",
        "hparams_set": "lstm_seq2seq_base",
        "hparams": {"layers": 2, "d_model": 16, "hidden": 16, "dropout": 0.1, "input_feeding": True},
    },
}


class Stop(Callback):
    """Asks for a stop after a step, by a flag or by a signal to this process."""

    def __init__(self, step: int, number: int = 0) -> None:
        self.step, self.number = step, number

    def on_train_batch_end(self, trainer: Trainer, step: int) -> None:
        if step == self.step and self.number:
            os.kill(os.getpid(), self.number)
        elif step == self.step:
            trainer.stop_training = True


def same_checkpoint(one: Path, other: Path, step: int) -> None:
    """Two runs' checkpoints of a step hold the same bits."""
    first, second = (checkpoint.load(folder / "checkpoints" / f"step-{step}") for folder in (one, other))
    for a, b in ((first.model, second.model), (first.optimizer, second.optimizer)):
        assert a.keys() == b.keys()
        for name in a:
            assert a[name].tobytes() == b[name].tobytes(), name
    assert first.state["generator"] == second.state["generator"]
    for field in ("epoch", "batch", "target_tokens"):
        assert first.state["position"][field] == second.state["position"][field]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The `data` group of a configuration for the corpus; its prepared form is shared by the tests."""
    folder = tmp_path_factory.mktemp("corpus")
    files = write_corpus(folder)
    return {
        "paths": [str(file) for file in files],
        "cache_dir": str(folder / "cache"),
        "vocab_size": 300,
        "tokenizer": "characters",
        "dev_size": 24,  # too few for a confidence, which most tests need not wait for
    }


@pytest.fixture
def settings(corpus: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """A configuration for a run of seconds; dropout is on, so the random state matters."""
    return {
        "data": corpus,
        "output_dir": str(tmp_path / "run"),
        "hparams_set": "transformer_tiny",
        "hparams": {"encoder_layers": 1, "decoder_layers": 1, "d_model": 16, "d_ff": 32, "heads": 2, "dropout": 0.1},
        "batch": {"tokens": 1024, "max_length": 48, "shapes": 3},
        "optim": {"lr": 0.01, "warmup": 5, "schedule": "constant*linear_warmup*cosine_decay"},
        "train_steps": 12,
        "eval_every": 0,
        "save_every": 0,
        "log_every": 4,
        "average": 0,
        "report": False,
        "decode": {"dev_sentences": -1, "beam": 1},
    }


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB; skips where the tests may not mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no small file system can be mounted here: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)
