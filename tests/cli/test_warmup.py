"""`seqlib warmup`: the kernels are kept and read back."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def _warmup(*args: str, **environment: str) -> str:
    found = subprocess.run(
        [sys.executable, "-m", "seqlib", "warmup", *args],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    return found.stdout


FIRST_STEP = """
import sys
from pathlib import Path
import numpy as np
from seqlib.core.rng import Generator
from seqlib.data.batch import Batch
from seqlib.problems.spec import ProblemSpec
from seqlib.train.setup import build_model, build_optimizer, make_config
from seqlib.train.step import CompiledStep

for model, preset in (("transformer", "transformer_multi30k"), ("lstm_seq2seq", "lstm_seq2seq_multi30k")):
    settings = {"problem": "translate_bulletin_ende", "model": model, "hparams_set": preset}
    for accumulate in (1, 2):
        config = make_config(settings)
        generator = Generator(1)
        model_, _ = build_model(config, ProblemSpec(source_vocab=400, target_vocab=400), generator)
        step = CompiledStep(model_, build_optimizer(config, model_.train()), generator, 0.1, accumulate)
        ids, lengths = np.full((42, 24), 5, np.int32), np.full(42, 24, np.int32)
        step([Batch(ids, lengths, ids, ids, lengths)] * accumulate)
"""


def test_a_first_step_compiles_nothing(tmp_path: Path) -> None:
    """Two presets of the library: the batch is of usual size, the model has all its layers."""
    pytest.importorskip("numba")
    _warmup("transformer_multi30k", "lstm_seq2seq_multi30k", SEQLIB_CACHE=str(tmp_path))
    kept = {path.name for path in tmp_path.rglob("*.nbc")}
    assert len(kept) > 20
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SEQLIB_CACHE": str(tmp_path)}
    subprocess.run([sys.executable, "-c", FIRST_STEP], check=True, env=environment)
    assert {path.name for path in tmp_path.rglob("*.nbc")} == kept


BAKED = """
import os
import numpy as np
os.access = lambda path, mode: False  # as somebody who may not write it: the tests may run as root
from seqlib.core.ops import special_cpu
x = np.ones(3, np.float32)
special_cpu.erf(x, x)
from seqlib.core.ops.jit_cpu import generated
generated("def loop(x):\\n    return x + 1\\n")(2)
print(sum(special_cpu._erf.stats.cache_hits.values()), x[0])
"""


def test_a_cache_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SEQLIB_CACHE": str(tmp_path)}

    def run(code: str) -> str:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout

    assert run(BAKED).startswith("0 0.84") and not [path for path in tmp_path.rglob("*") if path.is_file()]
    run(BAKED.replace("os.access =", "unused ="))
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert kept and run(BAKED).startswith("1 0.84")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == kept


@pytest.mark.slow
def test_kernels_are_kept_and_read_back(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    assert "kernels are ready" in _warmup("--into", str(tmp_path))
    kept = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.nbc")}
    assert len(kept) >= 10
    _warmup(SEQLIB_CACHE=str(tmp_path))
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.nbc")} == kept


def test_without_numba_there_is_nothing_to_do(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\nreal = u.find_spec\n"
        "u.find_spec = lambda name, package=None: None if name == 'numba' else real(name, package)\n"
    )
    assert "nothing to compile" in _warmup(PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
