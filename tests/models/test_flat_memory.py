"""Train steps of both models leave nothing behind: no object, no memory, eager and compiled, the collector off."""

from typing import Any

import numpy as np
import pytest

from seqlib.core.rng import Generator
from seqlib.data.batch import Batch
from seqlib.models import lstm_seq2seq, transformer
from seqlib.optim import AdamW
from seqlib.problems.spec import ProblemSpec
from seqlib.train.step import CompiledStep, training_step
from tests.core.growth import growth

RATES = {"dropout": 0.1, "attention_dropout": 0.1, "ff_dropout": 0.1}
MODELS: dict[str, Any] = {
    "transformer": (
        transformer,
        transformer.TransformerConfig(encoder_layers=1, decoder_layers=1, d_model=16, d_ff=32, heads=2, **RATES),
    ),
    "lstm_seq2seq": (lstm_seq2seq, lstm_seq2seq.LSTMSeq2SeqConfig(layers=1, d_model=16, hidden=16, dropout=0.1)),
}
SPEC = ProblemSpec(source_vocab=40, target_vocab=40)


def _batches() -> list[Batch]:
    """Two shapes, with sentences of different lengths; the words to predict are those that went in."""
    rng, found = np.random.default_rng(0), []
    for rows, length in ((6, 7), (4, 10)):
        src, tgt_in = (rng.integers(3, 40, (rows, length)).astype(np.int32) for _ in range(2))
        lengths = rng.integers(1, length + 1, rows).astype(np.int32)
        tgt_out = np.where(np.arange(length) < lengths[:, None], tgt_in, -1).astype(np.int32)
        found.append(Batch(src, lengths, tgt_in, tgt_out, lengths))
    return found


def _stays_flat(name: str, compiled: bool, steps: int) -> None:
    module, config = MODELS[name]
    model, generator, batches = module.build(config, SPEC, Generator(0)).train(), Generator(1), _batches()
    optimizer = AdamW(model.trainable_parameters(), lr=3e-3, clip_norm=1.0)
    one = training_step(model, optimizer, generator, 0.1)
    both = CompiledStep(model, optimizer, generator, 0.1)

    def step() -> float:
        losses = [(both([batch]) if compiled else one(batch))[:2] for batch in batches]
        return sum(total.item() / weight.item() for total, weight in losses)

    first = step()
    objects, resident = growth(step, warm_up=20, steps=steps // 2)
    assert step() < first
    assert objects <= 0, f"{objects} objects more after {steps} steps"
    assert resident < 2 * 2**20, f"{resident} bytes more after {steps} steps"


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", MODELS)
def test_a_hundred_steps_leave_nothing(name: str, compiled: bool) -> None:
    _stays_flat(name, compiled, 100)


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", MODELS)
def test_a_thousand_steps_leave_nothing(name: str, compiled: bool) -> None:
    _stays_flat(name, compiled, 1000)
