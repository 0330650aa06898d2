"""Preparing a corpus of 2,000,000 pairs, and the pipeline over what was prepared: seconds, memory, pairs a second.

The corpus is made from Multi30k: lengths of real pairs, and words drawn as often as they occur there, side by side; a
few lines in a thousand are damaged in ways that are to be found and reported. It is written into a temporary folder,
some 260 MB, and so is what is prepared.

    python benchmarks/prepare_2m.py --data FOLDER_OF_MULTI30K
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

DAMAGE = {"latin-1 bytes": b"na\xefve caf\xe9\n", "a NUL": b"one \0 two\n", "an empty side": b"\n"}
KINDS = ("buckets", "packing", "padding", "buckets, sampled")
"""Of batches; sampled: with unigram subword sampling, alpha 0.2."""
EVERY = 20_000  # pairs between two damaged ones


def real_lines(folder: Path, language: str) -> list[list[str]]:
    """The words of every line of Multi30k's training part, or of a few made-up ones without a folder."""
    path = folder / f"train.{language}.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [line.split() for line in file]


def write_corpus(folder: Path, lines: dict[str, list[list[str]]], pairs: int) -> list[Path]:
    """``pairs`` lines a language: the lengths of real pairs, words by their frequency."""
    import numpy as np

    rng = np.random.default_rng(0)
    chosen = rng.integers(0, len(next(iter(lines.values()))), pairs)
    files = []
    for number, (language, real) in enumerate(lines.items()):
        words = np.array([word for line in real for word in line], dtype=object)
        sizes = np.array([len(line) for line in real])[chosen]
        path = folder / f"corpus.{language}"
        with path.open("wb") as file:
            for start in range(0, pairs, 50_000):
                stop = min(start + 50_000, pairs)
                ends = sizes[start:stop].cumsum()
                drawn = words[rng.integers(0, len(words), int(ends[-1]))].tolist()
                block = [
                    " ".join(drawn[end - size : end]).encode() + b"\n"
                    for end, size in zip(ends.tolist(), sizes[start:stop].tolist(), strict=True)
                ]
                for place, damaged in enumerate(DAMAGE.values()):
                    at = range(place * 7 + number, len(block), EVERY)
                    if number == place % 2:
                        for n in at:
                            block[n] = damaged
                file.write(b"".join(block))
        files.append(path)
    return files


def peak_megabytes() -> float:
    """The largest resident memory of this process so far, in MB (10^6 bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def prepared(files: list[Path], folder: Path, vocab_size: int | None) -> tuple[object, float, float]:
    """The prepared data, wall seconds and processor seconds."""
    from seqlib.data.prepare import prepare
    from seqlib.problems.translate_files import from_data

    began, used = time.perf_counter(), time.process_time()
    data = prepare(from_data(",".join(map(str, files))), folder / "prepared", vocab_size=vocab_size, seed=1)
    return data, time.perf_counter() - began, time.process_time() - used


def pipeline(data: object, kind: str, tokens: int) -> tuple[float, float]:
    """(seconds of an epoch's plan, pairs a second of plan, collate and prefetch together)."""
    from seqlib.data.epochs import Epochs
    from seqlib.data.prefetch import Prefetch
    from seqlib.data.sampled import Sampling
    from seqlib.data.subword import SubwordSampler

    store, (kind, *sampled) = data.train, kind.split(", ")
    began = time.perf_counter()
    sampling = Sampling(store, SubwordSampler(data.tokenizer, 0.2), data.digest, 1, 100) if sampled else None
    epochs = Epochs(store, data.digest, 1, tokens, 100, kind, sampling=sampling)
    plan = epochs.plan(0)
    planned = time.perf_counter() - began
    seen = 0
    with Prefetch(epochs.batches(data.spec, plan, 0, 0)) as batches:
        for _ in plan.batches:
            item = next(batches)
            seen += len(item.plan.batches[item.place].indices)
    if seen != plan.pairs:
        raise SystemExit(f"{seen} pairs came, {plan.pairs} were planned")
    return planned, seen / (time.perf_counter() - began)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parent / "shared" / "data" / "multi30k")
    parser.add_argument("--pairs", type=int, default=2_000_000)
    parser.add_argument("--vocab_size", type=int, help="pieces; by default what is proposed for the corpus")
    parser.add_argument("--tokens", type=int, default=4096, help="a batch and side, for the pipeline")
    parser.add_argument("--folder", type=Path, help="keep the files here instead of in a temporary folder")
    parser.add_argument("--csv", type=Path, default=HERE / "results" / "prepare_2m.csv")
    parser.add_argument("--smoke", action="store_true", help="a few thousand made-up pairs: does the script run?")
    options = parser.parse_args(arguments)
    if options.smoke:
        options.pairs, options.vocab_size, options.tokens = 3000, 400, 512

    import _compare

    with tempfile.TemporaryDirectory(prefix="seqlib-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if options.smoke:
            lines = {"en": [["a", f"b{n}"] * (n % 9 + 1) for n in range(400)]}
            lines["de"] = [["x", f"y{n}", "z"] * (n % 7 + 1) for n in range(400)]
        else:
            lines = {language: real_lines(options.data, language) for language in ("en", "de")}
        files = write_corpus(folder, lines, options.pairs)
        del lines
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        size = sum(file.stat().st_size for file in files) / 1e6
        print(f"{options.pairs:,} pairs, {size:.0f} MB; {threads} processors, {_compare.processor()}", flush=True)
        data, wall, cpu = prepared(files, folder, options.vocab_size)
        peak = peak_megabytes()
        print(data.report.table())
        print(f"prepared in {wall:.1f} s ({cpu:.1f} s of processors), at most {peak:.0f} MB resident", flush=True)
        rows = [["prepare", options.pairs, f"{wall:.2f}", f"{cpu:.2f}", f"{options.pairs / wall:.0f}", f"{peak:.0f}"]]
        for kind in KINDS:
            used = time.process_time()
            planned, rate = pipeline(data, kind, options.tokens)
            used = time.process_time() - used
            peak = peak_megabytes()
            print(f"{kind}: {planned:.2f} s for the plan, {rate:,.0f} pairs/s with it, {peak:.0f} MB at most")
            wall = data.report.splits["train"].pairs / rate
            rows.append([kind, options.pairs, f"{wall:.2f}", f"{used:.2f}", f"{rate:.0f}", f"{peak:.0f}"])
        if not options.smoke:
            options.csv.parent.mkdir(parents=True, exist_ok=True)
            with options.csv.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                head = ["what", "pairs", "wall_s", "cpu_s", "pairs_per_s", "peak_mb", "processors", "processor"]
                writer.writerow(head)
                writer.writerows([*row, threads, _compare.processor()] for row in rows)
            print(f"measurements: {options.csv}")


if __name__ == "__main__":
    main()
