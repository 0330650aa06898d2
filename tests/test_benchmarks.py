"""The benchmarks run: a tiny shape, ours alone; and the way they talk to a peer, with a peer that needs no torch."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

from tests.hub.stored import Stored
from tests.hub.test_marian_native import drawn, pieces, written

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"

FAKE_PEER = """
import sys
sys.path.insert(0, {folder!r})
import serve

def broken():
    raise RuntimeError("no such instruction")

def noisy():
    print("chatter that is no reply")
    return lambda: sum(range(10**5))

serve.serve("fake 1.0", {{"noisy": noisy, "broken": broken}})
"""


def run(*command: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "SEQLIB_PEER_PYTHON"}
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_c1_runs_alone_and_profiles(tmp_path):
    csv = tmp_path / "c1.csv"
    text = run(str(BENCHMARKS / "c1_train_step.py"), "--smoke", "--profile", "--threads", "1", "--csv", str(csv))
    for part in ("no peer", "seqlib compiled fp32 wall", "matmul", "adamw", "GFLOP/s", "floor"):
        assert part in text
    assert not csv.exists()  # without a peer there is no comparison to keep


def test_cpu_runs_alone(tmp_path):
    text = run(str(BENCHMARKS / "cpu.py"), "c2", "c4", "--smoke", "--profile", "--threads", "1", "--csv", str(tmp_path))
    for part in ("no peers", "c2: ", "c4: ", "seqlib fp32 wall", "lstm", "floor"):
        assert part in text
    assert not list(tmp_path.iterdir())


def test_cpu_translates_by_a_model_of_marians(tmp_path):
    folder = written(tmp_path / "tiny", drawn(), {"vocab.enpt.spm": pieces(0)})
    text = run(str(BENCHMARKS / "cpu.py"), "marian", "--weights", str(folder), "--smoke", "--threads", "1")
    assert "marian: " in text and "seqlib fp32 wall" in text


def test_startup_runs_alone(tmp_path):
    csv = tmp_path / "s.csv"
    text = run(str(BENCHMARKS / "startup.py"), "--smoke", "--rounds", "1", "--csv", str(csv))
    assert "seqlib cold wall" in text and "seqlib warm cpu" in text and not csv.exists()


def test_load_checkpoint_runs_alone(tmp_path):
    command = ("load_checkpoint.py", "--smoke", "--rounds", "1", "--csv", str(tmp_path / "l.csv"))
    assert "seqlib" in run(str(BENCHMARKS / command[0]), *command[1:])
    assert len((tmp_path / "l.csv").read_text(encoding="utf-8").splitlines()) == 2


def test_finetune_runs_alone(tmp_path):
    weights = Stored("bert").write(tmp_path / "bert")
    (weights / "vocab.txt").write_text("\n".join([*"[PAD] [UNK] [CLS] [SEP] [MASK] how who is it he".split(), "?"]))
    (tmp_path / "trec").mkdir()
    lines = "DESC:manner How is it ?\nHUM:ind Who is he ?\n".encode("latin-1")
    for split, times in (("train", 20), ("test", 3)):
        (tmp_path / "trec" / f"{split}.label.gz").write_bytes(gzip.compress(lines * times))
    places = ("--weights", str(weights), "--data_folder", str(tmp_path), "--csv", str(tmp_path / "f.csv"))
    rest = ("--smoke", "--simple", "--seeds", "1", "--steps", "2", "--threads", "1")
    text = run(str(BENCHMARKS / "finetune.py"), *places, *rest)
    assert "frozen vectors, linear head" in text and "accuracy" in text
    assert len((tmp_path / "f.csv").read_text(encoding="utf-8").splitlines()) == 2


def test_peer_protocol(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import _compare

    script = tmp_path / "fake_peer.py"
    script.write_text(FAKE_PEER.format(folder=str(BENCHMARKS / "peers")), encoding="utf-8")
    peer = _compare.Peer(sys.executable, str(script), [], dict(os.environ))
    assert peer.about == "fake 1.0" and peer.names == ["noisy", "broken"]
    runs = {"ours": lambda: _compare.Measure(0.5, 0.5)} | {n: lambda n=n: peer.run(n) for n in peer.names}
    found = _compare.alternate(runs, 3)
    peer.close()
    assert peer.process.returncode == 0
    assert {name: len(values) for name, values in found.items()} == {"ours": 3, "noisy": 3}
    assert "broken is left out: RuntimeError: no such instruction" in capsys.readouterr().out
    _compare.report(found, "ours")
    assert "ours / peer" in capsys.readouterr().out
    _compare.write_csv(tmp_path / "r.csv", found, {"ours": "a", "noisy": "b"}, 1)
    assert len((tmp_path / "r.csv").read_text(encoding="utf-8").splitlines()) == 7


def test_spread():
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("_compare", BENCHMARKS / "_compare.py")
    assert spec is not None and spec.loader is not None
    compare = module_from_spec(spec)
    spec.loader.exec_module(compare)
    assert compare.Spread.of([3.0, 1.0, 2.0, 5.0, 4.0]) == (1.0, 1.5, 3.0, 4.5)
    assert compare.Spread.of([2.0]) == (2.0, 2.0, 2.0, 2.0)


def test_the_floor_counts_every_product():
    text = run(
        "-c",
        f"import sys; sys.path[:0] = [{str(BENCHMARKS)!r}]\n"
        "import c1_train_step as c1\n"
        "ours = c1.Ours(c1.SMOKE)\n"
        "ours.run()\n"
        "planned = sum(launch.flops for launch in ours.program.plan.launches)\n"
        "s = c1.SMOKE\n"
        "again = 3 * s.layers * 2 * s.rows * s.length**2 * s.width\n"  # scores made again for the backward pass
        "print(planned, c1.product_flops(s) + again)",
    )
    planned, floor = map(int, text.split())
    assert planned == floor


def test_promises_runs():
    text = run(str(BENCHMARKS / "promises.py"), "--smoke")
    for part in (
        "SEQLIB_FUSE=0",
        "4 micro-batches",
        "independent rows",
        "safe checkpoint",
        "checked against the manifest",
    ):
        assert part in text


def test_fusion_runs(tmp_path):
    text = run(str(BENCHMARKS / "fusion.py"), "--smoke", "--threads", "1", "--models", "lstm_seq2seq_multi30k")
    assert "lstm_seq2seq_multi30k fused:" in text and "bytes planned" in text


def test_batching_runs():
    text = run(str(BENCHMARKS / "batching.py"), "--smoke", "--threads", "1")
    assert "transformer packing: " in text and "lstm_seq2seq padding: " in text and "ours / peer" in text


def test_prepare_2m_runs():
    text = run(str(BENCHMARKS / "prepare_2m.py"), "--smoke")
    assert "3,000 pairs read" in text and "unreadable" in text and "buckets, sampled: " in text


def test_gpu_ops_checks_on_the_cpu():
    text = run(str(BENCHMARKS / "gpu_ops.py"), "--smoke")
    assert "results compared, 0 failures" in text


def test_gpu_sanitize_has_small_cases_of_every_kernel_and_needs_its_tool(monkeypatch, capsys):
    import pytest

    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_sanitize

    import seqlib.core.ops  # noqa: F401  (declares the ops)
    from seqlib.core.op import OPS

    for name in ("attention", "attention_bwd", "layer_norm", "lstm", "embedding"):
        assert gpu_sanitize._cases(OPS[name], "float32") or gpu_sanitize._cases(OPS[name], "bfloat16")
    monkeypatch.setenv("PATH", "")
    for arguments, message in (([], "compute-sanitizer is not on the PATH"), (["--ops", "addd"], "addd: no such op")):
        with pytest.raises(SystemExit):
            gpu_sanitize.main(arguments)
        assert message in capsys.readouterr().err


def test_gpu_ops_finds_what_is_wrong(monkeypatch):
    import numpy as np

    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import _gpu_checks as checks

    exact = np.array([1.0, -3.0, np.inf])
    plain = exact.astype(np.float32)
    assert checks._difference(plain, plain, exact) is None
    for wrong in ([1.0, -3.001, np.inf], [1.0, -3.0, 5.0], [np.nan, -3.0, np.inf]):
        assert checks._difference(np.array(wrong, np.float32), plain, exact) is not None
    assert checks._difference(plain.astype(np.float16), plain, exact) is not None
    ids = np.array([1, 2])
    assert checks._difference(ids, ids, ids) is None and checks._difference(ids + 1, ids, ids) is not None


def test_gpu_train_runs_its_parity_on_the_cpu():
    text = run(str(BENCHMARKS / "gpu_train.py"), "parity", "--parity", "float32", "--device", "cpu", "--steps", "2")
    for line in ("at most 2 times that: True", "losses and weights: True"):
        assert text.count(line) == 2, "a Transformer and an LSTM"


def test_gpu_decode_runs_on_the_cpu():
    text = run(
        str(BENCHMARKS / "gpu_decode.py"), "--smoke", "--device", "cpu", "--peers", "", "--rounds", "1", "--profile"
    )
    assert text.count("find the same tokens: True") == 2 and "launches" in text


def test_serve_runs(tmp_path):
    command = ("serve.py", "--smoke", "--hostile", "--tasks", "classify", "--runs", str(tmp_path), "--csv")
    text = run(str(BENCHMARKS / command[0]), *command[1:], str(tmp_path / "s.csv"))
    assert "task classify" in text and "lost 0  wrong 0" in text and "exit_code 0" in text
    assert len((tmp_path / "s.csv").read_text(encoding="utf-8").splitlines()) == 2
