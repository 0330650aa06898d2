"""A run that is killed while it saves loses the steps since its last checkpoint and nothing else."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seqlib.train import checkpoint, run
from seqlib.train.setup import make_config

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGKILL exists on POSIX only")

PROGRAM = """
import sys
import msgspec
from seqlib.train.run import train
from seqlib.train.setup import make_config

train(make_config(msgspec.json.decode(sys.argv[1])))
"""


def _start(settings: dict[str, Any]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PROGRAM, msgspec.json.encode(settings).decode()]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent.parent)}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)


@pytest.mark.parametrize("seed", range(4))
def test_killed_while_saving(settings: dict[str, Any], tmp_path: Path, seed: int) -> None:
    settings |= {"train_steps": 100_000, "save_every": 1, "log_every": 1, "keep_last": 2}
    folder = Path(settings["output_dir"])
    process = _start(settings)
    try:
        deadline = time.monotonic() + 60
        while len(checkpoint.steps(folder / "checkpoints")) < 2:
            assert process.poll() is None and time.monotonic() < deadline, (
                "the run did not get to its checkpoints"
            )
            time.sleep(0.01)
        time.sleep(
            random.Random(seed).uniform(0.0, 0.3)
        )  # a moment of a step, of a write, of a rename, of a deletion
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    newest = checkpoint.newest(folder / "checkpoints")
    assert newest.step == checkpoint.steps(folder / "checkpoints")[-1], "the newest checkpoint is whole"
    end = newest.step + 3
    result = run.resume(folder, run.resumed_config(folder, {"train_steps": end, "save_every": 0}))
    assert result.position.step == end and result.model is not None
    left = [entry.name for entry in (folder / "checkpoints").iterdir() if entry.name.startswith(".")]
    assert not left, "what the kill left behind is removed"


def test_killed_and_resumed_is_uninterrupted(settings: dict[str, Any], tmp_path: Path) -> None:
    """The resumed half has the bits of a run that nobody killed."""
    settings |= {"train_steps": 100_000, "save_every": 1}
    folder = Path(settings["output_dir"])
    process = _start(settings)
    try:
        deadline = time.monotonic() + 60
        while not checkpoint.steps(folder / "checkpoints"):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    step = checkpoint.newest(folder / "checkpoints").step + 5

    class Stop(run.Callback):
        def on_train_batch_end(self, trainer: Any, at: int) -> None:
            trainer.stop_training = at == step

    run.resume(folder, callbacks=[Stop()])
    other = tmp_path / "straight"
    run.train(make_config(settings | {"output_dir": str(other)}), [Stop()])
    one, two = (checkpoint.load(place / "checkpoints" / f"step-{step}") for place in (folder, other))
    for name in one.model:
        assert one.model[name].tobytes() == two.model[name].tobytes(), name
    for name in one.optimizer:
        assert one.optimizer[name].tobytes() == two.optimizer[name].tobytes(), name
