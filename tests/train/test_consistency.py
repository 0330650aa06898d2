"""R-Drop: what is trained, what it does, and who can't have it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqlib.core.rng import Generator, use_generator
from seqlib.core.tensor import Tensor, tensor
from seqlib.data.batch import Batch
from seqlib.models import transformer
from seqlib.models.gpt2 import TextBatch
from seqlib.models.lstm_lm import LSTMLM, LSTMLMConfig
from seqlib.optim import AdamW
from seqlib.problems.spec import ProblemSpec
from seqlib.train import run
from seqlib.train.setup import make_config
from seqlib.train.step import CompiledStep, objective
from seqlib.util.errors import UsageError


class Two:
    """A model that gives one set of logits, then the other."""

    def __init__(self, *logits: np.ndarray, weights: np.ndarray | None = None) -> None:
        self._logits, self._weights = [tensor(x) for x in logits], None if weights is None else tensor(weights)

    def scores(self, targets: np.ndarray) -> tuple[Tensor, Tensor, Tensor | None]:
        return self._logits.pop(0), tensor(targets), self._weights


def by_hand(a: np.ndarray, b: np.ndarray, targets: np.ndarray, weights: np.ndarray, alpha: float) -> float:
    """As the paper has it, halved: it adds up the losses of both passes."""
    p, q = (x - np.log(np.exp(x).sum(1, keepdims=True)) for x in (a, b))
    total = 0.0
    for i, t in enumerate(targets):
        if t >= 0:
            nll = -p[i, t] - q[i, t]
            kl = (np.exp(p[i]) * (p[i] - q[i])).sum() + (np.exp(q[i]) * (q[i] - p[i])).sum()
            total += weights[i] * (nll + alpha * kl / 2) / 2
    return total


@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_both_cross_entropies_and_both_divergences(weighted: bool) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 6, 5)) * 3
    targets = np.array([1, -1, 4, 0, -1, 2], np.int32)
    weights = rng.random(6) if weighted else None
    total, weight = objective(Two(a, b, weights=weights), targets, 0.0, 3.0)  # type: ignore[arg-type]
    each = np.ones(6) if weights is None else weights
    assert total.item() == pytest.approx(by_hand(a, b, targets, each, 3.0))
    assert weight.item() == pytest.approx(each[targets >= 0].sum())


def _batch(rows: int = 6, time: int = 7) -> Batch:
    rng = np.random.default_rng(1)
    lengths = rng.integers(2, time, rows).astype(np.int32)
    src, target = rng.integers(4, 40, (2, rows, time)).astype(np.int32)
    out = np.where(np.arange(time) < lengths[:, None], target, -1).astype(np.int32)
    return Batch(src, lengths, target, out, lengths)


def _model(dropout: float) -> Any:
    spec = ProblemSpec(source_vocab=40, target_vocab=40, shared_vocab=True)
    off: dict[str, Any] = {"attention_dropout": 0.0, "ff_dropout": 0.0}
    config = transformer.TransformerConfig(
        d_model=32, encoder_layers=1, decoder_layers=1, heads=2, d_ff=64, dropout=dropout, **off
    )
    return transformer.build(config, spec, Generator(0)).train()


def test_without_dropout_it_is_the_loss() -> None:
    model, batch = _model(0.0), _batch()
    with use_generator(Generator(0)):
        plain, consistent = objective(model, batch, 0.1, 0.0), objective(model, batch, 0.1, 5.0)
    assert [x.item() for x in consistent] == pytest.approx([x.item() for x in plain], rel=1e-6)


def test_with_dropout_the_passes_differ() -> None:
    model, batch, found = _model(0.3), _batch(), []
    for alpha in (1e-9, 1.0, 2.0):
        with use_generator(Generator(3)):
            found.append(objective(model, batch, 0.0, alpha)[0].item())
    assert found[0] < found[1] and found[2] - found[1] == pytest.approx(found[1] - found[0], rel=1e-4)


def test_a_run_is_trained_with_it(tmp_path: Path) -> None:
    train: dict[str, Any] = {"problem": "translate_bulletin_ende", "train_steps": 2, "eval_every": 0, "report": False}
    losses = []
    for consistency in (0.0, 5.0):
        folder = tmp_path / str(consistency)
        settings = {
            **train,
            "optim": {"consistency": consistency},
            "hparams": {"dropout": 0.3},
            "output_dir": str(folder),
        }
        run.train(make_config({**settings, "data": {"cache_dir": str(tmp_path / "cache")}, "log_every": 1}))
        first = next(line for line in (folder / "log.jsonl").read_text().splitlines() if '"loss"' in line)
        losses.append(json.loads(first)["loss"])
    assert losses[0] < losses[1]
    with pytest.raises(UsageError, match=r"optim\.consistency -1.0 must be at least 0"):
        make_config({**train, "optim": {"consistency": -1.0}})


def test_micro_batches_add_up() -> None:
    found = []
    for parts in (1, 2):
        model, batch = _model(0.0), _batch()
        step = CompiledStep(model, AdamW(model.trainable_parameters()), Generator(1), 0.1, parts, 2.0)
        halves = [Batch(*(x[i : i + 3] for x in batch[:5])) for i in (0, 3)]
        found.append([x.item() for x in step([batch] if parts == 1 else halves)])
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_who_can_not_have_it() -> None:
    class Loss:
        def loss(self, batch: Any, smoothing: float) -> Any:
            raise AssertionError

    with pytest.raises(UsageError, match=r"optim\.consistency: Loss has no scores\(batch\).*set it to 0"):
        objective(Loss(), _batch(), 0.0, 1.0)
    model = LSTMLM(LSTMLMConfig(vocab=20, d_model=8, hidden=8, tie_output=False), Generator(0)).train()
    model.carry(2)
    ids = np.zeros((2, 3), np.int32)
    with pytest.raises(UsageError, match="LSTMLM carries its states"):
        objective(model, TextBatch(ids, ids), 0.0, 1.0)  # type: ignore[arg-type]
