"""Fine-tuning of a pretrained BERT as a classifier: accuracy and time, ours and transformers + PyTorch.

    python benchmarks/finetune.py --weights all-MiniLM-L6-v2 --task trec --data_folder DATA --peer-python PEER

Both sides start from the same weights and take the same batches, token for token, in the same order, with the same
learning rates, AdamW settings and dropout; a seed decides the new head, the dropout and that order. Every run is a
process of its own, alternating. Nothing is chosen by the test part: it is scored once, after the last step. The peer
is given its batches ready made; it runs as PyTorch does best here: fused AdamW, its scaled dot-product attention,
bfloat16 autocast on a GPU, `--peers` with and without `torch.compile`.

`train` is the seconds from the first step to the last, programs built (ours) or compiled (the peer's) included; `step`
the milliseconds a step in the second half of them; `whole` the seconds from the start of the process to the score.
Beside them: TF-IDF n-grams with a linear model, and a linear head on the frozen model's vectors. `--steps` ends runs
early, for times alone.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import _compare  # noqa: E402

BEGAN = time.time()
EPOCHS = {"trec": 4, "sst2": 2}
FIELDS = ("accuracy", "train", "step", "whole", "peak", "trainable", "parameters")


def read_task(folder: Path, task: str, split: str) -> list[tuple[str, str]]:
    """(label, text) of the files of TREC-6 (`train.label.gz`) or SST-2 (`train.tsv.gz`, whose dev part is the test)."""
    if task == "trec":
        lines = gzip.decompress((folder / "trec" / f"{split}.label.gz").read_bytes()).decode("latin-1").splitlines()
        return [(line.partition(":")[0], line.partition(" ")[2]) for line in lines]
    name = "train" if split == "train" else "dev"
    lines = gzip.decompress((folder / "sst2" / f"{name}.tsv.gz").read_bytes()).decode().splitlines()[1:]
    return [(line.partition("\t")[0], line.partition("\t")[2].strip()) for line in lines]


def write_task(options: argparse.Namespace, folder: Path) -> None:
    for split in ("train", "test"):
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            rows = read_task(options.data_folder, options.task, split)
            writer.writerows([("label", "text"), *(rows[: 60 if split == "train" else 20] if options.smoke else rows)])


def trainer(options: argparse.Namespace, folder: Path) -> Any:
    """What `seqlib train --from` trains with, its weights loaded; nothing is written."""
    from seqlib.hub.fine_tune import settings, start
    from seqlib.train.config import merge
    from seqlib.train.run import make_trainer
    from seqlib.train.setup import make_config

    data = {"paths": [str(folder / "train.csv")], "dev_paths": [str(folder / "test.csv")], "text": ["text"]}
    data |= {"test_size": 0, "label": "label", "cache_dir": str(folder / "cache")}
    given = {"pretrained": str(options.weights), "data": data, "train_steps": 10**6, "eval_every": 0, "average": 0}
    given |= {"baselines": False, "report": False, "seed": options.seed, "device": options.device}
    given["batch"] = {"tokens": options.tokens}
    extra: dict[str, Any] = json.loads(options.settings)
    config = make_config(settings(merge(given, extra)))
    made = make_trainer(config, None)
    steps = options.steps or round(options.epochs * len(made.plan.batches))
    config = make_config(
        settings(merge(given, {"train_steps": steps, "optim": {"warmup": max(1, steps // 10)}}, extra))
    )
    return make_trainer(config, None, start=start)


def write_batches(options: argparse.Namespace, folder: Path) -> None:
    """The child that writes what the peer trains on: batches, rates, the test part, settings of every seed."""
    import numpy as np

    for seed in range(options.first_seed, options.first_seed + options.seeds):
        arrays, told = seed_batches(argparse.Namespace(**vars(options) | {"seed": seed}), folder)
        np.savez(folder / f"batches{seed}.npz", settings=json.dumps(told), **arrays)
    print("RESULT {}")


def seed_batches(options: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    import numpy as np

    made = trainer(options, folder)
    config, arrays = made.config, dict[str, Any]()
    stream = made.epochs.batches(made.data.spec, made.plan, 0, 0)
    for step in range(config.train_steps):
        (batch,) = next(stream).parts
        arrays[f"ids{step}"], arrays[f"lengths{step}"] = batch.ids, batch.lengths
        arrays[f"targets{step}"], arrays[f"weights{step}"] = batch.targets, batch.weights
    arrays["rates"] = np.array([made.rate(step + 1, 0.0) for step in range(config.train_steps)])
    store, spec = made.data.store("dev"), made.data.spec
    rows = [[spec.bos_id, *store.pair(number)[0], spec.eos_id] for number in range(len(store))]
    arrays["test_ids"], arrays["test_lengths"] = np.concatenate(rows), np.array([len(row) for row in rows])
    arrays["test_targets"] = made.data.targets("dev")
    told = {name: getattr(config.optim, name) for name in ("eps", "betas", "weight_decay", "clip_norm", "freeze")}
    told |= {name: getattr(config.optim, name) for name in ("lora_rank", "lora_alpha", "lora_targets")}
    told |= {"labels": len(spec.labels.names), "pad": spec.pad_id}
    return arrays, told


def train_ours(options: argparse.Namespace, folder: Path) -> None:
    """The child that trains; prints its figures as JSON."""
    from seqlib.train.callback import Callback

    moments: list[float] = []

    class Moments(Callback):
        """When the first step began, half of them were done, and the last was: read when the device has got there."""

        def on_train_begin(self, trainer: Any) -> None:
            moments.append(time.perf_counter())

        def on_train_batch_end(self, trainer: Any, step: int) -> None:
            if step in (trainer.config.train_steps // 2, trainer.config.train_steps):
                trainer.last[0].numpy()
                moments.append(time.perf_counter())

    made = trainer(options, folder)
    made.callbacks.append(Moments())
    made.fit()
    parameters = made.model.named_parameters().values()
    trained = made.model.trainable_parameters()
    told = {"accuracy": made.scores["accuracy"], "trainable": sum(p.size for p in trained.values())}
    tell(moments, made.config.train_steps, told | {"parameters": sum(p.size for p in parameters)}, options.began)


def tell(moments: list[float], steps: int, found: dict[str, float], began: float) -> None:
    begin, half, end = moments
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    found |= {"train": end - begin, "step": 1e3 * (end - half) / (steps - steps // 2), "whole": time.time() - began}
    print("RESULT " + json.dumps(found | {"peak": int(peak.split()[1]) / 1e3}))


def simple_models(options: argparse.Namespace, folder: Path) -> None:
    """The child for what stands beside: n-grams, and softmax regression on the frozen model's vectors."""
    import numpy as np

    import seqlib
    from seqlib.optim.adamw import AdamW
    from seqlib.problems.classify_files import from_data
    from seqlib.train.baselines import label_baselines

    files = {"data": str(folder / "train.csv"), "dev": str(folder / "test.csv"), "test_size": 0.0}
    problem = from_data(**files, text="text", label="label")
    found = {f"{name} ": row["accuracy"] for name, row in label_baselines(problem, "dev").items()}
    began, model = time.perf_counter(), seqlib.load(options.weights, device=options.device)
    x, y = {}, {}
    for split in ("train", "test"):
        rows = read_task(options.data_folder, options.task, split)
        rows = rows[: 60 if split == "train" else 20] if options.smoke else rows
        x[split], labels = model.embed([text for _, text in rows]), [label for label, _ in rows]
        y[split] = np.array([problem.labels.names.index(label) for label in labels], np.int32)
    head = seqlib.nn.Linear(x["train"].shape[1], len(problem.labels.names))
    optimizer = AdamW(head.named_parameters())

    def loss(vectors: Any, labels: Any) -> Any:
        total, weight = seqlib.cross_entropy(head(vectors), labels)
        return (total + seqlib.sum(head.weight * head.weight) / 2) / weight  # as scikit-learn's with C = 1

    def update(vectors: Any, labels: Any) -> Any:
        return optimizer.update(seqlib.value_and_grad(loss, params=head.named_parameters())(vectors, labels)[1])

    step = seqlib.compile(update, state=[head, optimizer])
    for rate in np.linspace(0.3, 0, 300):
        optimizer.lr.assign(np.float32(rate))
        step(x["train"], y["train"])
    right = np.argmax(head(seqlib.tensor(x["test"])).numpy(), 1) == y["test"]
    found[f"frozen vectors, linear head ({time.perf_counter() - began:.1f} s)"] = float(right.mean())
    print("RESULT " + json.dumps(found))


