"""Readers of weights against damaged files: an error that names the file, in little memory and time."""

import signal
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from seqlib.hub.formats import open_checkpoint
from seqlib.util.errors import DataError, UsageError

sys.path.insert(0, str(Path(__file__).parent))
import samples
from samples import FILES

FORMATS = ["safetensors", "npz", "npz_compressed", "torch_zip", "torch_legacy", "torch_training", "marian", "gguf"]
SECONDS = 5  # no file of a few kB may take longer
ROOM = 4_000_000  # bytes beyond what the file's own size explains: Python's objects, NumPy's buffers


def original(kind, folder):
    path = folder / "original"
    if kind.startswith("torch"):
        name = {"torch_zip": "weights_zip", "torch_legacy": "weights_legacy", "torch_training": "training"}[kind]
        return (FILES / f"{name}.pt").read_bytes()
    if kind == "gguf":
        pytest.importorskip("gguf")
        samples.gguf_file(path)
    elif kind.startswith("npz"):
        path = path.with_suffix(".npz")
        samples.npz_file(path, compressed=kind.endswith("compressed"))
    else:
        {"safetensors": samples.safetensors_file, "marian": samples.marian_file}[kind](path)
    return path.read_bytes()


def mutated(data, draw):
    """One to four changes: bits, bytes, extreme numbers, digits, pieces lost, doubled or moved, an early end."""
    out = bytearray(data)
    for _ in range(draw.integers(1, 5)):
        at = int(draw.integers(len(out)))
        match draw.integers(8):
            case 0:
                out[at] ^= 1 << int(draw.integers(8))
            case 1:
                out[at] = int(draw.integers(256))
            case 2:
                width = int(draw.choice([1, 2, 4, 8]))
                value = int(draw.choice([0, 1, 2, 127, 2**31 - 1, 2**32 - 1, 2**62])) & (2 ** (8 * width) - 1)
                out[at : at + width] = (value if draw.integers(2) else ~value & (2 ** (8 * width) - 1)).to_bytes(
                    width, "little"
                )
            case 3:
                del out[at : at + int(draw.integers(1, 40))]
            case 4:
                piece = out[at : at + int(draw.integers(1, 40))]
                out[at:at] = piece
            case 5:
                other, width = int(draw.integers(len(out))), int(draw.integers(1, 16))
                out[at : at + width] = out[other : other + width]
            case 6:
                digits = [i for i, byte in enumerate(out) if 48 <= byte < 58]
                if digits:
                    out[int(draw.choice(digits))] = int(draw.integers(48, 58))
            case 7:
                del out[at:]
        out = out or bytearray(1)
    return bytes(out)


def survive(kind, folder, count, seed):
    """Open and read `count` mutated files; the share of those that were refused."""
    data, draw, refused = original(kind, folder), np.random.default_rng(seed), 0
    path = folder / "mutated"

    def late(*_):
        raise AssertionError(f"{kind}: still reading after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    tracemalloc.start()
    try:
        for number in range(count):
            content = mutated(data, draw)
            path.write_bytes(content)
            signal.alarm(SECONDS)
            tracemalloc.reset_peak()
            try:
                checkpoint = open_checkpoint(path)
                for name in checkpoint:
                    checkpoint[name].tobytes()
            except (DataError, UsageError) as error:
                refused += 1
                assert str(path) in str(error), error
            except Exception as error:
                raise AssertionError(f"{kind} {number} of seed {seed}: {error!r}") from error
            _, peak = tracemalloc.get_traced_memory()
            assert peak < ROOM + 1100 * len(content), f"{kind} {number} of seed {seed}: {peak:,} bytes"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        tracemalloc.stop()
    return refused / count


@pytest.mark.parametrize("kind", FORMATS)
def test_mutated_files(kind, tmp_path):
    assert survive(kind, tmp_path, 120, seed=0) > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_many_mutated_files(kind, tmp_path):
    survive(kind, tmp_path, 25_000 if kind == "safetensors" or kind.startswith("torch") else 12_500, seed=1)
