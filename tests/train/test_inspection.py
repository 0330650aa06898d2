"""`inspect`: the pages of runs, checkpoints, saved models and prepared data, and damaged ones."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from seqlib.cli.main import main
from seqlib.train import checkpoint, run
from seqlib.train.inspection import inspect
from seqlib.train.setup import make_config
from seqlib.util.errors import BundleError, DataError, UsageError
from seqlib.util.table import sparkline, text_table
from tests.train.conftest import Stop


@pytest.fixture
def settings(settings: dict[str, Any]) -> dict[str, Any]:
    return settings | {"eval_every": 6, "save_every": 4, "optim": {**settings["optim"], "smoothing": 0.2}}


@pytest.fixture
def finished(settings: dict[str, Any], tmp_path: Path) -> Path:
    run.train(make_config(settings))
    return tmp_path / "run"


def _command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["inspect", *words])
    found = capsys.readouterr()
    return code, found.out, found.err


def test_a_finished_run(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = _command(capsys, str(finished), "--all")
    assert code == 0 and not err
    code, as_json, _ = _command(capsys, str(finished), "--json")
    found = json.loads(as_json)
    assert found["kind"] == "a run" and found["damaged"] == []
    assert found["state"]["run"] == "finished" and found["state"]["step"] == "12 of 12 (100.0 %)"
    assert found["settings"]["optim.smoothing"] == 0.2 and found["settings"]["hparams.d_model"] == 16
    assert "log_every" in found["settings"] and "optim.betas" not in found["settings"]  # the preset's
    assert "output_dir" not in found["settings"] and "hparams.positions" not in found["settings"]
    assert found["curves"]["train loss"]["values"] == 3 and "train loss" in out
    assert found["vocabulary"]["kind"] == "characters"
    assert found["checkpoints"].keys() == {f"step {step}" for step in checkpoint.steps(finished / "checkpoints")}
    assert all("digests agree" in line for line in found["checkpoints"].values())
    assert "as it is here" in out and f"seqlib translate {finished}" in out and "--train_steps MORE" in out

    arrays = load_file(finished / "model" / "model.safetensors")
    rows = {row["name"]: row for row in found["weights"]}
    assert rows.keys() == arrays.keys() and all(name in out for name in arrays)
    for name, array in arrays.items():
        row = rows[name]
        assert row["shape"] == list(array.shape) and row["dtype"] == "f32" and row["non_finite"] == 0
        assert row["norm"] == pytest.approx(np.linalg.norm(array.astype(np.float64)))
        assert (row["min"], row["max"]) == (array.min(), array.max())


def test_a_run_that_was_stopped_and_one_of_its_checkpoints(settings: dict[str, Any], tmp_path: Path) -> None:
    run.train(make_config(settings), [Stop(7)])
    page = inspect(tmp_path / "run")
    assert page.record["state"]["run"] == "has not ended" and page.record["state"]["step"] == "7 of 12 (58.3 %)"
    assert page.record["state"]["best"].startswith("step 6: dev loss")
    assert page.record["next"][0] == f"seqlib train --resume {tmp_path / 'run'}"
    assert page.record["vocabulary"]["kind"] == "characters" and page.record["weights"]
    at = inspect(tmp_path / "run" / "checkpoints" / "step-7")
    assert at.record["kind"] == "a checkpoint" and at.record["position"]["step"] == 7
    assert at.record["position"]["callbacks"] == ["Stop"] and at.record["weights"] == page.record["weights"]
    text = at.text()
    assert "... " in text and "more (--all shows them)" in text and f"seqlib inspect {tmp_path / 'run'}" in text


def test_a_saved_model(finished: Path) -> None:
    page = inspect(finished / "model")
    found = page.record
    assert found["kind"] == "a saved model" and found["problem"]["languages"] == "en → de"
    assert found["model"]["d_model"] == 16 and "max_length" not in found["model"]
    assert found["training"]["steps"] == 12 and found["dev_scores"]["loss"] > 0
    assert found["files"]["digests"] == "agree" and "seqlib summary" in page.text()


def test_prepared_data(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = json.loads((finished / "checkpoints" / "step-12" / "state.json").read_text())
    code, out, _ = _command(capsys, state["data_folder"])
    found = inspect(state["data_folder"]).record
    assert code == 0 and found["kind"] == "prepared data" and found["cleaning"]["kept"] == 900
    pairs = found["splits"]["train"]["pairs"]
    assert sum(found["lengths"]["source"]) == sum(found["lengths"]["target"]) == pairs
    assert len(found["examples"]) == 4 and all(set(one["source"].split()) for one in found["examples"])
    assert "900 pairs read, 900 kept" in out and "█" in out and found["examples"][0]["target"] in out


def test_damaged_parts_are_named_and_the_rest_is_shown(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = finished / "checkpoints" / "step-12" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)
    (finished / "model" / "config.json").unlink()
    code, out, err = _command(capsys, str(finished))
    assert code == 2 and "step 8 " in out and "step 12  damaged" in out and "its model is damaged" in out
    assert f"{weights}: is damaged" in err and "config.json: is missing" in err
    with pytest.raises(DataError, match=r"model\.safetensors: is damaged"):
        inspect(weights.parent)
    assert inspect(weights.parent, quick=True).record["files"]["digests"] == "not verified (--quick)"
    weights.write_bytes(b"\0" * 20)
    with pytest.raises(DataError, match=r"model\.safetensors: cannot be read"):
        inspect(weights.parent, quick=True)
    (weights.parent / "state.json").write_text("{")
    with pytest.raises(DataError, match=r"state\.json: is damaged"):
        inspect(weights.parent, quick=True)
    with pytest.raises(BundleError, match=r"config\.json: is missing"):
        inspect(finished / "model", quick=True)


def test_weights_that_are_not_finite_are_counted(finished: Path) -> None:
    path = finished / "checkpoints" / "step-12" / "model.safetensors"
    arrays = load_file(path)
    name = next(iter(arrays))
    arrays[name].flat[:3] = (np.nan, np.inf, 7.0)
    save_file(arrays, path)
    (path.parent / "manifest.json").unlink()
    checkpoint.write_manifest(path.parent, checkpoint.FORMAT_VERSION)
    page = inspect(path.parent)
    row = next(row for row in page.record["weights"] if row["name"] == name)
    assert row["non_finite"] == 2 and row["max"] == 7.0
    assert "2 NOT FINITE" in page.text()


def test_no_code_of_a_folder_is_run(finished: Path, tmp_path: Path) -> None:
    """A run that names code of somebody's own is shown without running it."""
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    config = json.loads((finished / "run.json").read_text())
    for name in ("problem", "model", "hparams_set"):
        config[name] = f"{evil}:Name"
    (finished / "run.json").write_text(json.dumps(config | {"callbacks": [f"{evil}:Name"]}))
    page = inspect(finished)
    assert page.record["state"]["model"] == f"{evil}:Name" and "--model FILE.py:NAME" in page.text()
    assert not (tmp_path / "ran").exists()


def test_other_folders(tmp_path: Path, finished: Path) -> None:
    with pytest.raises(UsageError, match="there is no such folder"):
        inspect(tmp_path / "none")
    with pytest.raises(UsageError, match="is a file"):
        inspect(finished / "run.json")
    with pytest.raises(UsageError, match=r"nothing that seqlib writes.*run\.json"):
        inspect(finished / "checkpoints")
    shutil.rmtree(finished / "checkpoints")
    shutil.rmtree(finished / "model")
    (finished / "log.jsonl").unlink()
    page = inspect(finished)
    assert page.record["state"]["run"] == "has not begun" and "weights" not in page.record
    (finished / "run.json").write_text("{")
    with pytest.raises(UsageError, match=r"run\.json: not a run configuration"):
        inspect(finished)


def test_tables_and_sparklines() -> None:
    assert text_table(("a", "bb"), [("xyz", "1"), ("", "22")], right=(1,)) == "a    bb\nxyz   1\n     22"
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([1.0, float("nan"), float("inf")]) == "▁" and sparkline([]) == ""
    assert sparkline([0.0] * 50 + [1.0] * 50, width=4) == "▁▁██"
