"""Caches and compiled programs by size, made once and reused; the least recently used ones go first.

B sentences, J beams a sentence, R = B·J rows, S source time, L cache length, V vocabulary.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np

from seqlib.core import ops
from seqlib.core.backends import BACKENDS
from seqlib.core.compile import compile
from seqlib.core.tape import no_grad
from seqlib.core.tensor import Tensor
from seqlib.core.trace import collect_variables
from seqlib.nn.cache import Cache
from seqlib.util.errors import UsageError

SENTENCES = (1, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Sizes that a batch of sentences is padded to."""

_SHRUNK = (1, 8, 32, 128, 512)
"""Sizes that a batch shrinks to as sentences finish: few, since each is a program to compile."""

_LENGTHS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
_SOURCES = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)


class IncrementalModel(Protocol):
    """What a model offers to be decoded from one token at a time; see `seqlib.models.transformer`."""

    training: bool
    config: Any
    """Has `max_length`, the longest sentence of either side, special tokens included."""

    def encode(self, src: Any, src_lengths: Any) -> Any: ...
    def new_cache(self, sentences: int, source_length: int, rows: int, max_length: int) -> Any: ...
    def fill_cache(self, cache: Any, memory: Any, src_lengths: Any) -> None: ...
    def step(self, tokens: Any, position: Any, cache: Any) -> Tensor: ...
    def evaluating(self) -> Any: ...


class CausalModel(Protocol):
    """What a language model offers to be decoded from one token at a time; see `seqlib.models.gpt2`."""

    training: bool
    config: Any
    """Has `max_length`, the most tokens that a text may have."""

    def new_cache(self, sentences: int, source_length: int, rows: int, max_length: int) -> Any: ...
    def prefill(self, tokens: Any, cache: Any) -> None: ...
    def step(self, tokens: Any, position: Any, cache: Any) -> Tensor: ...
    def evaluating(self) -> Any: ...


class Size(NamedTuple):
    """What a cache and its programs are made for."""

    sentences: int
    beams: int
    source: int
    length: int


class Place:
    """One cache of a given size with the two programs that use it."""

    def __init__(self, model: Any, size: Size) -> None:
        self.size, self.model, self.device = size, model, _device(model)
        self.searches: dict[Any, Any] = {}
        """States of searches that lie beside the cache, by their rules; see `decode.device_search`."""
        rows = size.sentences * size.beams
        cache: Cache = model.new_cache(size.sentences, size.source, rows, size.length)

        def fill(src: Tensor, lengths: Tensor) -> None:
            with no_grad():
                model.fill_cache(cache, model.encode(src, lengths), lengths)

        def prefill(tokens: Tensor) -> None:
            with no_grad():
                model.prefill(tokens, cache)

        def step(tokens: Tensor, parents: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
            with no_grad():
                cache.reorder(parents)
                logits = model.step(tokens, position, cache)
                return logits, ops.logsumexp(logits, axis=-1)

        for variable in collect_variables(cache).values():
            variable.to(self.device)
        self.cache = cache
        self.bytes = _nbytes(cache)
        self._fill = compile(prefill if hasattr(model, "prefill") else fill, state=[model, cache])
        self._step = compile(step, state=[model, cache])

    def fill(self, *ids: np.ndarray) -> None:
        """Encode src int32 [B,S] with lengths int32 [B] and put its cross-attention keys and values in the cache; of a
        language model those of tokens int32 [B,P], which the rows begin with."""
        self._fill(*ids)

    def step(self, tokens: np.ndarray, parents: np.ndarray, position: int) -> tuple[np.ndarray, np.ndarray]:
        """tokens and parents int32 [R] at `position` → logits float32 [R,V] and their logsumexp float32 [R]."""
        logits, normalizers = self._step(tokens, parents, np.array(position, np.int32))
        return logits.on_host(), normalizers.on_host()  # fresh buffers of this call

    def take_over(self, other: "Place", keep: np.ndarray, parents: np.ndarray, used: int) -> None:
        """Copy sentences `keep` (int [A], positions in `other`) with `used` time steps from a cache of another size.

        `parents` int [R of other] is the reordering that other's rows still wait for. A must not exceed B.
        """
        with BACKENDS[self.device].running():
            self.cache.take_over(other.cache, keep, parents, used)


class Programs:
    """The places of one model. Holds at most `budget_bytes` of caches beside the ones in use."""

    def __init__(self, model: IncrementalModel | CausalModel, budget_bytes: int = 1 << 30) -> None:
        self.model = model
        self.budget_bytes = budget_bytes
        self.longest = int(model.config.max_length)
        self._flat = getattr(model, "recurrent", False)  # its cache has one size for all lengths
        self._places: OrderedDict[Size, Place] = OrderedDict()

    def size(self, sentences: int, beams: int, source: int, length: int) -> Size:
        """The smallest size on the ladders that holds this much."""
        return Size(
            rung(sentences, SENTENCES),
            beams,
            source and min(rung(source, _SOURCES), self.longest),
            self.longest if self._flat else min(rung(length, _LENGTHS), self.longest),
        )

    def cache_bytes(self, sizes: Iterable[Size]) -> int:
        """Bytes of the caches that are held once places of all these sizes have been used."""
        found = sorted((_nbytes(self.model.new_cache(s[0], s[2], s[0] * s[1], s[3])) for s in sizes), reverse=True)
        return min(sum(found), max(self.budget_bytes, sum(found[:2])))

    def place(self, sentences: int, beams: int, source: int, length: int) -> Place:
        """The smallest place on the ladders that holds this much; made at first use."""
        size = self.size(sentences, beams, source, length)
        found = self._places.pop(size, None) or Place(self.model, size)
        self._places[size] = found
        total = sum(place.bytes for place in self._places.values())
        while total > self.budget_bytes and len(self._places) > 2:
            _, oldest = self._places.popitem(last=False)
            total -= oldest.bytes
        return found


def _device(model: Any) -> str:
    """Where a model's parameters lie."""
    return next((v.device for v in collect_variables(model).values()), "cpu")


def _nbytes(cache: Any) -> int:
    return sum(variable.data.nbytes for variable in cache.state_variables().values())


def shrunk(need: int, sentences: int) -> int:
    """What a batch of size `sentences` shrinks to when `need` are left: the smallest size for them that is at most half
    of it, else the same."""
    return next((size for size in _SHRUNK if need <= size <= sentences // 2), sentences)


def rung(need: int, ladder: tuple[int, ...]) -> int:
    """The first step of the ladder that is at least `need`. Raises UsageError beyond the last one."""
    for step in ladder:
        if step >= need:
            return step
    raise UsageError(f"decoding: {need} is more than the largest supported size, {ladder[-1]}")
