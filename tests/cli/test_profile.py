"""`seqlib profile` and `--threads`."""

import json

import pytest

from seqlib.cli.main import main
from seqlib.core.backends.threads import threads

SMALL = (
    "--hparams_set",
    "transformer_bulletin",
    "--vocab_size",
    "60",
    "--rows",
    "3",
    "--source_tokens",
    "5",
    "--repeats",
    "1",
)


def test_a_step_by_op(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", *SMALL, "--hparams", "encoder_layers=1,decoder_layers=1"]) == 0
    text = capsys.readouterr().out
    for part in (
        "a step of 3 rows, 5 source tokens",
        "on cpu (float32",
        "GFLOP/s in products",
        "matmul",
        "adamw",
        "all ",
    ):
        assert part in text
    assert main(["profile", *SMALL, "--batch.kind", "packing", "--json", "--shapes"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["shape"]["segments"] == 3 and found["flops_per_second"] > 1e8
    row = next(row for row in found["rows"] if row["name"].startswith("matmul [15, 64] ["))
    assert row["flops"] > 0 and row["seconds"] > 0 and row["launches"] > 0


def test_threads_of_any_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SEQLIB_THREADS", "1")
    assert main(["list", "models", "--threads", "3"]) == 0
    assert threads() == 3
    assert main(["list", "models", "--threads", "0"]) == 2
    assert "--threads" in capsys.readouterr().err
