"""The whole Transformer against a plain PyTorch one: logits, loss, every gradient, and four training steps."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from seqlib.core.compile import compile
from seqlib.core.grad import value_and_grad
from seqlib.core.rng import Generator
from seqlib.core.tensor import Tensor
from seqlib.data.batch import Batch
from seqlib.models.transformer import Transformer, TransformerConfig, build
from seqlib.optim import AdamW

ANSWERS = Path(__file__).parent / "answers"
PRE = {"encoder_layers": 2, "decoder_layers": 2, "d_model": 16, "d_ff": 24, "heads": 4}
POST = {
    "encoder_layers": 1,
    "decoder_layers": 1,
    "d_model": 12,
    "d_ff": 20,
    "heads": 2,
    "norm": "post",
    "activation": "gelu",
    "attention_bias": True,
    "tie_source": False,
    "tie_output": False,
}
CONFIGS = {"transformer_pre": (PRE, (19, 19, True), 0.1), "transformer_post": (POST, (17, 13, False), 0.0)}


def _parts(name: str) -> dict[str, Any]:
    with np.load(ANSWERS / f"{name}.npz") as stored:
        found: dict[str, Any] = {}
        for key in stored:
            group, _, rest = key.partition("/")
            if rest:
                found.setdefault(group, {})[rest] = stored[key]
            else:
                found[group] = stored[key]
    return found


def _model(name: str, weights: dict[str, Any]) -> Transformer:
    sizes, (source, target, shared), _ = CONFIGS[name]
    config = TransformerConfig(**sizes, dropout=0.0, attention_dropout=0.0, ff_dropout=0.0)
    spec = SimpleNamespace(source_vocab=source, target_vocab=target, shared_vocab=shared)
    model = build(config, spec, Generator(0))
    model.load(weights)
    return model


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_loss_and_gradients(name: str) -> None:
    a = _parts(name)
    model = _model(name, a["weight"])
    batch = Batch(**a["batch"], tgt_lengths=np.maximum((a["batch"]["tgt_out"] != -1).sum(1), 1).astype(np.int32))
    logits = model(batch.src, batch.src_lengths, batch.tgt_in).numpy()
    np.testing.assert_allclose(logits, a["logits"], rtol=2e-5, atol=2e-5)
    params = model.named_parameters()

    def loss() -> tuple[Tensor, Tensor]:
        return model.loss(batch, smoothing=CONFIGS[name][2])

    (total, weight), grads = value_and_grad(loss, params=params)()
    assert total.item() == pytest.approx(a["loss"][0], rel=1e-6)
    assert weight.item() == a["loss"][1]
    assert grads.keys() == a["grad"].keys()
    for key, expected in a["grad"].items():
        scale = np.abs(expected).max()
        np.testing.assert_allclose(grads[key].numpy(), expected, rtol=1e-4, atol=2e-5 * scale + 2e-6, err_msg=key)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", CONFIGS)
def test_four_steps(name: str, compiled: bool) -> None:
    a = _parts(name)
    model = _model(name, a["weight"])
    params = model.named_parameters()
    optimizer = AdamW(params, lr=0.003, betas=(0.9, 0.98), eps=1e-9, weight_decay=0.01, clip_norm=1.0)

    def step(batch: Batch) -> Tensor:
        def loss() -> Tensor:
            total, weight = model.loss(batch, smoothing=CONFIGS[name][2])
            return total / weight

        value, grads = value_and_grad(loss, params=params)()
        optimizer.update(grads)
        return value

    run = compile(step, state=[model, optimizer]) if compiled else step
    lengths = np.ones(len(a["batch"]["src"]), np.int32)
    tensors = Batch(**{k: Tensor(v) for k, v in a["batch"].items()}, tgt_lengths=Tensor(lengths))  # type: ignore[arg-type]
    losses = [run(tensors).item() for _ in a["losses"]]
    assert losses == pytest.approx(a["losses"].tolist(), rel=2e-5)
