"""S1: from the start of `seqlib train` to its first finished step, with empty caches and with those of the run before,
beside the first step of the same model by PyTorch, eager and compiled.

    python benchmarks/startup.py --peer-python PATH_OF_A_PYTHON_WITH_TORCH

The model is C1's (translation, 3+3 layers of 256), the text 10,000 pairs of the embedded grammar. Ours reads and cleans
it, trains the tokenizer (cold), builds the model and its programs, compiles its kernels (cold); the peer makes up its
batch. `cpu` are seconds of all processes on a processor, those of compilers included.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from itertools import islice
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import c1_train_step as c1  # noqa: E402
from _compare import Measure, Peer, alternate, report, write_csv  # noqa: E402


def of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def write_corpus(folder: Path, pairs: int) -> str:
    from seqlib.problems.translate_bulletin import ende

    found = list(islice(ende().samples("train"), pairs))
    for number, language in enumerate(("en", "de")):
        text = "".join(f"{pair[number]}\n" for pair in found)
        (folder / f"corpus.{language}").write_text(text, encoding="utf-8")
    return f"{folder / 'corpus.en'},{folder / 'corpus.de'}"


def ours(options: argparse.Namespace, folder: Path, corpus: str, cold: bool) -> Measure:
    sizes = c1.SMOKE if options.smoke else c1.Sizes()
    cache = tempfile.mkdtemp(dir=folder) if cold else str(folder / "warm")
    hparams = f"encoder_layers={sizes.layers},decoder_layers={sizes.layers},d_model={sizes.width}"
    hparams += f",d_ff={sizes.hidden},heads={sizes.heads}"
    command = [sys.executable, "-m", "seqlib", "train", "--data", corpus, "--hparams_set", "transformer_tiny"]
    command += ["--hparams", hparams, "--batch.tokens", str(sizes.rows * sizes.length), "--vocab_size", "2000"]
    command += ["--log_every", "1", "--train_steps", "1000", "--output_dir", tempfile.mkdtemp(dir=folder) + "/run"]
    variables = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    if options.smoke:  # with the kernels that are there
        command += ["--data.cache_dir", cache]
    else:
        variables["SEQLIB_CACHE"] = cache
    began, before, told = time.perf_counter(), of_children(), ""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=variables) as child:
        assert child.stderr is not None
        for line in child.stderr:
            told += line
            if line.startswith("step 1/"):
                break
        else:
            raise SystemExit(f"the run ended before its first step:\n{told}")
        wall = time.perf_counter() - began
        child.kill()
    return Measure(wall, of_children() - before)


def theirs(options: argparse.Namespace, folder: Path, cold: bool, name: str) -> Measure:
    given = [f"--{key}={value}" for key, value in c1.Sizes()._asdict().items()]
    given += [f"--threads={options.threads}", f"--dropout={c1.DROPOUT}", f"--smoothing={c1.SMOOTHING}", "--before=0"]
    cache = tempfile.mkdtemp(dir=folder) if cold else str(folder / "inductor")
    began, before = time.perf_counter(), of_children()
    variables = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache, "OMP_NUM_THREADS": str(options.threads)}
    peer = Peer(options.peer_python, "torch_translation.py", given, variables)
    options.about = peer.about
    peer.run(name)
    wall = time.perf_counter() - began
    peer.close()
    return Measure(wall, of_children() - before)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=os.environ.get("SEQLIB_PEER_PYTHON"))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="for all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--csv", type=Path, default=HERE / "results" / "startup.csv")
    parser.add_argument("--smoke", action="store_true", help="a tiny model, ours alone: does the script run?")
    options = parser.parse_args(arguments)
    os.environ["SEQLIB_THREADS"] = str(options.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = write_corpus(folder, 300 if options.smoke else 10_000)
        runs = {}
        for kind, cold in (("cold", True), ("warm", False)):
            runs[f"seqlib {kind}"] = partial(ours, options, folder, corpus, cold)
            if options.peer_python and not options.smoke:
                runs[f"torch compiled {kind}"] = partial(theirs, options, folder, cold, "compiled fp32")
        if options.peer_python and not options.smoke:
            runs["torch eager"] = partial(theirs, options, folder, False, "eager fp32")
        alternate({name: run for name, run in runs.items() if name.endswith("warm")}, 1)  # fills their caches
        found = alternate(runs, options.rounds)
        for kind in ("cold", "warm"):
            report({name: each for name, each in found.items() if not name.endswith(("cold", "warm")) or kind in name},
                   f"seqlib {kind}")  # fmt: skip
        if len(found) > 2:
            about = {name: options.about if name.startswith("torch") else "seqlib" for name in found}
            write_csv(options.csv, found, about, options.threads)


if __name__ == "__main__":
    main()
