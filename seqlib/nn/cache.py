"""The key/value cache of incremental decoding, with beams that are reordered by an index and never copied.

B sentences, J beams a sentence, R = B·J rows (row b·J + j is beam j of sentence b), S source time, L longest target,
H key heads, K head width. Self-attention keys and
values lie as [B, L·J, H, K]: one block of J entries a time step, so a
step writes one contiguous block a sentence and the valid keys are always a prefix. `ancestry[r, t]` says which beam
wrote the entry that row r sees at time t; reordering beams permutes that index alone.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from seqlib.core import ops
from seqlib.core.tensor import Tensor, Variable
from seqlib.util.errors import ShapeError


class Cache:
    """Fixed storage for decoding R `rows` of B `sentences`, J = R/B beams each; pass it in the `state` of compiled
    functions. What belongs to a sentence is shared by its beams, what belongs to a row moves with its beam. Raises
    ShapeError when R is no multiple of B."""

    def __init__(self, sentences: int, rows: int):
        if rows < 1 or sentences < 1 or rows % sentences:
            raise ShapeError(f"cache: rows: expected a multiple of the {sentences} sentences, got {rows}")
        self.sentences, self.rows, self.beams = sentences, rows, rows // sentences
        self._held: list[tuple[Variable, bool, int]] = []

    def _hold(self, name: str, start: np.ndarray, moves: bool = False, per_step: int = 0) -> Variable:
        """Storage [B, ...], or [R, ...] if it `moves`. Its second axis is time if a step writes `per_step` entries."""
        self._held.append((Variable(start, name=name), moves, per_step))
        return self._held[-1][0]

    def state_variables(self) -> dict[str, Variable]:
        """All storage, by name."""
        return {variable.name: variable for variable, *_ in self._held}

    def reorder(self, parents: Tensor) -> None:
        """Row r goes on from the history of row ``parents[r]`` (int32 [R]), a beam of the same sentence.

        With one beam a sentence there is nothing to choose from, and nothing is done.
        """
        if tuple(parents.shape) != (self.rows,):
            raise ShapeError(f"cache: parents: expected shape ({self.rows},), got {tuple(parents.shape)}")
        for variable, moves, _ in self._held:
            if moves and self.beams > 1:
                variable.assign(ops.take(variable, parents, axis=0))

    def take_over(self, other: "Cache", keep: np.ndarray, parents: np.ndarray, used: int) -> None:
        """Copy sentences `keep` (int [A], positions in `other`) with their first `used` time steps into sentences 0 …
        A-1 of this cache, which has as many beams and room for A sentences, the steps and the source.

        `parents` int [R of other] is the reordering that other's rows still wait for. Only what is used is copied.
        """
        rows = parents[(keep[:, None] * self.beams + np.arange(self.beams)).reshape(-1)]
        for (mine, moves, per_step), (theirs, *_) in zip(self._held, other._held, strict=True):
            chosen = rows if moves else keep
            if len(mine.shape) == 1:
                mine.storage()[: len(chosen)] = theirs.data[chosen]
                continue
            extent = used * per_step if per_step else min(mine.shape[1], theirs.shape[1])
            mine.storage()[: len(chosen), :extent] = theirs.data[chosen, :extent]


@dataclass(slots=True)
class StepPlace:
    """Where one step writes and what it may see; the same for all layers, so it is computed once a step."""

    position: Tensor
    """int32, 0-d: the time step"""
    index: Tensor
    """int32, 0-d: first entry to write"""
    lengths: Tensor
    """int32 [B]: entries written once the step has written its own"""
    bias: Tensor | None
    """float32 [B, 1, J, L·J]: 0 for a row's own history, -inf for other beams'; None for one beam. See `add_bias`."""

    def add_bias(self, bias: Tensor) -> None:
        """Add `bias` [H, 1, L·J] to the scores of all rows: by head and entry."""
        every = ops.reshape(bias, (1, *bias.shape))
        self.bias = every if self.bias is None else self.bias + every


class DecodeCache(Cache):
    """Fixed storage for `layers` decoder layers; pass it in the `state` of compiled functions.

    B `sentences` of `source_length` S, R `rows` of `max_length` L, J = R/B beams, H `heads` of `head_width` K.

    `self_k`, `self_v`: [B, L·J, H, K] a layer; `cross_k`, `cross_v`: [B, S, H, K] a layer, shared by the beams of a
    sentence, none for S = 0 (a model without a source); all in `dtype`. `source_lengths`: int32 [B];
    `ancestry`: int32 [R, L], absent for one beam. With `state` D, the decoder's own history is a state `states`
    [R, D] a layer, which is moved with its beam; then there is neither `self_k`, `self_v` nor `ancestry`.
    Raises ShapeError when R is no multiple of B.
    """

    def __init__(
        self,
        layers: int,
        sentences: int,
        rows: int,
        source_length: int,
        max_length: int,
        heads: int,
        head_width: int,
        dtype: Any = np.float32,
        state: int = 0,
    ):
        super().__init__(sentences, rows)
        self.layers, self.source_length, self.max_length = layers, source_length, max_length
        self.heads, self.head_width, self.dtype = heads, head_width, dtype
        own = (sentences, 0 if state else max_length * self.beams, heads, head_width)
        cross = (sentences, source_length, heads, head_width)
        self.self_k, self.self_v, self.cross_k, self.cross_v = (
            [self._hold(f"{name}.{i}", np.zeros(shape, dtype), per_step=step) for i in range(layers) if shape[1]]
            for name, shape, step in (
                ("self_k", own, self.beams),
                ("self_v", own, self.beams),
                ("cross_k", cross, 0),
                ("cross_v", cross, 0),
            )
        )
        moving = np.zeros((rows, state), dtype)
        self.states = [self._hold(f"state.{i}", moving.copy(), moves=True) for i in range(layers) if state]
        self.source_lengths = self._hold("source_lengths", np.ones(sentences, np.int32))
        self.ancestry: Variable | None = None
        if self.beams > 1 and not state:
            beam = np.repeat(np.arange(rows, dtype=np.int32)[:, None] % self.beams, max_length, axis=1)
            self.ancestry = self._hold("ancestry", beam, moves=True, per_step=1)

    def times(self) -> Tensor:
        """The time step of every self-attention entry, int32 [L·J]."""
        column = ops.reshape(ops.arange(self.max_length), (self.max_length, 1))
        return ops.reshape(ops.broadcast_to(column, (self.max_length, self.beams)), (-1,))

    def place(self, position: Tensor) -> StepPlace:
        """Prepare the step at `position` (int32, 0-d): each row owns its entry there, and sees its own history."""
        index = position * self.beams
        lengths = ops.broadcast_to(ops.reshape(index + self.beams, shape=(1,)), shape=(self.sentences,))
        if self.ancestry is None:
            return StepPlace(position, index, lengths, None)
        beam = ops.arange(self.beams, dtype="int32")
        own = ops.reshape(ops.broadcast_to(beam, shape=(self.sentences, self.beams)), shape=(self.rows, 1))
        self.ancestry.assign(ops.update_slice(self.ancestry, own, position, axis=1))
        history = ops.reshape(self.ancestry, shape=(self.sentences, self.beams, self.max_length, 1))
        bias = ops.where(ops.equal(history, beam), 0.0, -float("inf"))
        return StepPlace(
            position,
            index,
            lengths,
            ops.reshape(bias, shape=(self.sentences, 1, self.beams, self.max_length * self.beams)),
        )

    def fill(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Put the keys and values [B,P,H,K] of a text's first P tokens into a layer, for every beam."""
        shape = (self.sentences, k.shape[1] * self.beams, self.heads, self.head_width)
        for variable, x in ((self.self_k[layer], k), (self.self_v[layer], v)):
            alike = ops.broadcast_to(ops.expand_dims(x, 2), (*x.shape[:2], self.beams, *x.shape[2:]))
            start = ops.zeros((), "int32")
            variable.assign(ops.update_slice(variable, ops.reshape(alike, shape), start, axis=1))
