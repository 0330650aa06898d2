"""Faults of disks and folders."""

import ctypes
import os
import resource
import shutil

from seqlib.train import checkpoint
from tests.faults.stage import Stage, case, chapter, remount

chapter("Disks and folders")


@case("A full disk while data are prepared", "Nothing is left of what was written so far.")
def full_disk_preparing(stage: Stage) -> None:
    with stage.disk("small", 16):
        stage.refused("prepare --data corpus.en,corpus.de --cache_dir small/prepared --data.tokenizer characters")


@case(
    "A full disk while a checkpoint is saved",
    "The checkpoints before it stand; when there is space again the run goes on from the last one.",
)
def full_disk_training(stage: Stage) -> None:
    with stage.disk("small", 180) as disk:
        line = "train --config tiny.yaml --data corpus.en,corpus.de --output_dir small/run"
        code, _, said = stage.command(line)
        assert code == 2, said
        stage.record(line, said, "error")
        stage.whole()
        assert checkpoint.newest(disk / "run" / "checkpoints").step == 4
        remount(disk, "size=4m")
        stage.accepted("train --resume small/run", show="resumed|model is in")


@case("A full disk while the finished model is written", "The checkpoints are there: with space the run is finished.")
def full_disk_exporting(stage: Stage) -> None:
    saved = sum(path.stat().st_size for path in (stage.folder / "run/checkpoints/step-12").iterdir())
    with stage.disk("small", saved // 1024 + 36) as disk:
        line = "train --config tiny.yaml --data corpus.en,corpus.de --output_dir small/run --save_every 0"
        code, _, said = stage.command(line)
        assert code == 2, said
        stage.record(line, said, "error")
        stage.whole()
        assert not (disk / "run" / "model").exists()
        remount(disk, "size=4m")
        stage.accepted("train --resume small/run", show="resumed|model is in")


@case("A full disk behind the translations", "What a command writes to a file, and what is redirected into one.")
def full_disk_translating(stage: Stage) -> None:
    with stage.disk("small", 4):
        stage.write("small/filler", bytes(4096))
        stage.refused("evaluate run --split dev --translations small/out.de")
    if os.path.exists("/dev/full"):
        stage.alone("translate run", "corpus.en", "/dev/full")


@case("A limit on the size of files", "As a shell's `ulimit -f` sets it, in the middle of the first checkpoint.")
def file_size_limit(stage: Stage) -> None:
    line = "train --config tiny.yaml --data corpus.en,corpus.de --output_dir other"
    stage.alone(line, os.devnull, os.devnull, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (32_768, 32_768)))
    assert not checkpoint.steps(stage.folder / "other" / "checkpoints")


@case("A read-only file system", "Every command that writes says what it could not write.")
def read_only(stage: Stage) -> None:
    with stage.disk("frozen", 4096) as disk:
        shutil.copytree(stage.folder / "run", disk / "run")
        remount(disk, "ro")
        for line in writes("frozen"):
            stage.refused(line)
        code, out, said = stage.command("translate frozen/run", b"one two\n")
        assert code == 0 and out.count("\n") == 1, said


@case("A folder without permission", "The same for a folder that may be read only.")
def no_permission(stage: Stage) -> None:
    place = stage.folder / "theirs"
    shutil.copytree(stage.folder / "run", place / "run")
    for folder in (place, place / "run"):
        folder.chmod(0o555)
    before = stage.files()
    for line in writes("theirs"):
        stage.alone(line, os.devnull, os.devnull, _obey_permissions)
    assert stage.files() == before
    for folder in (place, place / "run"):
        folder.chmod(0o755)


def writes(folder: str) -> list[str]:
    """Commands that want to write into the folder."""
    return [
        f"prepare --data corpus.en,corpus.de --cache_dir {folder}/prepared",
        f"train --config tiny.yaml --data corpus.en,corpus.de --output_dir {folder}/new",
        f"train --resume {folder}/run --train_steps 20",
        f"evaluate run --split dev --translations {folder}/out.de",
    ]


def _obey_permissions() -> None:
    """Root's programs lose the right to ignore them (linux/prctl.h, linux/capability.h)."""
    if os.getuid() == 0:
        cap_dac_override, pr_capbset_drop = 1, 24
        ctypes.CDLL(None).prctl(pr_capbset_drop, cap_dac_override, 0, 0, 0)
