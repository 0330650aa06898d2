import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqlib.train import checkpoint
from seqlib.util import manifest
from seqlib.util.errors import DataError, SeqlibError

WEIGHTS = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones((), np.float32)}
SLOTS = {"m.b": np.zeros((2, 3), np.float32)}


def _save(folder: Path, step: int, **state: Any) -> Path:
    return checkpoint.save(folder, step, WEIGHTS, SLOTS, {"step": step, **state})


def test_read_back_as_saved(tmp_path: Path) -> None:
    found = checkpoint.load(_save(tmp_path, 3, generator=[1, -(2**60)]))
    assert found.step == 3
    assert found.state["generator"] == [1, -(2**60)]
    for name, array in WEIGHTS.items():
        assert np.array_equal(found.model[name], array) and found.model[name].dtype == array.dtype
    assert list(found.optimizer) == ["m.b"]


@pytest.mark.parametrize("name", [*checkpoint.FILES, "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "missing"])
def test_damage_is_found_and_the_one_before_is_used(
    tmp_path: Path, name: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _save(tmp_path, 10)
    file = _save(tmp_path, 20) / name
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 0x5A
        file.write_bytes(content)
    with pytest.raises(DataError, match="manifest" if name == "manifest.json" else name):
        checkpoint.load(tmp_path / "step-20")
    assert checkpoint.newest(tmp_path).step == 10
    said = capsys.readouterr().err
    assert "step-20 cannot be used" in said and "using step-10" in said


def test_when_all_are_damaged_the_error_says_so(tmp_path: Path) -> None:
    (_save(tmp_path, 1) / "state.json").unlink()
    with pytest.raises(DataError, match=r"(?s)no checkpoint can be used; bring back.*state\.json"):
        checkpoint.newest(tmp_path)
    with pytest.raises(DataError, match="the folder holds none"):
        checkpoint.newest(tmp_path / "absent")


def test_the_last_and_the_best_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15, 20, 25):
        _save(tmp_path, step)
    checkpoint.prune(tmp_path, keep_last=2, keep={10})
    assert checkpoint.steps(tmp_path) == [10, 20, 25]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["step-10", "step-20", "step-25"]


def test_what_a_kill_left_is_no_checkpoint_and_is_cleaned(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    (tmp_path / ".step-2.host-1-x.tmp").mkdir()
    (tmp_path / ".deleted-step-0").mkdir()
    assert checkpoint.steps(tmp_path) == [1]
    checkpoint.clean(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-1"]


@pytest.mark.parametrize("moment", [1, 2])
@pytest.mark.parametrize("function", ["checkpoint.write_arrays", "manifest.file_digest"])
def test_a_full_disk_leaves_the_previous_checkpoint(
    tmp_path: Path, function: str, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing fails at the n-th weights file, or later, at the n-th file of the manifest."""
    _save(tmp_path, 1)
    module = checkpoint if function.startswith("checkpoint") else manifest
    function = function.split(".")[1]
    real, calls = getattr(module, function), 0

    def full(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == moment:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args)

    monkeypatch.setattr(module, function, full)
    with pytest.raises(SeqlibError, match=r"no space left to write .*step-2: [\d,]+ bytes free"):
        _save(tmp_path, 2)
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-1"]
    assert checkpoint.newest(tmp_path).step == 1


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    large = {"w": np.zeros(100_000, np.float32)}
    checkpoint.save(small_disk, 1, large, SLOTS, {"step": 1})
    checkpoint.save(small_disk, 2, large, SLOTS, {"step": 2})
    with pytest.raises(SeqlibError, match="no space left"):
        checkpoint.save(small_disk, 3, large, SLOTS, {"step": 3})
    assert checkpoint.newest(small_disk).step == 2
    assert checkpoint.steps(small_disk) == [1, 2]


def test_the_mean_of_checkpoints_and_moving_averages(tmp_path: Path) -> None:
    """Summed in float64, in the order given; where the optimizer kept a moving average of a tensor, that is taken."""
    draw = np.random.default_rng(0)
    models = [{"w": draw.normal(size=(4, 5)).astype(np.float32), "frozen": np.ones(3, np.float32)} for _ in range(3)]
    paths = [
        checkpoint.save(tmp_path / "plain", step, model, SLOTS, {"step": step}) for step, model in enumerate(models)
    ]
    found = checkpoint.average(paths)
    total = models[0]["w"].astype(np.float64) + models[1]["w"] + models[2]["w"]
    assert np.array_equal(found["w"], (total / 3).astype(np.float32)) and found["w"].dtype == np.float32
    assert np.array_equal(found["frozen"], np.ones(3)) and found.keys() == models[0].keys()
    assert np.array_equal(checkpoint.load_weights(paths[1])["w"], models[1]["w"])
    average = {"ema.w": np.full((4, 5), 7, np.float32)}
    kept = checkpoint.save(tmp_path / "ema", 1, models[0], average, {"step": 1})
    weights = checkpoint.load_weights(kept)
    assert (weights["w"] == 7).all() and (weights["frozen"] == 1).all()
    (paths[2] / "model.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match="is damaged"):
        checkpoint.average(paths)
