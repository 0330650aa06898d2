"""Faults of what seqlib itself saved: checkpoints, run folders, saved models, prepared data."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from seqlib import bundle
from seqlib.train import checkpoint
from seqlib.util.errors import BundleError, DataError
from tests.faults.stage import Stage, case, chapter

FLIPS = 100

chapter("Checkpoints and run folders")


def flip(path: Path, draw: random.Random) -> None:
    """Turns one bit of a file."""
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def flipped(folder: Path, names: list[str], seed: int) -> Iterator[tuple[Path, bool]]:
    """`FLIPS` times: (the file that has a bit turned, chosen by size as a disk would); then it is mended."""
    draw = random.Random(seed)
    files = [folder / name for name in names]
    # Every file takes its share, and the small ones at least a fifth of the turns between them.
    weights = [max(path.stat().st_size, 1) ** 0.5 for path in files]
    for path in draw.choices(files, weights, k=FLIPS):
        good = path.read_bytes()
        flip(path, draw)
        yield path, path.read_bytes() != good
        path.write_bytes(good)


@case(
    "A damaged checkpoint",
    "The one before it is used. A bit was turned at 100 random places of a checkpoint's files: each time it was "
    "found, and the file named.",
)
def damaged_checkpoint(stage: Stage) -> None:
    folder = stage.folder / "run" / "checkpoints" / "step-12"
    for path, changed in flipped(folder, [*checkpoint.FILES, "manifest.json"], seed=1):
        assert changed
        with pytest.raises(DataError) as caught:
            checkpoint.load(folder)
        # A turned bit of the manifest may show as a file that does not have the size or digest it says.
        assert str(path if path.name != "manifest.json" else folder) in str(caught.value)
    flip(folder / "model.safetensors", random.Random(0))
    stage.accepted("train --resume run --train_steps 16", show="step-|resumed")


@case("All checkpoints are damaged", "Cut short, missing, changed; there is nothing to go on from.")
def all_checkpoints_damaged(stage: Stage) -> None:
    folder = stage.folder / "run" / "checkpoints"
    optimizer = folder / "step-4" / "optimizer.safetensors"
    optimizer.write_bytes(optimizer.read_bytes()[:1000])
    (folder / "step-8" / "state.json").unlink()
    flip(folder / "step-12" / "model.safetensors", random.Random(0))
    stage.refused("train --resume run --train_steps 16", show="error|^  ")


@case("A checkpoint of an older format version", "Checkpoints of the first version had no number in their manifest.")
def older_checkpoint(stage: Stage) -> None:
    for path in (stage.folder / "run" / "checkpoints").glob("*/manifest.json"):
        path.write_text(json.dumps(json.loads(path.read_text())["files"]))
    stage.refused("train --resume run --train_steps 16", show="error|^  ")


@case("A damaged configuration of a run", "`run.json` cut short, from another version, or with another value in it.")
def damaged_configuration(stage: Stage) -> None:
    path = stage.folder / "run" / "run.json"
    good = path.read_text()
    for content in (good[:300], good.replace('"warmup"', '"warm_up"')):
        assert content != good
        path.write_text(content)
        stage.refused("train --resume run --train_steps 16")
    path.write_text(good.replace('"seed": 1', '"seed": 3'))
    stage.refused_after_preparing("train --resume run --train_steps 16")


@case("A damaged log", "`log.jsonl` decides nothing: what cannot be read is left out, the rest kept.")
def damaged_log(stage: Stage) -> None:
    path = stage.folder / "run" / "log.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"\xff\0" + b"".join(lines)[5:] + b'{"kind": "tr')
    stage.accepted("train --resume run --train_steps 16", show="resumed|model is in")
    assert all(json.loads(line) for line in path.read_text().splitlines())


@case("Another corpus under the same name", "A run goes on with the data it began with, or not at all.")
def changed_corpus(stage: Stage) -> None:
    lines = stage.lines("corpus.en")
    stage.write("corpus.en", b"".join([*lines[1:], lines[0]]))
    stage.refused_after_preparing("train --resume run --train_steps 16")


chapter("Saved models")


@case("A damaged saved model", "A bit was turned at 100 random places of its files: each time the file was named.")
def damaged_bundle(stage: Stage) -> None:
    folder = stage.folder / "run" / "model"
    names = [path.name for path in folder.iterdir() if path.name != "README.md"]
    for path, changed in flipped(folder, sorted(names), seed=2):
        assert changed
        try:
            bundle.read(folder)
        except BundleError as error:
            assert str(path) in str(error)
        else:
            # White space between the members of seqlib.json has no meaning; everything else is under a digest.
            assert path.name == "seqlib.json"
    flip(folder / "model.safetensors", random.Random(0))
    stage.refused("translate run", b"one\n")
    (folder / "tokenizer.json").unlink(missing_ok=True)
    shutil.copy(folder / "config.json", folder / "kept")
    (folder / "config.json").unlink()
    stage.refused("evaluate run")
    stage.accepted("train --resume run", show="model is in")
    assert stage.command("translate run", b"one\n")[0] == 0


@case("A saved model of another format version", "An older one, and one that a later seqlib wrote.")
def other_bundle(stage: Stage) -> None:
    path = stage.folder / "run" / "model" / "seqlib.json"
    good = json.loads(path.read_text())
    for version in (1, 99):
        path.write_text(json.dumps(good | {"format_version": version}))
        stage.refused("translate run", b"one\n")


@case("A folder without a model", "A run that has not ended, a wrong folder, one that is not there.")
def no_bundle(stage: Stage) -> None:
    shutil.rmtree(stage.folder / "run" / "model")
    for name in ("run", "prepared", "runn"):
        stage.refused(f"translate {name}", b"one\n")


chapter("Prepared data")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def turned(path: Path) -> None:
    flip(path, random.Random(3))


@case(
    "Damaged prepared data", "Whatever was changed, cut short or lost: they are prepared again, and the file is named."
)
def damaged_prepared(stage: Stage) -> None:
    (folder,) = (path for path in (stage.folder / "prepared").iterdir() if path.is_dir())
    before = stage.files()
    damage: list[tuple[str, Callable[[Path], None]]] = [
        ("train/tokens.bin", turned),
        ("train/offsets.bin", cut),
        ("tokenizer/seqlib_tokenizer.json", Path.unlink),
    ]
    for name, change in damage:
        change(folder / name)
        line = "prepare --data corpus.en,corpus.de --cache_dir prepared --data.tokenizer characters"
        stage.accepted(line + " --vocab_size 300 --dev_size 24 --test_size 24", show=r"damaged|missing|again")
        same = {path for path, content in stage.files().items() if content == before.get(path)}
        assert before.keys() - same <= {
            f"{folder.relative_to(stage.folder)}/{n}" for n in ("report.json", "manifest.json")
        }
