"""A run that is killed loses the steps since its last checkpoint and nothing else, whenever that is."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file

from seqlib.train import checkpoint, run
from seqlib.train.setup import make_config
from tests.train.conftest import KINDS

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGKILL exists on POSIX only")

# Begins or resumes a run. At the given use of the checkpoint folder (files that are opened to be written or synced,
# folders that are made, renamed and removed are events that Python announces) it kills itself, or says so and goes on.
PROGRAM = """
import os, signal, sys
from pathlib import Path
import msgspec
from seqlib.train.run import CONFIG_FILE, resume, train
from seqlib.train.setup import make_config
from tests.train.conftest import KINDS

settings, left, at_once = msgspec.json.decode(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "at once"


def count(event, arguments):
    global left
    if left and event.startswith(("open", "os.", "shutil.")) and "/checkpoints/" in str(arguments[:1]):
        left -= 1
        if not left and at_once:
            os.kill(os.getpid(), signal.SIGKILL)
        elif not left:
            os.write(1, b"now")


sys.addaudithook(count)
folder = Path(settings["output_dir"])
resume(folder) if (folder / CONFIG_FILE).exists() else train(make_config(settings))
"""


def _start(settings: dict[str, Any], at: int = 0, how: str = "") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PROGRAM, msgspec.json.encode(settings).decode(), str(at), how]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent.parent)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)


def _kill(settings: dict[str, Any], draw: random.Random, number: int) -> None:
    """Runs until it is killed: at a random use of the checkpoint folder, at a random moment of the 50 ms after one (a
    step, a write), or, every fifth time, while it starts.
    """
    how = "" if number % 5 == 4 else "at once" if number % 2 else "soon"
    process = _start(settings, draw.randint(1, 60) if how else 0, how)
    assert process.stdout is not None
    if how:
        said = process.stdout.read(3)
        assert said == (b"now" if how == "soon" else b""), "the run ended before it could be killed"
        time.sleep(draw.uniform(0.0, 0.05))
    else:
        time.sleep(draw.uniform(0.0, 1.5))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def _records(folder: Path) -> list[dict[str, Any]]:
    """Every training and evaluation record of the log, without the figures that are times."""
    lines = [msgspec.json.decode(line) for line in (folder / "log.jsonl").read_bytes().splitlines()]
    kept = [line for line in lines if line["kind"] in ("train", "dev")]
    return [{name: value for name, value in line.items() if "second" not in name} for line in kept]


def _weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model" / "model.safetensors")


def _same(one: dict[str, np.ndarray], two: dict[str, np.ndarray]) -> None:
    assert one.keys() == two.keys()
    for name in one:
        assert one[name].tobytes() == two[name].tobytes(), name


def _equal_runs(one: Path, two: Path) -> None:
    """Weights, optimizer slots, random state and position of every kept checkpoint, the log, and the finished model."""
    known = checkpoint.steps(one / "checkpoints")
    assert known and known == checkpoint.steps(two / "checkpoints")
    for step in known:
        mine, theirs = (checkpoint.load(folder / "checkpoints" / f"step-{step}") for folder in (one, two))
        _same(mine.model, theirs.model)
        _same(mine.optimizer, theirs.optimizer)
        for state in (mine.state, theirs.state):
            del state["position"]["seconds"], state["window"]["_seconds"], state["config_digest"]
        assert mine.state == theirs.state
    assert _records(one) == _records(two)
    _same(_weights(one), _weights(two))


def _kill_often(settings: dict[str, Any], tmp_path: Path, kills: int) -> None:
    """Kills a run so many times, lets it end, and compares it with one that nobody killed."""
    settings |= {"train_steps": 25 * kills, "save_every": 4, "eval_every": 10, "log_every": 3, "keep_last": 2}
    settings["decode"] = {"dev_sentences": 8, "beam": 1}
    straight = settings | {"output_dir": str(tmp_path / "straight")}
    run.train(make_config(straight))
    draw, folder = random.Random(kills), Path(settings["output_dir"])
    for number in range(kills):
        _kill(settings, draw, number)
        assert not (folder / "model").exists()
    last = _start(settings)
    last.communicate(timeout=300)
    assert last.returncode == 0
    _equal_runs(folder, Path(straight["output_dir"]))
    left = [entry.name for entry in folder.rglob(".*") if entry.name != ".lock"]
    assert not left, "what the kills left behind is removed"


def test_killed_four_times(settings: dict[str, Any], tmp_path: Path) -> None:
    _kill_often(settings, tmp_path, kills=4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_20_random_points(settings: dict[str, Any], tmp_path: Path, kind: str) -> None:
    _kill_often(settings | KINDS[kind], tmp_path, kills=20)


@pytest.mark.parametrize("seed", range(2))
def test_killed_in_the_middle_of_a_save(settings: dict[str, Any], seed: int) -> None:
    """The newest checkpoint is whole whenever the kill comes, and what was begun is cleared away."""
    settings |= {"train_steps": 100_000, "save_every": 1, "log_every": 1, "keep_last": 2}
    folder = Path(settings["output_dir"])
    process = _start(settings)
    try:
        deadline = time.monotonic() + 60
        while len(checkpoint.steps(folder / "checkpoints")) < 2:
            assert process.poll() is None and time.monotonic() < deadline, "no checkpoints come"
            time.sleep(0.01)
        time.sleep(random.Random(seed).uniform(0.0, 0.3))  # a moment of a step, a write, a rename, a deletion
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    newest = checkpoint.newest(folder / "checkpoints")
    assert newest.step == checkpoint.steps(folder / "checkpoints")[-1], "the newest checkpoint is whole"
    end = newest.step + 3
    result = run.resume(folder, run.resumed_config(folder, {"train_steps": end, "save_every": 0}))
    assert result.position.step == end and result.model is not None
    left = [entry.name for entry in (folder / "checkpoints").iterdir() if entry.name.startswith(".")]
    assert not left, "what the kill left behind is removed"
