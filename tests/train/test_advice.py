"""What is proposed for corpora of several sizes, and the lines that say so."""

import json
from pathlib import Path
from typing import Any

import pytest

from seqlib.train import advice, run
from seqlib.train.advice import default_epochs, propose_preset
from seqlib.train.config import RunConfig, build
from seqlib.train.forecast import forecast
from seqlib.train.setup import make_config


def _config(tmp_path: Path, size: int, suffix: str = ".en", model: str = "transformer") -> RunConfig:
    path = tmp_path / f"text{suffix}"
    with open(path, "wb") as file:
        file.truncate(size)  # no disk is needed for what is only measured
    return build({"data": {"paths": [str(path)]}, "model": model})


@pytest.mark.parametrize(
    ("size", "suffix", "preset"),
    [
        (0, ".en", "transformer_multi30k"),
        (9_999_999, ".en", "transformer_multi30k"),
        (10_000_000, ".en", "transformer_small"),
        (5_000_000, ".en.gz", "transformer_small"),
        (99_999_999, ".en", "transformer_small"),
        (100_000_000, ".en", "transformer_base"),
        (40_000_000, ".zst", "transformer_base"),
    ],
)
def test_the_size_by_the_text(tmp_path: Path, size: int, suffix: str, preset: str) -> None:
    assert propose_preset(_config(tmp_path, size, suffix)) == preset


def test_another_models_own_presets(tmp_path: Path) -> None:
    assert propose_preset(_config(tmp_path, 1000, model="lstm_seq2seq")) == "lstm_seq2seq_multi30k"
    assert propose_preset(_config(tmp_path, 10**9, model="lstm_seq2seq")) == "lstm_seq2seq_base"


def test_little_memory_takes_a_smaller_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = _config(tmp_path, 10**9)
    for free, preset in ((4 * 10**9, "base"), (10**9, "small"), (10**8, "multi30k"), (None, "base")):
        monkeypatch.setattr(advice, "available_bytes", lambda free=free: free)
        assert propose_preset(config) == f"transformer_{preset}"


@pytest.mark.parametrize(
    ("pairs", "epochs"), [(1, 40), (19_999, 40), (20_000, 20), (200_000, 10), (2_000_000, 5), (10**8, 5)]
)
def test_epochs_by_the_pairs(pairs: int, epochs: int) -> None:
    assert default_epochs(pairs) == epochs


def test_a_run_begins_with_two_lines(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del settings["hparams_set"]
    trainer = run.make_trainer(make_config(settings | {"train_steps": 0}), None)
    said = capsys.readouterr().err
    assert "target tokens: transformer_multi30k with " in said and ", the size for " in said
    assert "batches of 1,024 tokens, " in said and "(40.0 epochs), as for 788 pairs; memory " in said
    report = forecast(trainer)
    assert json.loads(json.dumps(report))["advice"][0] in said
