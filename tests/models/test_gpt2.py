"""GPT-2 against its formulas in NumPy; its sizes, its loss, a step of training, its program for a GPU."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

import seqlib
from seqlib.core.meta import meta
from seqlib.core.op import Meta
from seqlib.core.rng import Generator
from seqlib.data.batch import TextBatch
from seqlib.models.gpt2 import GPT2, SIZES, GPT2Config
from seqlib.optim import AdamW
from seqlib.train.step import CompiledStep, training_step
from seqlib.util.errors import ShapeError, UsageError

CONFIG = GPT2Config(vocab=31, layers=2, d_model=16, heads=2, max_length=12, dropout=0.0)
TOKENS = np.random.default_rng(0).integers(0, 31, (3, 9)).astype(np.int32)


def _norm(x: np.ndarray, w: dict[str, np.ndarray], name: str) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]


def _linear(x: np.ndarray, w: dict[str, np.ndarray], name: str) -> np.ndarray:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def _attention(x: np.ndarray, w: dict[str, np.ndarray], name: str, heads: int) -> np.ndarray:
    b, t, d = x.shape
    q, k, v = (
        _linear(x, w, f"{name}.{part}_proj").reshape(b, t, heads, d // heads).transpose(0, 2, 1, 3) for part in "qkv"
    )
    scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(d // heads)
    scores[..., np.triu(np.ones((t, t), bool), 1)] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    y = weights / weights.sum(-1, keepdims=True) @ v
    return _linear(y.transpose(0, 2, 1, 3).reshape(b, t, d), w, f"{name}.out_proj")


def _reference(tokens: np.ndarray, w: dict[str, np.ndarray]) -> np.ndarray:
    """The logits in float64."""
    x = w["embedding.weight"][tokens] + w["positions.weight"][: tokens.shape[1]]
    for i in range(CONFIG.layers):
        at = f"blocks.{i}"
        x = x + _attention(_norm(x, w, f"{at}.attention_norm"), w, f"{at}.attention", CONFIG.heads)
        h = _linear(_norm(x, w, f"{at}.feed_forward_norm"), w, f"{at}.feed_forward.in_proj")
        h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
        x = x + _linear(h, w, f"{at}.feed_forward.out_proj")
    return _norm(x, w, "norm") @ w["embedding.weight"].T


def _model() -> GPT2:
    """With biases and gains that matter."""
    model = GPT2(CONFIG, Generator(1))
    rng = np.random.default_rng(1)
    for parameter in model.parameters():
        parameter.assign(parameter.numpy() + rng.normal(size=parameter.shape, scale=0.2).astype(np.float32))
    return model.eval()


def test_logits_and_loss_are_those_of_the_formulas() -> None:
    model = _model()
    weights = {name: p.numpy().astype(np.float64) for name, p in model.named_parameters().items()}
    exact = _reference(TOKENS, weights)
    assert np.abs(model(TOKENS).numpy() - exact).max() < 2e-5
    targets = np.roll(TOKENS, -1, axis=1)
    targets[:, -1] = -1
    total, count = model.loss(TextBatch(TOKENS, targets))
    logp = exact - np.log(np.exp(exact).sum(-1, keepdims=True))
    expected = -sum(logp[b, t, targets[b, t]] for b in range(3) for t in range(8))
    assert count.item() == 24 and total.item() == pytest.approx(expected, rel=1e-5)


def test_a_token_sees_no_later_one() -> None:
    model, changed = _model(), TOKENS.copy()
    changed[:, 5:] = (changed[:, 5:] + 1) % 31
    before, after = model(TOKENS).numpy(), model(changed).numpy()
    assert np.allclose(before[:, :5], after[:, :5], atol=1e-6) and not np.allclose(
        before[:, 5:], after[:, 5:], atol=0.1
    )


def test_sizes_and_initial_weights() -> None:
    with meta():
        counts = {name: GPT2(config, Generator(0)).num_parameters() for name, config in SIZES.items()}
    published = {"gpt2": 124_439_808, "gpt2_medium": 354_823_168, "gpt2_large": 774_030_080, "gpt2_xl": 1_557_611_200}
    assert counts == published
    w = {
        n: p.numpy()
        for n, p in GPT2(GPT2Config(vocab=50, layers=8, d_model=64, heads=2), Generator(0)).named_parameters().items()
    }
    assert w["blocks.3.feed_forward.in_proj.weight"].std() == pytest.approx(0.02, rel=0.05)
    assert w["blocks.3.feed_forward.out_proj.weight"].std() == pytest.approx(0.005, rel=0.05)
    assert not w["blocks.0.attention.q_proj.bias"].any()


def test_it_learns_a_text_by_heart() -> None:
    model = GPT2(CONFIG, Generator(1)).train()
    step = CompiledStep(model, AdamW(model.trainable_parameters(), lr=3e-3), Generator(2), 0.0)
    losses = []
    for _ in range(60):
        total, count, _ = step([TextBatch(TOKENS[:, :-1], TOKENS[:, 1:])])
        losses.append(total.item() / count.item())
    assert losses[0] == pytest.approx(np.log(31), rel=0.05) and losses[-1] < 1.0
    assert step.built[0].sizes == {"rows": 3, "tokens": 8}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_its_step_on_a_gpu_is_kernels_alone(dtype: str) -> None:
    model = GPT2(GPT2Config(vocab=64, layers=2, d_model=128, heads=2), Generator(1)).train()
    if dtype != "float32":
        model.compute_in(dtype)
    optimizer, generator = AdamW(model.trainable_parameters()), Generator(2)
    step: Any = training_step(model, optimizer, generator, 0.0)
    ids = Meta((2, 64), np.dtype("int32"))
    program = seqlib.compile(step, state=[model, optimizer, generator], device="cuda").lower(TextBatch(ids, ids))  # type: ignore[arg-type]
    names = Counter(launch.name for launch in program.plan.launches)
    assert not [x.name for x in program.plan.launches if x.op is not None and x.kernel is None]
    if dtype == "bfloat16":
        assert names["attention"] == names["attention_bwd"] == 2 and names["cast"] <= 1 and not names["contiguous"]


def test_what_does_not_fit_is_answered() -> None:
    for settings, message in (({"heads": 5}, "multiple of heads 5"), ({"layers": 0}, "layers: expected at least 1")):
        with pytest.raises(UsageError, match=message):
            GPT2Config(**settings)
    with pytest.raises(ShapeError, match="at most 12"):
        _model()(np.zeros((1, 13), np.int32))
