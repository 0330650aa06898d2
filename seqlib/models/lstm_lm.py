"""LSTM language model (Zaremba, Sutskever and Vinyals 2014), with tied weights (Press and Wolf 2017; Inan et al. 2017)
and weight dropping (Merity, Keskar and Socher 2017).

B rows, T time, D embedding width, H state width, V vocabulary, R decoding rows.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from seqlib.core import ops
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tape import no_grad
from seqlib.core.tensor import Tensor, as_tensor
from seqlib.data.batch import TextBatch
from seqlib.models.preset import presets
from seqlib.nn.dropout import Dropout, check_config
from seqlib.nn.embedding import Embedding
from seqlib.nn.recurrent import LSTMCell, State, StateCache
from seqlib.nn.token_model import TokenModel
from seqlib.util.errors import ShapeError

__all__ = ["LSTMLM", "LSTMLMConfig", "build", "characters", "large", "medium"]

TASK = "language_model"


class LSTMLMConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sizes and rates, by default Zaremba et al.'s medium model; raises UsageError for values that don't fit
    together."""

    vocab: int = 10000
    """Tokens."""
    layers: int = 2
    d_model: int = 650
    """D, of the embedding and of what the output weights read."""
    hidden: int = 650
    """H, of the layers' states; the last layer has D where the output weights are tied."""
    embedding_dropout: float = 0.5
    """Of embedded tokens."""
    dropout: float = 0.5
    """Between layers."""
    output_dropout: float = 0.5
    """Of the last layer's states."""
    weight_dropout: float = 0.0
    """Of the recurrent weights, the same elements in all steps of a window."""
    tie_output: bool = True
    """The output weights are the embedding."""
    max_length: int = 8192
    """Longest text in tokens that is read or written at once; what goes on longer begins anew with its later half."""

    def __post_init__(self) -> None:
        rates = "embedding_dropout dropout output_dropout weight_dropout"
        check_config(self, "lstm_lm", "vocab layers d_model hidden", rates)

    @property
    def widths(self) -> list[int]:
        """Of each layer's state."""
        return [self.hidden] * (self.layers - 1) + [self.d_model if self.tie_output else self.hidden]


