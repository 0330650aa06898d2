"""The key/value cache of incremental decoding, with beams that are reordered by an index and never copied.

B sentences, J beams a sentence, R = B·J rows (row b·J + j is beam j of sentence b), S source time, L longest target,
H key heads, K head width. Self-attention keys and
values lie as [B, L·J, H, K]: one block of J entries a time step, so a
step writes one contiguous block a sentence and the valid keys are always a prefix. `ancestry[r, t]` says which beam
wrote the entry that row r sees at time t; reordering beams permutes that index alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from seqlib.core import ops
from seqlib.core.tensor import Tensor, Variable
from seqlib.util.errors import ShapeError


class Cache(Protocol):
    """What decoding asks of a model's cache, whatever the model keeps in it."""

    def state_variables(self) -> dict[str, Variable]: ...
    def reorder(self, parents: Tensor) -> None: ...
    def take_over(self, other: Any, keep: np.ndarray, parents: np.ndarray, used: int) -> None: ...


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


class DecodeCache:
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
        if rows < 1 or sentences < 1 or rows % sentences:
            raise ShapeError(f"cache: rows: expected a multiple of the {sentences} sentences, got {rows}")
        self.layers, self.sentences, self.rows, self.beams = layers, sentences, rows, rows // sentences
        self.source_length, self.max_length = source_length, max_length
        self.heads, self.head_width = heads, head_width
        own = (sentences, 0 if state else max_length * self.beams, heads, head_width)
        cross = (sentences, source_length, heads, head_width)
        self.dtype = dtype
        self.self_k, self.self_v, self.cross_k, self.cross_v = (
            [Variable(np.zeros(shape, dtype), name=f"{name}.{i}") for i in range(layers) if shape[1]]
            for name, shape in (("self_k", own), ("self_v", own), ("cross_k", cross), ("cross_v", cross))
        )
        self.states = [Variable(np.zeros((rows, state), dtype), f"state.{i}") for i in range(layers) if state]
        self.source_lengths = Variable(np.ones(sentences, np.int32), name="source_lengths")
        self.ancestry: Variable | None = None
        if self.beams > 1 and not state:
            beam = np.arange(rows, dtype=np.int32) % self.beams
            self.ancestry = Variable(np.repeat(beam[:, None], max_length, axis=1), name="ancestry")

    def state_variables(self) -> dict[str, Variable]:
        """All storage, by name."""
        variables = [*self.self_k, *self.self_v, *self.cross_k, *self.cross_v, *self.states, self.source_lengths]
        if self.ancestry is not None:
            variables.append(self.ancestry)
        return {variable.name: variable for variable in variables}

    def times(self) -> Tensor:
        """The time step of every self-attention entry, int32 [L·J]."""
        column = ops.reshape(ops.arange(self.max_length), (self.max_length, 1))
        return ops.reshape(ops.broadcast_to(column, (self.max_length, self.beams)), (-1,))

    def reorder(self, parents: Tensor) -> None:
        """Row r goes on from the history of row ``parents[r]`` (int32 [R]), a beam of the same sentence.

        With one beam a sentence there is nothing to choose from, and nothing is done.
        """
        if tuple(parents.shape) != (self.rows,):
            raise ShapeError(f"cache: parents: expected shape ({self.rows},), got {tuple(parents.shape)}")
        moving = self.states if self.ancestry is None else [self.ancestry]
        for variable in moving if self.beams > 1 else ():
            variable.assign(ops.take(variable, parents, axis=0))

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

    def take_over(self, other: DecodeCache, keep: np.ndarray, parents: np.ndarray, used: int) -> None:
        """Copy sentences `keep` (int [A], positions in `other`) with their first `used` time steps into sentences 0 …
        A-1 of this cache, which has as many beams and room for A sentences, the steps and the source.

        `parents` int [R of other] is the reordering that other's rows still wait for. Only what is used is copied.
        """
        count, beams = len(keep), self.beams
        source = min(self.source_length, other.source_length)
        for kind, extent in (("self", used * beams), ("cross", source)):
            for part in ("k", "v"):
                pairs = zip(getattr(self, f"{kind}_{part}"), getattr(other, f"{kind}_{part}"), strict=True)
                for mine, theirs in pairs:
                    mine.storage()[:count, :extent] = theirs.data[keep, :extent]
        self.source_lengths.storage()[:count] = other.source_lengths.data[keep]
        rows = parents[(keep[:, None] * beams + np.arange(beams)).reshape(-1)]
        for mine, theirs in zip(self.states, other.states, strict=True):
            mine.storage()[: len(rows)] = theirs.data[rows]
        if self.ancestry is not None and other.ancestry is not None:
            self.ancestry.storage()[: len(rows), :used] = other.ancestry.data[rows, :used]
