"""Gradient accumulation: micro-batches give the update of the undivided batch in less memory, resumed to the bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqlib.core.rng import Generator
from seqlib.data.batch import Batch
from seqlib.data.plan import PlannedBatch
from seqlib.models import lstm_seq2seq, transformer
from seqlib.optim import AdamW
from seqlib.problems.spec import ProblemSpec
from seqlib.train import run
from seqlib.train.setup import make_config
from seqlib.train.step import CompiledStep
from tests.train.conftest import Stop, same_checkpoint

SPEC = ProblemSpec(source_vocab=40, target_vocab=40)


def _batch(rows: int, length: int, seed: int) -> Batch:
    """Rows of all lengths; the last one fills up and has nothing to learn."""
    draw = np.random.default_rng(seed)
    src, tgt_in = (draw.integers(3, 40, (rows, length)).astype(np.int32) for _ in range(2))
    lengths = draw.integers(1, length + 1, rows).astype(np.int32)
    tgt_out = np.where(np.arange(length) < lengths[:, None], np.roll(tgt_in, -1, 1), -1).astype(np.int32)
    tgt_out[-1] = -1
    return Batch(src, lengths, tgt_in, tgt_out, lengths)


def _cut(batch: Batch, parts: int) -> list[Batch]:
    rows = len(batch.src) // parts
    return [Batch(*(a if a is None else a[n * rows : (n + 1) * rows] for a in batch)) for n in range(parts)]


def _model(name: str, d_ff: int) -> Any:
    if name == "transformer":
        sizes, off = {"d_model": 32, "d_ff": d_ff, "heads": 2}, {"dropout": 0.0, "attention_dropout": 0.0}
        config = transformer.TransformerConfig(encoder_layers=1, decoder_layers=1, ff_dropout=0.0, **sizes, **off)
        return transformer.build(config, SPEC, Generator(3))
    config = lstm_seq2seq.LSTMSeq2SeqConfig(layers=2, d_model=32, hidden=32, dropout=0.0)
    return lstm_seq2seq.build(config, SPEC, Generator(3))


def _trained(
    accumulate: int, batches: list[Batch], name: str = "transformer", d_ff: int = 64
) -> tuple[Any, Any, list[tuple[float, ...]], CompiledStep]:
    model = _model(name, d_ff).train()
    optimizer = AdamW(model.trainable_parameters(), lr=1e-2, eps=1e-6, clip_norm=0.5)
    step = CompiledStep(model, optimizer, Generator(1), 0.1, accumulate)
    figures = [tuple(value.item() for value in step(_cut(batch, accumulate))) for batch in batches]
    return model, optimizer, figures, step


@pytest.mark.parametrize("name", ["transformer", "lstm_seq2seq"])
@pytest.mark.parametrize("parts", [2, 4, 8])
def test_micro_batches_give_the_update_of_the_whole(parts: int, name: str) -> None:
    batches = [_batch(8, 12, seed) for seed in range(4)]
    model, optimizer, figures, whole = _trained(1, batches, name)
    other, other_optimizer, other_figures, divided = _trained(parts, batches, name)
    np.testing.assert_allclose(other_figures, figures, rtol=1e-5)
    for name, array in model.state_dict().items():
        np.testing.assert_allclose(other.state_dict()[name], array, rtol=1e-5, atol=1e-5, err_msg=name)
    assert float(other_optimizer.steps.numpy()) == float(optimizer.steps.numpy()) == 4
    assert len(whole.built) == 1 and len(divided.built) == 3


def test_micro_batches_need_less_memory() -> None:
    batches = [_batch(64, 24, 0)]
    *_, whole = _trained(1, batches, d_ff=2048)
    model, *_, divided = _trained(4, batches, d_ff=2048)
    need = max(program.arena_bytes for program, _ in divided.built)
    assert need < 0.5 * whole.built[0].program.arena_bytes
    gradients = sum(array.nbytes for array in model.state_dict().values())
    assert divided.built[-1].program.arena_bytes < gradients / 4, "the update holds no second set of gradients"


def test_a_sum_that_is_not_finite_is_skipped_and_forgotten() -> None:
    good = _batch(8, 12, 0)
    model, optimizer, _, step = _trained(2, [good])
    before, kept = model.state_dict(), model.parameters()[0]
    kept.assign(np.full(kept.shape, np.nan, np.float32))
    assert not np.isfinite(step(_cut(good, 2))[2].item())
    kept.assign(before[kept.name])
    assert float(optimizer.steps.numpy()) == 1
    for name, array in before.items():
        assert np.array_equal(model.state_dict()[name], array), name
    assert np.isfinite(step(_cut(good, 2))[2].item())


def test_a_planned_batch_is_cut_by_rows() -> None:
    planned = PlannedBatch(np.arange(7), 10, 8, 12)
    parts = planned.cut(4)
    assert [part.indices.tolist() for part in parts] == [[0, 1, 2], [3, 4, 5], [6]]
    assert {part[1:] for part in parts} == {(3, 8, 12)}
    assert [part.rows for part in PlannedBatch(np.arange(2), 2, 8, 8).cut(5)] == [1, 1]
    assert planned.cut(1)[0].rows == 10


def test_an_accumulated_run_resumes_to_the_bit(settings: dict[str, Any], tmp_path: Path) -> None:
    settings["batch"] |= {"accumulate": 3}
    for name, callbacks in (("straight", []), ("halves", [Stop(5)])):
        run.train(make_config(settings | {"output_dir": str(tmp_path / name)}), callbacks)
    run.resume(tmp_path / "halves")
    same_checkpoint(tmp_path / "straight", tmp_path / "halves", 12)
