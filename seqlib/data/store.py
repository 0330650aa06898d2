"""The token store: all ids of a split in one memory-mapped file, read without copying.

A folder with ``tokens.bin`` (uint16 for vocabularies below 65,536, else int32; little-endian; source and target of
each pair one after the other), ``offsets.bin`` (int64 [2n+1], where each sequence starts), ``weights.bin`` (float32
[n], where pairs have weights) and ``meta.json``. Stored ids have neither bos nor eos; those are added when a batch
is made.
"""

import hashlib
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import msgspec
import numpy as np

from seqlib.util.atomic import write_json
from seqlib.util.errors import DataError
from seqlib.util.files import read_json

_FORMAT = 1
_BLOCK = 1 << 16  # sequences gathered before they are written


class _Meta(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    pairs: int
    tokens: int
    dtype: str
    vocab_size: int
    digest: str
    weighted: bool = False


def write_store(
    folder: str | Path, pairs: Iterable[tuple[list[int], list[int]]], vocab_size: int, weights: np.ndarray | None = None
) -> "TokenStore":
    """Writes encoded pairs, with ``weights`` float32 [n] if there are any, into a new folder and opens it.

    In bounded memory; the caller makes it atomic. Raises DataError for an id outside [0, vocab_size) and for another
    number of weights.
    """
    folder = Path(folder)
    folder.mkdir(parents=True)
    dtype = np.dtype("<u2" if vocab_size < 65536 else "<i4")
    state = hashlib.sha256()
    count, end = 0, 0
    with open(folder / "tokens.bin", "wb") as tokens, open(folder / "offsets.bin", "wb") as offsets:
        offsets.write(np.zeros(1, "<i8").tobytes())

        def flush(sequences: list[list[int]]) -> int:
            lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
            flat = np.fromiter(chain.from_iterable(sequences), np.int64, int(lengths.sum()))
            if len(flat) and (flat.min() < 0 or flat.max() >= vocab_size):
                raise DataError(f"token ids {flat.min()}..{flat.max()} leave the vocabulary of {vocab_size}")
            data, places = flat.astype(dtype).tobytes(), (end + np.cumsum(lengths)).astype("<i8").tobytes()
            state.update(data + places)
            tokens.write(data)
            offsets.write(places)
            return end + len(flat)

        block: list[list[int]] = []
        for source, target in pairs:
            block += (source, target)
            count += 1
            if len(block) >= _BLOCK:
                end = flush(block)
                block = []
        end = flush(block)
    if weights is not None:
        if len(weights) != count:
            raise DataError(f"{len(weights):,} weights for {count:,} pairs")
        data = np.asarray(weights, "<f4").tobytes()
        state.update(data)
        (folder / "weights.bin").write_bytes(data)
    meta = _Meta(_FORMAT, count, end, dtype.str, vocab_size, state.hexdigest(), weights is not None)
    write_json(folder / "meta.json", msgspec.to_builtins(meta))
    return TokenStore.open(folder)


class TokenStore:
    """A split's token ids, memory-mapped.

    ``tokens`` is flat; sequence 2i is the source of pair i and sequence 2i+1 its target; sequence j is
    ``tokens[offsets[j]:offsets[j+1]]``. ``weights`` are the pairs' in the loss, None if all weigh the same. ``digest``
    names the content.
    """

    def __init__(
        self, folder: Path, meta: _Meta, tokens: np.ndarray, offsets: np.ndarray, weights: np.ndarray | None
    ) -> None:
        self.folder = folder
        self.digest = meta.digest
        self.vocab_size = meta.vocab_size
        self.tokens = tokens
        self.offsets = offsets
        self.weights = weights

    @classmethod
    def open(cls, folder: str | Path) -> "TokenStore":
        """Maps a store. Raises DataError naming the file when one is missing, cut short or inconsistent."""
        folder = Path(folder)
        path = folder / "meta.json"
        meta = read_json(path, _Meta, again="; prepare the data again")
        if meta.format != _FORMAT or meta.dtype not in ("<u2", "<i4"):
            raise DataError(f"{path}: format {meta.format} ({meta.dtype}) is not one this version reads")
        tokens = _map(folder / "tokens.bin", meta.dtype, meta.tokens)
        offsets = _map(folder / "offsets.bin", "<i8", 2 * meta.pairs + 1)
        if offsets[0] != 0 or offsets[-1] != meta.tokens or (np.diff(offsets) < 0).any():
            raise DataError(f"{folder / 'offsets.bin'}: the token store is damaged; prepare the data again")
        weights = _map(folder / "weights.bin", "<f4", meta.pairs) if meta.weighted else None
        return cls(folder, meta, tokens, offsets, weights)

    def __len__(self) -> int:
        return len(self.offsets) // 2

    def pair(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids (int32) of source and target of one pair. Raises IndexError out of range."""
        if not 0 <= index < len(self):
            raise IndexError(f"pair {index} of a store of {len(self)}")
        start, middle, end = (int(place) for place in self.offsets[2 * index : 2 * index + 3])
        return self.tokens[start:middle].astype(np.int32), self.tokens[middle:end].astype(np.int32)

    def gather(self, sequences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids int32 of sequences (int64 numbers), one after another, and their lengths int64."""
        starts = np.asarray(self.offsets[sequences])
        lengths = self.offsets[sequences + 1] - starts
        ends = np.cumsum(lengths)
        places = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)
        return self.tokens[places].astype(np.int32), lengths

    def lengths(self) -> np.ndarray:
        """int32 [n, 2]: number of ids of each source and target, without bos and eos."""
        return np.diff(self.offsets).astype(np.int32).reshape(-1, 2)


def _map(path: Path, dtype: str, count: int) -> np.ndarray:
    expected = count * np.dtype(dtype).itemsize
    try:
        size = path.stat().st_size
        if size != expected:
            raise DataError(
                f"{path}: {size:,} bytes, expected {expected:,}: cut short or damaged; prepare the data again"
            )
        return np.zeros(0, dtype) if count == 0 else np.memmap(path, dtype, "r", shape=(count,))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; prepare the data again") from None
