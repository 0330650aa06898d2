"""What fusion does to the train steps of both models: fewer launches, no more memory, losses as good."""

from typing import Any

import numpy as np
import pytest

from seqlib.core.rng import Generator
from seqlib.data.batch import Batch
from seqlib.models import lstm_seq2seq, transformer
from seqlib.optim import AdamW
from seqlib.problems.spec import ProblemSpec
from seqlib.train.step import CompiledStep

MODELS: dict[str, Any] = {
    "transformer": (
        transformer,
        transformer.TransformerConfig(encoder_layers=2, decoder_layers=2, d_model=32, d_ff=64, heads=4),
    ),
    "lstm_seq2seq": (lstm_seq2seq, lstm_seq2seq.LSTMSeq2SeqConfig(d_model=32, hidden=32)),
}


def _step(module: Any, config: Any) -> tuple[CompiledStep, Batch]:
    spec = ProblemSpec(source_vocab=60, target_vocab=60)
    model = module.build(config, spec, Generator(0)).train()
    optimizer = AdamW(model.trainable_parameters(), lr=1e-3, clip_norm=1.0)
    rng, lengths = np.random.default_rng(0), np.array([9, 7, 4], np.int32)
    src, tgt_in, tgt_out = (rng.integers(3, 60, (3, 9)).astype(np.int32) for _ in range(3))
    return CompiledStep(model, optimizer, Generator(1), 0.1), Batch(src, lengths, tgt_in, tgt_out, lengths)


@pytest.mark.parametrize("name", MODELS)
def test_fusion_saves_launches_and_no_step_gets_worse(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, tuple[int, int, float]] = {}
    for fuse in ("0", "1"):
        monkeypatch.setenv("SEQLIB_FUSE", fuse)
        step, batch = _step(*MODELS[name])
        losses = [step([batch])[0].item() for _ in range(3)]
        program = step.built[-1].program
        found[fuse] = program.launch_count, program.arena_bytes, losses[-1]
    (plain, plain_bytes, plain_loss), (fused, fused_bytes, fused_loss) = found["0"], found["1"]
    assert fused < plain
    assert fused_bytes <= plain_bytes
    assert fused_loss == pytest.approx(plain_loss, rel=1e-5)
