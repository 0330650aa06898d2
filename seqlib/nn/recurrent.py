"""Recurrent layers, the attention that goes with them, and the cache of their decoding.

B batch, T time (S source time), D input width, H state width, M memory width, A width of an attention's hidden layer,
R decoding rows (B sentences times J beams; row b·J + j is beam j of sentence b).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import numpy as np

from seqlib.core import dtypes, ops
from seqlib.core.ops.scan import scan
from seqlib.core.tape import grad_enabled
from seqlib.core.tensor import Parameter, Tensor, Variable
from seqlib.nn import init
from seqlib.nn.cache import Cache
from seqlib.nn.dropout import Dropout, check_rate
from seqlib.nn.linear import Linear
from seqlib.nn.module import Module
from seqlib.util.errors import ShapeError, unknown

State = tuple[Tensor, ...]
"""Of a layer, [B,H] each: h and c of an LSTM, h of a GRU."""


class Cell(Protocol):
    """One layer in one direction: over whole sequences, and a token at a time."""

    def __call__(
        self, x: Tensor, state: State | None = None, lengths: Tensor | None = None, reverse: bool = False
    ) -> tuple[Tensor, State]: ...
    def gates(self, x: Tensor) -> Tensor: ...
    def advance(self, gates: Tensor, state: State) -> State: ...
    def scope(self) -> Any: ...


class LSTMCell(Module):
    """One layer of LSTM in one direction, `in_features` D → `features` H; see `ops.lstm` for the formula. Gates are in
    the order i, f, g, o.

    `weight_x` [4H,D] is drawn by Xavier, `weight_h` [4H,H] from U(-1/√H, 1/√H); `bias` [4H] is 0, and 1 for the forget
    gate, so that a new layer remembers (Jozefowicz et al. 2015). In training `weight_dropout` zeroes elements of
    `weight_h`, the same ones in all steps of a call (DropConnect; Merity, Keskar and Socher 2017).
    """

    multiplied = ("weight_x", "weight_h", "bias")

    def __init__(self, in_features: int, features: int, weight_dropout: float = 0.0):
        self.features = features
        self.weight_dropout = Dropout(check_rate(weight_dropout, "weight_dropout"))
        bound = features**-0.5
        self.weight_x = Parameter(init.xavier_uniform((4 * features, in_features)))
        self.weight_h = Parameter(init.uniform((4 * features, features), -bound, bound))
        bias = init.zeros((4 * features,)).copy()  # under meta() it can only be read
        bias[features : 2 * features] = 1.0
        self.bias = Parameter(bias)

    def forward(
        self, x: Tensor, state: State | None = None, lengths: Tensor | None = None, reverse: bool = False
    ) -> tuple[Tensor, State]:
        """x [B,T,D], lengths int32 [B] (None: all T) → outputs [B,T,H], 0 beyond a length, and the last (h, c)."""
        h, c = state if state is not None else (None, None)
        w_x, w_h, bias = (w.as_dtype(x.dtype) for w in (self.weight_x, self.weight_h, self.bias))
        y, h, c = ops.lstm(x, w_x, self.weight_dropout(w_h), bias, h, c, lengths, reverse)
        return y, (h, c)

    def gates(self, x: Tensor) -> Tensor:
        """What the inputs x [R,D] give the gates: [R,4H]."""
        return ops.matmul(x, self.weight_x.as_dtype(x.dtype), transpose_b=True) + self.bias.as_dtype(x.dtype)

    def advance(self, gates: Tensor, state: State) -> State:
        """One token a row: `gates` of its input [R,4H], h and c [R,H] → the next h and c."""
        return ops.lstm_step(gates, self.weight_dropout(self.weight_h.as_dtype(gates.dtype)), *state)


class GRUCell(Module):
    """One layer of GRU in one direction, `in_features` D → `features` H; see `ops.gru` for the formula. Gates are in
    the order r, z, n.

    `weight_x` [3H,D] is drawn by Xavier, `weight_h` [3H,H] from U(-1/√H, 1/√H); `bias_x` and `bias_h` [3H] are 0.
    """

    multiplied = ("weight_x", "weight_h", "bias_x", "bias_h")

    def __init__(self, in_features: int, features: int):
        self.features = features
        bound = features**-0.5
        self.weight_x = Parameter(init.xavier_uniform((3 * features, in_features)))
        self.weight_h = Parameter(init.uniform((3 * features, features), -bound, bound))
        self.bias_x = Parameter(init.zeros((3 * features,)))
        self.bias_h = Parameter(init.zeros((3 * features,)))

    def forward(
        self, x: Tensor, state: State | None = None, lengths: Tensor | None = None, reverse: bool = False
    ) -> tuple[Tensor, State]:
        """x [B,T,D], lengths int32 [B] (None: all T) → outputs [B,T,H], 0 beyond a length, and the last (h,)."""
        h = None if state is None else state[0]
        w_x, w_h, b_x, b_h = (w.as_dtype(x.dtype) for w in (self.weight_x, self.weight_h, self.bias_x, self.bias_h))
        y, h = ops.gru(x, w_x, w_h, b_x, b_h, h, lengths, reverse)
        return y, (h,)

    def gates(self, x: Tensor) -> Tensor:
        """What the inputs x [R,D] give the gates: [R,3H]."""
        return ops.matmul(x, self.weight_x.as_dtype(x.dtype), transpose_b=True) + self.bias_x.as_dtype(x.dtype)

    def advance(self, gates: Tensor, state: State) -> State:
        """One token a row: `gates` of its input [R,3H], h [R,H] → the next h."""
        w_h, b_h = (w.as_dtype(gates.dtype) for w in (self.weight_h, self.bias_h))
        return (ops.gru_step(gates, w_h, b_h, *state),)


class Recurrent(Module):
    """Layers of one kind of cell, each over the outputs of the one below, with `dropout` between them: LSTM and GRU.

    There are `layers` of them; the first reads `in_features` D, each gives `features` H in a direction.
    With `bidirectional` every layer also reads backwards: outputs and states are the two directions side by side, 2H
    wide (Schuster and Paliwal 1997).
    """

    def __init__(
        self,
        cell: Callable[[int, int], Cell],
        in_features: int,
        features: int,
        layers: int,
        bidirectional: bool,
        dropout: float,
    ):
        width = 2 * features if bidirectional else features
        sizes = [in_features] + [width] * (layers - 1)
        self.cells = [cell(size, features) for size in sizes]
        self.reverse_cells = [cell(size, features) for size in sizes] if bidirectional else []
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, states: list[State] | None = None
    ) -> tuple[Tensor, list[State]]:
        """x [B,T,D], lengths int32 [B] (None: all T), states of each layer (None: zeros; not for two directions) →
        outputs [B,T,H] (2H), 0 beyond a length, and each layer's last state. Raises ShapeError for wrong `states`."""
        if states is not None and (self.reverse_cells or len(states) != len(self.cells)):
            raise ShapeError(
                f"{type(self).__name__}: states: expected {len(self.cells)} of one direction, got {len(states)}"
            )
        found: list[State] = []
        for i, cell in enumerate(self.cells):
            x = x if i == 0 else over_time(self.dropout, x)
            y, state = cell(x, None if states is None else states[i], lengths)
            if self.reverse_cells:
                back, other = self.reverse_cells[i](x, None, lengths, reverse=True)
                y = ops.concatenate([y, back], axis=-1)
                state = tuple(ops.concatenate(pair, axis=-1) for pair in zip(state, other, strict=True))
            x = y
            found.append(state)
        return x, found

    def step(self, x: Tensor, states: list[State]) -> tuple[Tensor, list[State]]:
        """One token a row: x [R,D] → outputs [R,H] and each layer's next state. One direction only."""
        return self.advance(self.cells[0].gates(x), states)

    def advance(self, gates: Tensor, states: list[State]) -> tuple[Tensor, list[State]]:
        """`step` from what the inputs give the first layer's gates, [R,4H]."""
        found: list[State] = []
        for i, (cell, state) in enumerate(zip(self.cells, states, strict=True)):
            with cell.scope():
                gates = cell.gates(self.dropout(found[-1][0])) if i else gates
                found.append(cell.advance(gates, state))
        return found[-1][0], found