def run_child(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        raise SystemExit(f"{' '.join(command)}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return json.loads(lines[0].removeprefix("RESULT "))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="folder of a BERT in Hugging Face's format")
    parser.add_argument("--task", choices=EPOCHS, default="trec")
    parser.add_argument("--data_folder", type=Path, required=True, help="holds trec/ and sst2/")
    parser.add_argument("--peer-python", default=os.environ.get("SEQLIB_PEER_PYTHON"))
    parser.add_argument("--peers", default="eager", help="of eager, compiled")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first_seed", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=1024, help="a batch")
    parser.add_argument("--epochs", type=float)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--settings", default="{}", help='of a run, as JSON: {"optim": {"lr": 1e-3, "lora_rank": 8}}')
    parser.add_argument("--simple", action="store_true", help="the simple models, too")
    parser.add_argument("--csv", type=Path, default=HERE / "results" / "finetune.csv")
    parser.add_argument("--smoke", action="store_true", help="a few texts: does the script run?")
    for name, kind in (("child", str), ("seed", int), ("folder", Path), ("began", float)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.epochs = options.epochs or EPOCHS[options.task]
    if options.child:
        return {"batches": write_batches, "train": train_ours, "simple": simple_models}[options.child](
            options, options.folder
        )
    threads = str(options.threads)
    environment = {**os.environ, "SEQLIB_THREADS": threads, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    given = list(arguments if arguments is not None else sys.argv[1:])
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_task(options, folder)

        def ours(child: str, seed: int = 1) -> dict[str, float]:
            hidden = ["--child", child, "--folder", temporary, "--seed", str(seed), "--began", str(time.time())]
            return run_child([sys.executable, __file__, *given, *hidden], environment)

        def peer(mode: str, seed: int) -> dict[str, float]:
            script = [options.peer_python, str(HERE / "peers" / "hf_finetune.py"), str(options.weights)]
            batches = str(folder / f"batches{seed}.npz")
            command = [*script, batches, str(seed), options.device, mode, threads, str(time.time())]
            return run_child(command, environment)

        if options.simple:
            for name, value in ours("simple").items():
                print(f"{name}: accuracy {value:.4f}", flush=True)
        sides = ["seqlib", *(options.peers.split(",") if options.peer_python else ())]
        if len(sides) > 1:
            ours("batches")
        for number in range(options.seeds):
            seed = options.first_seed + number
            for side in sides if number % 2 == 0 else reversed(sides):
                found = ours("train", seed) if side == "seqlib" else peer(side, seed)
                rows.append({"seed": seed, "run": side, **found})
                print(f"seed {seed} {side:9s} " + "  ".join(f"{k} {found[k]:.6g}" for k in FIELDS), flush=True)
    summarize(rows, sides)
    write(options, rows)


def summarize(rows: list[dict[str, Any]], sides: list[str]) -> None:
    by_side = {side: sorted((r for r in rows if r["run"] == side), key=lambda r: r["seed"]) for side in sides}
    for side, found in by_side.items():
        values = [row["accuracy"] for row in found]
        spread = stdev(values) if len(values) > 1 else 0.0
        times = "  ".join(f"{name} {median(row[name] for row in found):.4g}" for name in FIELDS[1:5])
        print(f"{side:9s} accuracy {mean(values):.4f} ± {spread:.4f} (sd)   medians: {times}")
        if side != sides[0]:
            for name in ("train", "step", "whole", "peak"):
                ratios = [a[name] / b[name] for a, b in zip(by_side[sides[0]], found, strict=True)]
                print(f"  ours / {side}, {name}: {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


def write(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    options.csv.parent.mkdir(parents=True, exist_ok=True)
    with options.csv.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["task", "device", "threads", "settings", "seed", "run", *FIELDS, "processor"])
        for row in rows:
            about = [options.task, options.device, options.threads, options.settings, row["seed"], row["run"]]
            writer.writerow([*about, *(f"{row[name]:.6g}" for name in FIELDS), _compare.processor()])


if __name__ == "__main__":
    main()
