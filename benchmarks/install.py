"""From nothing to the first score of a fine-tuned classifier: a fresh environment with the base install (no numba, no
datasets, no scikit-learn) and one with numba's kernels (extra `fast`), beside one with PyTorch and transformers.

    python benchmarks/install.py --weights all-MiniLM-L6-v2 --data_folder DATA --peer torch==2.13.0,transformers

Each side gets a venv of its own, filled by `pip install --no-cache-dir`, and trains on TREC-6 for some `--steps` as
`finetune.py` does: the same weights, batches and settings; the peer's batches are ready made. Told are megabytes (what
lies in site-packages, pip and setuptools left out) and packages, seconds of the installation (the network's, above
all), seconds from the start of the process to the score, of the training in it and a step, and the process' peak
memory. With `--folder` the environments stay, and a later call measures without installing.
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
from typing import Any

import finetune
from _compare import processor

HERE = Path(__file__).resolve().parent
OURS = HERE.parent
FIELDS = ("megabytes", "packages", "install", "whole", "train", "step", "peak", "accuracy")


def environment(folder: Path, name: str, wanted: list[str]) -> tuple[str, dict[str, float]]:
    """A venv with the `wanted` packages: its Python, and what it took. One that is there is used."""
    place, told = folder / name, folder / f"{name}.json"
    python = str(place / "bin" / "python")
    if not told.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        began = time.perf_counter()
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-cache-dir", *wanted], check=True)
        seconds = time.perf_counter() - began
        (packages,) = place.glob("lib/python*/site-packages")
        own = ("pip", "setuptools", "pkg_resources", "_distutils_hack")
        files = [p for p in packages.rglob("*") if p.is_file() and p.relative_to(packages).parts[0] not in own]
        listed = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, check=True).stdout
        count = sum(one["name"] not in ("pip", "setuptools") for one in json.loads(listed))
        size = sum(path.stat().st_size for path in files) / 1e6
        told.write_text(json.dumps({"megabytes": size, "packages": count, "install": seconds}))
    return python, json.loads(told.read_text())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data_folder", type=Path, required=True)
    parser.add_argument("--peer", default="", help="packages of the other environment, with commas between")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--folder", type=Path, help="where the environments are made; by default a temporary folder")
    parser.add_argument("--csv", type=Path, default=HERE / "results" / "install.csv")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        sides = {
            "seqlib": [str(OURS)],
            "seqlib fast": [f"{OURS}[fast]"],
            **({"peer": options.peer.split(",")} if options.peer else {}),
        }
        found = {name: environment(folder, name, wanted) for name, wanted in sides.items()}
        rows: list[dict[str, Any]] = []
        for number in range(options.rounds):
            for name, (python, size) in found.items():
                rows.append({"run": name, "round": number, **size, **score(options, Path(temporary), name, python)})
                print(f"{name:11s} " + "  ".join(f"{k} {rows[-1][k]:.4g}" for k in FIELDS), flush=True)
    options.csv.parent.mkdir(parents=True, exist_ok=True)
    with options.csv.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["round", "run", "steps", "threads", *FIELDS, "processor"])
        for row in rows:
            about = [row["round"], row["run"], options.steps, options.threads]
            writer.writerow([*about, *(f"{row[name]:.6g}" for name in FIELDS), processor()])


def score(options: argparse.Namespace, folder: Path, name: str, python: str) -> dict[str, float]:
    """Train and score once, in the environment of a `python`."""
    count = str(options.threads)
    variables = {**os.environ, "SEQLIB_THREADS": count, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
    variables["SEQLIB_CACHE"] = str(folder / "cache")
    given = ["--weights", str(options.weights), "--data_folder", str(options.data_folder), "--seed", "1"]
    given += ["--steps", str(options.steps), "--seeds", "1", "--folder", str(folder)]
    if not (folder / "train.csv").exists():
        finetune.write_task(argparse.Namespace(data_folder=options.data_folder, task="trec", smoke=False), folder)
    if not name.startswith("seqlib"):
        if not (folder / "batches1.npz").exists():
            finetune.run_child([sys.executable, str(HERE / "finetune.py"), *given, "--child", "batches"], variables)
        told = [str(options.weights), str(folder / "batches1.npz"), "1", "cpu", "eager", count, str(time.time())]
        return finetune.run_child([python, str(HERE / "peers" / "hf_finetune.py"), *told], variables)
    given += ["--child", "train", "--began", str(time.time())]
    return finetune.run_child([python, str(HERE / "finetune.py"), *given], variables)


if __name__ == "__main__":
    main()
