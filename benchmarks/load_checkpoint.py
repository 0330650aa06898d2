"""A sharded checkpoint of 2 GB into a model's parameters: seconds and peak memory, ours and safetensors + PyTorch.

    python benchmarks/load_checkpoint.py --peer-python PEER

Every load is a process of its own, alternating; its time begins when everything is imported, and ends when every
parameter has been read once. The peak is that of the process over what it had before. The model's parameters have no
memory before (`seqlib.meta()`, PyTorch's "meta" device); the peer assigns what safetensors gives it. Files are in the
page cache for both.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import _compare  # noqa: E402


def shapes(scale: int) -> dict[str, tuple[int, ...]]:
    """A decoder of 0.5 G parameters at scale 1: an embedding of 6 % of them, and 36 layers."""
    width, vocabulary, layers = 1024 // scale, 32_000 // scale, 36 // scale
    found = {"embed": (vocabulary, width)}
    for layer in range(layers):
        found |= {f"{layer}.{name}": (width, width) for name in ("q", "k", "v", "o")}
        found |= {f"{layer}.{name}": (width, 9 * width // 3) for name in ("gate", "up", "down")}
        found[f"{layer}.norm"] = (width,)
    return found


def write_checkpoint(folder: Path, scale: int) -> int:
    """Four shards with their index; bytes of all arrays."""
    import numpy as np
    from safetensors.numpy import save_file

    draw, total, weight_map = np.random.default_rng(0), 0, {}
    names = list(shapes(scale))
    for shard in range(4):
        arrays = {name: draw.standard_normal(shapes(scale)[name], np.float32) for name in names[shard::4]}
        file = f"model-0000{shard + 1}-of-00004.safetensors"
        save_file(arrays, folder / file)
        weight_map |= dict.fromkeys(arrays, file)
        total += sum(array.nbytes for array in arrays.values())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return total


def peak() -> int:
    """The most bytes that the process has had in memory, mapped files included."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def load_ours(folder: Path, scale: int) -> None:
    """The child: prints seconds, bytes over what was there before, and the sum of what was loaded."""
    import numpy as np

    import seqlib
    from seqlib.hub.formats import open_checkpoint

    class Model(seqlib.nn.Module):
        def __init__(self) -> None:
            for name, shape in shapes(scale).items():
                setattr(self, name.replace(".", "_"), seqlib.Parameter(np.broadcast_to(np.float32(0), shape)))

    with seqlib.meta():
        model = Model()
    before, began = peak(), time.perf_counter()
    checkpoint = open_checkpoint(folder)
    for name in checkpoint:
        getattr(model, name.replace(".", "_")).assign(checkpoint[name])
    total = sum(float(parameter.data.ravel()[::512].sum()) for parameter in model.parameters())
    print(json.dumps({"seconds": time.perf_counter() - began, "bytes": peak() - before, "sum": total}))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=os.environ.get("SEQLIB_PEER_PYTHON"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--csv", type=Path, default=HERE / "results" / "load_checkpoint.csv")
    parser.add_argument("--folder", type=Path, help="where the checkpoint is written; by default a temporary folder")
    parser.add_argument("--smoke", action="store_true", help="a tiny checkpoint: does the script run?")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    scale = 16 if options.smoke else 1
    if options.child:
        return load_ours(Path(options.child), scale)
    commands = {"seqlib": [sys.executable, __file__, *(["--smoke"] if options.smoke else []), "--child"]}
    if options.peer_python:
        commands["PyTorch"] = [options.peer_python, str(HERE / "peers" / "torch_load.py")]
    else:
        print("no peer: --peer-python or SEQLIB_PEER_PYTHON names a Python that has torch and safetensors")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        size = write_checkpoint(Path(folder), scale)
        rows: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
        for number in range(options.rounds):
            for name in commands if number % 2 == 0 else reversed(commands):
                done = subprocess.run([*commands[name], folder], capture_output=True, text=True, check=False)
                if done.returncode:
                    raise SystemExit(f"{name}: {done.stderr}")
                rows[name].append(json.loads(done.stdout))
    print(f"{size / 1e9:.2f} GB in 4 shards; {options.rounds} loads each")
    for name, found in rows.items():
        seconds = _compare.Spread.of([row["seconds"] for row in found])
        memory = max(row["bytes"] for row in found) / size
        print(f"{name:10s} {seconds.median:6.2f} s (least {seconds.least:.2f})   peak {memory:.3f} of the size")
    sums = {round(row["sum"], 1) for found in rows.values() for row in found}
    assert len(sums) == 1, f"what was loaded differs: {sums}"
    if "PyTorch" in rows:
        ratios = [a["seconds"] / b["seconds"] for a, b in zip(rows["seqlib"], rows["PyTorch"], strict=True)]
        print(f"ours / peer, pair by pair: median {median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")
    options.csv.parent.mkdir(parents=True, exist_ok=True)
    with options.csv.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["round", "run", "seconds", "peak_over_size", "size_bytes", "processor"])
        for name, found in rows.items():
            for number, row in enumerate(found):
                ratio = f"{row['bytes'] / size:.4f}"
                writer.writerow([number, name, f"{row['seconds']:.4f}", ratio, size, _compare.processor()])


if __name__ == "__main__":
    main()
