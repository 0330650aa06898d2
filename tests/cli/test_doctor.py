"""`seqlib doctor`."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from seqlib.cli.doctor import command
from seqlib.train import doctor


def _findings(result: str) -> dict[str, dict[str, str]]:
    return {finding["name"]: finding for finding in json.loads(result)}


def test_it_tells_versions_and_speeds() -> None:
    result = CliRunner().invoke(command, ["--json"])
    found = _findings(result.output)
    assert {"seqlib", "processor", "BLAS", "numba", "kernel cache", "GPU driver", "free memory"} <= set(found)
    assert float(found["CPU products"]["value"].split()[0]) > 1 and "GB/s" in found["CPU copies"]["value"]
    if doctor.driver_version() is None:
        assert "driver is not installed" in found["GPU driver"]["value"] and not found["GPU driver"]["mend"]


def test_what_is_missing_comes_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", lambda package: "not installed")
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    for number, extra in ((13000, "'.[gpu]'"), (12040, "'.[gpu-cuda12]'")):
        monkeypatch.setattr(doctor, "driver_version", lambda number=number: number)
        found = {finding.name: finding for finding in doctor.examine()}
        assert found["CuPy"].mend == found["nvmath"].mend == f"pip install {extra}"
        assert "'.[fast]'" in found["numba"].mend
    assert found["GPU driver"].value == "runs CUDA 12.4"
    monkeypatch.setattr(doctor, "driver_version", lambda: 11080)
    assert "update" in {finding.name: finding for finding in doctor.examine()}["GPU driver"].mend


def test_a_cache_that_can_not_be_written_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEQLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    found = {finding.name: finding for finding in doctor.examine()}
    assert "SEQLIB_CACHE=DIR" in found["kernel cache"].mend
    result = CliRunner().invoke(command, [], standalone_mode=False)
    assert result.return_value == 1 and "-> export SEQLIB_CACHE" in result.output
    (tmp_path / "cache" / "kernels" / "baked").mkdir(parents=True)
    found = {finding.name: finding for finding in doctor.examine()}
    assert not found["kernel cache"].mend and "read only" in found["kernel cache"].value