def over_time(fn: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """fn of x [B,T,…], elementwise, with time first inside: recurrent layers' results lie so, and nothing is copied."""
    return ops.swapaxes(fn(ops.swapaxes(x, 0, 1)), 0, 1)


class LSTM(Recurrent):
    """Layers of `LSTMCell`; see `Recurrent`. Each layer's state is (h, c)."""

    def __init__(
        self, in_features: int, features: int, layers: int = 1, bidirectional: bool = False, dropout: float = 0.0
    ):
        super().__init__(LSTMCell, in_features, features, layers, bidirectional, dropout)


class GRU(Recurrent):
    """Layers of `GRUCell`; see `Recurrent`. Each layer's state is (h,)."""

    def __init__(
        self, in_features: int, features: int, layers: int = 1, bidirectional: bool = False, dropout: float = 0.0
    ):
        super().__init__(GRUCell, in_features, features, layers, bidirectional, dropout)


class SSRU(Module):
    """The simpler simple recurrent unit (Kim et al. 2019), `features` D wide: with f = σ(W_f x + b_f) the state is
    c' = f · c + (1 - f) · W x, the output relu(c'). Both products are of the inputs alone; c begins as 0.

    `forget_proj` holds W_f and b_f, `in_proj` W.
    """

    def __init__(self, features: int):
        self.in_proj = Linear(features, features, bias=False)
        self.forget_proj = Linear(features, features)

    def forward(self, x: Tensor) -> Tensor:
        """x [B,T,D] → outputs [B,T,D]."""
        ahead = ops.swapaxes(x, 0, 1)
        steps = (ops.sigmoid(self.forget_proj(ahead)), self.in_proj(ahead))

        def step(c: Tensor, at: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            c = _gated(c, *at)
            return c, c

        _, states = scan(step, ops.zeros((x.shape[0], x.shape[2]), x.dtype), steps)
        return ops.swapaxes(ops.relu(states), 0, 1)

    def step(self, x: Tensor, state: Variable) -> Tensor:
        """One token for each of J beams: x [B,J,D] → outputs [B,J,D]; the state [B·J,D] goes on in place."""
        rows = ops.reshape(x, state.shape)
        state.assign(_gated(state, ops.sigmoid(self.forget_proj(rows)), self.in_proj(rows)))
        return ops.reshape(ops.relu(state), x.shape)


def _gated(c: Tensor, f: Tensor, x: Tensor) -> Tensor:
    return f * c + (1.0 - f) * x


class LuongAttention(Module):
    """Multiplicative attention (Luong et al. 2015): score(q, m) = qᵀ W m ("general"), or qᵀ m without W ("dot").

    Queries and memory have one width M, `features`. Raises UsageError for another `score`.
    """

    def __init__(self, features: int, score: Literal["general", "dot"] = "general"):
        if score not in ("general", "dot"):
            raise unknown("score", score, ("general", "dot"))
        self.features = features
        self.key_features = features
        self.key_proj = Linear(features, features, bias=False) if score == "general" else None

    def keys(self, memory: Tensor) -> Tensor:
        """What the scores need of memory [B,S,M], made once: [B,S,M]."""
        with self.scope():
            return memory if self.key_proj is None else self.key_proj(memory)

    def forward(self, query: Tensor, keys: Tensor, memory: Tensor, lengths: Tensor | None = None) -> Tensor:
        """query [B,T,M], keys and memory [B,S,M], lengths int32 [B] of the memory → context [B,T,M]."""
        heads = (ops.expand_dims(x, 2) for x in (query, keys, memory))
        return ops.squeeze(ops.attention(*heads, lengths=lengths, scale=1.0), 2)

    def weights(self, query: Tensor, keys: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The weights that `forward` gives the memory: [B,T,S], rows sum to 1."""
        return _softmax(ops.matmul(query, keys, transpose_b=True), lengths)


class BahdanauAttention(Module):
    """Additive attention (Bahdanau et al. 2015): score(q, m) = vᵀ tanh(W q + U m).

    Queries have `query_features` Q, memory `memory_features` M, and W q `features` A."""

    multiplied = ("score",)

    def __init__(self, query_features: int, memory_features: int, features: int):
        self.key_features = features
        self.query_proj = Linear(query_features, features, bias=True)
        self.key_proj = Linear(memory_features, features, bias=False)
        self.score = Parameter(init.xavier_uniform((1, features))[0])

    def keys(self, memory: Tensor) -> Tensor:
        """What the scores need of memory [B,S,M], made once: [B,S,A]."""
        with self.scope():
            return self.key_proj(memory)

    def forward(self, query: Tensor, keys: Tensor, memory: Tensor, lengths: Tensor | None = None) -> Tensor:
        """query [B,T,Q], keys [B,S,A], memory [B,S,M], lengths int32 [B] of the memory → context [B,T,M]."""
        if grad_enabled():
            return ops.matmul(self.weights(query, keys, lengths), memory)
        # Attention with products of 0 and the scores as its bias: sums then run over a sentence's own length.
        nothing = ops.zeros((*query.shape[:2], 1, memory.shape[2]), memory.dtype)
        values = ops.expand_dims(memory, 2)
        context = ops.attention(
            nothing, values, values, bias=ops.expand_dims(self._scores(query, keys), 1), lengths=lengths
        )
        return ops.squeeze(context, 2)

    def weights(self, query: Tensor, keys: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The weights that `forward` gives the memory: [B,T,S], rows sum to 1."""
        return _softmax(self._scores(query, keys), lengths)

    def _scores(self, query: Tensor, keys: Tensor) -> Tensor:
        return ops.additive_scores(self.query_proj(query), keys, self.score.as_dtype(keys.dtype))


def _softmax(scores: Tensor, lengths: Tensor | None) -> Tensor:
    """Weights of scores [B,T,S] over the first `lengths` of S."""
    if lengths is not None:
        limits = ops.reshape(lengths, shape=(-1, 1, 1))
        scores = ops.where(ops.less(ops.arange(scores.shape[2]), limits), scores, -float("inf"))
    return ops.softmax(scores, axis=-1)


class StateCache(Cache):
    """Fixed storage of the states of a recurrent decoder; pass it in the `state` of compiled functions.

    R `rows` of B `sentences`, J = R/B beams; `h`, `c`: [R,H] in `dtype` for each layer, H of `widths`. The state of a
    row is small, so beams are reordered by moving it. Raises ShapeError when R is no multiple of B.
    """

    def __init__(self, sentences: int, rows: int, widths: Sequence[int], dtype: Any = np.float32):
        super().__init__(sentences, rows)
        self.h, self.c = (
            [self._hold(f"{name}.{i}", _zeros((rows, width), dtype), moves=True) for i, width in enumerate(widths)]
            for name in "hc"
        )

    @property
    def states(self) -> list[State]:
        """(h, c) of each layer."""
        return list(zip(self.h, self.c, strict=True))

    def keep(self, states: Sequence[State]) -> None:
        """Write (h, c) of each layer."""
        for (h, c), h_cache, c_cache in zip(states, self.h, self.c, strict=True):
            h_cache.assign(h)
            c_cache.assign(c)


class RecurrentCache(StateCache):
    """`StateCache` of a decoder with attention: R `rows` of B `sentences`, all layers of one width `state`.

    `source_length` is S at most; `feed`: [R,F], what a step hands to the next beside the states (absent for F = 0).
    `keys` [B,S,A], `memory` [B,S,M] and `source_lengths` int32 [B] belong to the source, shared by a sentence's beams.
    """

    def __init__(
        self,
        layers: int,
        sentences: int,
        rows: int,
        source_length: int,
        *,
        state: int,
        feed: int,
        keys: int,
        memory: int,
        dtype: Any = np.float32,
    ):
        super().__init__(sentences, rows, [state] * layers, dtype)
        self.source_length = source_length
        self.feed = self._hold("feed", _zeros((rows, feed), dtype), moves=True) if feed else None
        self.keys = self._hold("keys", _zeros((sentences, source_length, keys), dtype))
        self.memory = self._hold("memory", _zeros((sentences, source_length, memory), dtype))
        self.source_lengths = self._hold("source_lengths", np.ones(sentences, np.int32))


def _zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return np.zeros(shape, dtypes.canonical(dtype))
