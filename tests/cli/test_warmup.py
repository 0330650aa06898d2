"""`seqlib warmup`: the kernels are kept and read back, by others too."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
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


@pytest.fixture(scope="module")
def baked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of kernels for two presets."""
    pytest.importorskip("numba")
    folder = tmp_path_factory.mktemp("baked")
    _warmup("transformer_multi30k", "lstm_seq2seq_multi30k", "--into", str(folder))
    return folder


def test_a_first_step_compiles_nothing(baked: Path) -> None:
    """Two presets of the library: the batch is of usual size, the model has all its layers."""
    kept = {path.name for path in baked.rglob("*.nbc")}
    assert len(kept) > 20
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SEQLIB_CACHE": str(baked)}
    subprocess.run([sys.executable, "-c", FIRST_STEP], check=True, env=environment)
    assert {path.name for path in baked.rglob("*.nbc")} == kept


def test_another_user_who_may_write_nowhere_compiles_nothing(baked: Path, tmp_path: Path) -> None:
    """As in a container: not root, no home, everything read-only; the code lies elsewhere than where it was baked."""
    setpriv = shutil.which("setpriv")
    if os.getuid() != 0 or setpriv is None:
        pytest.skip("becoming another user takes root and setpriv")
    pytest.importorskip("starlette")
    shutil.copytree(ROOT / "seqlib", tmp_path / "code" / "seqlib")
    lines = [f"{a} {b} {c}\n" for a in "abcdefg" for b in "abcdefg" for c in "abcdefg"]
    (tmp_path / "t.en").write_text("".join(lines))
    (tmp_path / "t.de").write_text("".join(lines).upper())
    data = ("--data", f"{tmp_path / 't.en'},{tmp_path / 't.de'}", "--data.cache_dir", str(tmp_path / "data"))
    flags = ("--hparams_set", "transformer_multi30k", "--train_steps", "2", "--output_dir", str(tmp_path / "run"))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "code"), "SEQLIB_CACHE": str(baked)}
    command = [sys.executable, "-m", "seqlib"]
    subprocess.run([*command, "train", *data, *flags], check=True, env=environment)
    kept = sorted(baked.rglob("*"))

    # Not the rights to write, but those to read: of Python itself, where it lies in root's home.
    read = [f"--{kind}-caps=+dac_read_search" for kind in ("inh", "ambient")]
    other = [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", *read, *command]
    (tmp_path / "nothing").mkdir(mode=0o555)
    environment.pop("HOME", None)
    place = {"cwd": tmp_path / "nothing", "env": environment, "text": True, "stderr": subprocess.PIPE}
    translate = [*other, "translate", str(tmp_path / "run")]
    found = subprocess.run(translate, **place, input="a b c\n", stdout=subprocess.PIPE)
    assert (found.returncode, found.stderr, found.stdout.count("\n")) == (0, "", 1)

    serving = subprocess.Popen([*other, "serve", str(tmp_path / "run"), "--port", "0"], **place, stdout=subprocess.PIPE)
    assert serving.stdout is not None
    url = serving.stdout.readline().strip() + "/translate"
    body = json.dumps({"q": "a b c", "source": "en", "target": "de"}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    assert json.load(urllib.request.urlopen(request))["translatedText"] == found.stdout.rstrip("\n")
    serving.send_signal(signal.SIGTERM)
    _, told = serving.communicate(timeout=30)
    assert serving.returncode == 0 and "compiling" not in told, told
    assert sorted(baked.rglob("*")) == kept


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

    told = []

    def run(code: str) -> str:
        command = [sys.executable, "-c", code]
        found = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
        told.append(found.stderr)
        return found.stdout

    assert (
        run(BAKED).startswith("0 0.84")
        and "they can't be kept" in told[-1]
        and not [path for path in tmp_path.rglob("*") if path.is_file()]
    )
    run(BAKED.replace("os.access =", "unused ="))
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert kept and told[-1].count("compiling CPU kernels; they are kept") == 1
    assert run(BAKED).startswith("1 0.84") and not told[-1]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == kept


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    (tmp_path / "file").write_text("")
    into = str(tmp_path / "file" / "kernels")
    command = [sys.executable, "-m", "seqlib", "warmup", "--into", into]
    found = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert found.returncode == 2 and f"{into} cannot be written; choose another folder: --into DIR" in found.stderr


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