class LSTMLM(TokenModel):
    """The model of a `config` over token ids, initial weights drawn from `generator`: see `LSTMCell` and `Embedding`;
    the output weights, where they are not the embedding, by Xavier.

    A text is learnt in windows of T tokens, B rows side by side. After `carry` each training step starts from the
    states in which the step before it ended, through which no gradient flows (truncated backpropagation through time).
    """

    recurrent = True
    derived = ("carried",)

    def __init__(self, config: LSTMLMConfig, generator: Generator):
        self.config = config
        widths = config.widths
        with use_generator(generator):
            self.embedding = Embedding(config.vocab, config.d_model)
            sizes = zip([config.d_model, *widths[:-1]], widths, strict=True)
            self.cells = [LSTMCell(size, width, config.weight_dropout) for size, width in sizes]
            self.output_from(self.embedding, config.tie_output, widths[-1])
        self.embedding_dropout = Dropout(config.embedding_dropout)
        self.dropout = Dropout(config.dropout)
        self.output_dropout = Dropout(config.output_dropout)
        self.carried: list[Any] = []
        self.name_parameters()

    def _advance(self, tokens: Any, states: Any, lengths: Any = None) -> tuple[Tensor, list[State]]:
        """tokens int32 [B,T] → the last layer's states, dropped, time first [T,B,·], and each layer's last state."""
        x = self.embedding_dropout(self.embedding(ops.swapaxes(as_tensor(tokens), 0, 1)))
        found: list[State] = []
        for i, cell in enumerate(self.cells):
            state = None if states is None else tuple(s.astype(x.dtype) for s in states[i])
            y, state = cell(ops.swapaxes(x, 0, 1), state, lengths)
            found.append(state)
            dropout = self.dropout if i + 1 < len(self.cells) else self.output_dropout
            x = dropout(ops.swapaxes(y, 0, 1))
        return x, found

    def forward(self, tokens: Any, states: list[State] | None = None) -> tuple[Tensor, list[State]]:
        """tokens int32 [B,T], and the states (h, c) [B,·] of each layer to start from (None: zeros) → logits [B,T,V]
        and each layer's last state."""
        hidden, states = self._advance(tokens, states)
        return self.logits(ops.swapaxes(hidden, 0, 1)), states

    def rows(self, batch: TextBatch) -> tuple[Tensor, Tensor, Tensor | None]:
        """hidden [T,B,D] of a batch, with its targets.

        In training the states are carried (see `carry`), otherwise they start from zeros.
        Raises ShapeError for another number of rows than is carried."""
        tokens = as_tensor(batch.inputs)
        carried = self.carried if self.training else []
        if carried and tokens.shape[0] != carried[0].shape[0]:
            raise ShapeError(f"lstm_lm: batch: expected the {carried[0].shape[0]} rows carried, got {tokens.shape[0]}")
        start = [(h.detach(), c.detach()) for h, c in zip(carried[::2], carried[1::2], strict=True)] or None
        hidden, states = self._advance(tokens, start)
        for variable, last in zip(carried, (s for state in states for s in state), strict=False):
            variable.assign(last.detach())
        return hidden, ops.swapaxes(as_tensor(batch.targets), 0, 1), None

    # ---- states that go on

    def carry(self, rows: int) -> None:
        """From now on training steps over `rows` B rows go on from each other's states, at first zeros; 0: they do not.

        Call it after `compute_in` and before a step is compiled. `carried` holds h and c of each layer in turn, [B,·],
        to be saved with a checkpoint; `forget` sets them to zeros where a text begins anew."""
        cache = StateCache(rows, rows, self.config.widths, self.compute or np.float32) if rows else None
        device = self.output_weight.device
        self.carried = [] if cache is None else [v.to(device) for state in cache.states for v in state]

    def forget(self) -> None:
        """Set the carried states to zeros."""
        for variable in self.carried:
            variable.assign(np.zeros(variable.shape, variable.dtype))

    # ---- one token at a time

    def new_cache(self, sentences: int, source_length: int, rows: int, max_length: int) -> StateCache:
        """States of zeros for R `rows` of as many or fewer `sentences`. `source_length` and `max_length` are not read:
        there is no source, and texts may have any length."""
        return StateCache(sentences, rows, self.config.widths, self.compute or np.float32)

    def prefill(self, tokens: Any, cache: StateCache) -> None:
        """Read the first tokens int32 [B,P] of as many texts, from zeros; writes the cache in place, for every beam."""
        if not tokens.shape[1]:
            cache.keep([(ops.zeros_like(h), ops.zeros_like(c)) for h, c in cache.states])
            return
        _, states = self._advance(tokens, None)
        pick = as_tensor(np.arange(cache.rows, dtype=np.int32) // cache.beams)
        cache.keep([(ops.take(h, pick, axis=0), ops.take(c, pick, axis=0)) for h, c in states])

    def step(self, tokens: Any, position: Any, cache: StateCache) -> Tensor:
        """tokens int32 [R] → logits [R,V] of what follows. Writes the cache in place.

        What came before is in the cache, so `position` is not read; it is there as every model has it.
        """
        with no_grad():
            hidden, states = self._advance(ops.expand_dims(as_tensor(tokens), 1), cache.states)
            cache.keep(states)
            return self.logits(hidden[0])


def build(config: LSTMLMConfig, spec: Any, generator: Generator) -> LSTMLM:
    """A model of these sizes (`config`, but for `vocab`) for a `spec` (a `ProblemSpec`), drawn from `generator`."""
    return LSTMLM(msgspec.structs.replace(config, vocab=spec.target_vocab), generator)


# ---- presets


medium, large, characters = presets(__name__, LSTMLMConfig, "medium", "large", "characters")
