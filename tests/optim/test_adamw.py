"""AdamW against a NumPy float64 reference; clipping, skipped updates, state."""

import numpy as np
import pytest

from seqlib.core.tensor import Parameter, tensor
from seqlib.optim import AdamW
from seqlib.util.errors import SeqlibError, UsageError

SHAPES = {"w": (5, 3), "embedding": (7, 2), "b": (3,)}


def parameters(rng) -> dict[str, Parameter]:
    return {name: Parameter(rng.standard_normal(shape).astype(np.float32)) for name, shape in SHAPES.items()}


def gradients(rng, scale: float = 1.0) -> dict[str, np.ndarray]:
    return {name: (scale * rng.standard_normal(shape)).astype(np.float32) for name, shape in SHAPES.items()}


def as_tensors(grads):
    return {name: tensor(g) for name, g in grads.items()}


class Reference:
    """Float64 AdamW as the docstring writes it."""

    def __init__(self, params, betas, eps, decay, clip):
        self.p = {n: p.numpy().astype(np.float64) for n, p in params.items()}
        self.m = {n: np.zeros_like(p) for n, p in self.p.items()}
        self.v = {n: np.zeros_like(p) for n, p in self.p.items()}
        self.t, self.betas, self.eps, self.decay, self.clip = 0, betas, eps, decay, clip

    def update(self, grads, lr):
        self.t += 1
        b1, b2 = self.betas
        norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in grads.values()))
        scale = min(1.0, self.clip / norm) if self.clip else 1.0
        for n, p in self.p.items():
            g = grads[n].astype(np.float64) * scale
            self.m[n] = b1 * self.m[n] + (1 - b1) * g
            self.v[n] = b2 * self.v[n] + (1 - b2) * g * g
            step = self.m[n] / (1 - b1**self.t) / (np.sqrt(self.v[n] / (1 - b2**self.t)) + self.eps)
            decay = self.decay if p.ndim >= 2 else 0.0
            self.p[n] = p - lr * (step + decay * p)
        return norm


@pytest.mark.parametrize(
    "betas,eps,decay,clip",
    [((0.9, 0.98), 1e-9, 0.0, None), ((0.9, 0.997), 1e-8, 0.1, 1.0), ((0.0, 0.5), 1e-3, 0.01, 100.0)],
)
def test_follows_the_float64_reference(betas, eps, decay, clip):
    rng = np.random.default_rng(0)
    params = parameters(rng)
    optimizer = AdamW(params, lr=1e-2, betas=betas, eps=eps, weight_decay=decay, clip_norm=clip)
    reference = Reference(params, betas, eps, decay, clip or 0.0)
    for step in range(30):
        lr = 1e-2 / (1 + step)
        optimizer.lr.assign(np.float32(lr))
        grads = gradients(rng, scale=1.0 + step % 3)
        norm = optimizer.update(as_tensors(grads))
        assert norm.shape == () and norm.item() == pytest.approx(reference.update(grads, lr), rel=1e-5)
        for name, p in params.items():
            np.testing.assert_allclose(p.numpy(), reference.p[name], rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_an_update_with_a_non_finite_gradient_is_skipped(poison, clip):
    rng = np.random.default_rng(1)
    params = parameters(rng)
    optimizer = AdamW(params, lr=0.1, weight_decay=0.1, clip_norm=clip)
    optimizer.update(as_tensors(gradients(rng)))
    before = {n: p.numpy() for n, p in params.items()} | optimizer.state_dict()
    grads = gradients(rng)
    grads["b"][1] = poison
    assert not np.isfinite(optimizer.update(as_tensors(grads)).item())
    after = {n: p.numpy() for n, p in params.items()} | optimizer.state_dict()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)
    optimizer.update(as_tensors(gradients(rng)))
    assert all(np.isfinite(p.numpy()).all() for p in params.values())


def test_a_zero_gradient_is_no_reason_to_skip():
    params = parameters(np.random.default_rng(2))
    before = {n: p.numpy() for n, p in params.items()}
    optimizer = AdamW(params, lr=0.1, weight_decay=0.5, clip_norm=1.0)
    assert optimizer.update(as_tensors({n: np.zeros(s, np.float32) for n, s in SHAPES.items()})).item() == 0.0
    np.testing.assert_allclose(params["w"].numpy(), before["w"] * 0.95, rtol=1e-6)
    np.testing.assert_array_equal(params["b"].numpy(), before["b"])


def test_state_comes_back_to_the_bit():
    def run(split: bool) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(3)
        params = parameters(rng)
        optimizer = AdamW(params, lr=0.05, clip_norm=1.0)
        for step in range(6):
            if split and step == 3:
                saved = optimizer.state_dict()
                optimizer = AdamW(params, lr=1.0, clip_norm=1.0)
                optimizer.load(saved)
            optimizer.update(as_tensors(gradients(rng)))
        return {n: p.numpy() for n, p in params.items()}

    straight, resumed = run(False), run(True)
    for name, value in straight.items():
        np.testing.assert_array_equal(resumed[name], value)


def test_storage_stays_and_names_are_checked():
    params = parameters(np.random.default_rng(4))
    optimizer = AdamW(params)
    places = {n: v.data for n, v in optimizer.state_variables().items()}
    optimizer.update(as_tensors(gradients(np.random.default_rng(5))))
    assert all(v.data is places[n] for n, v in optimizer.state_variables().items())
    with pytest.raises(SeqlibError, match="missing for \\['b'\\]"):
        optimizer.update({n: tensor(np.zeros(SHAPES[n], np.float32)) for n in ("w", "embedding")})
    state = optimizer.state_dict()
    state["m.w"] = np.zeros((2, 2), np.float32)
    state["extra"] = state.pop("v.b")
    with pytest.raises(SeqlibError, match=r"missing v\.b; unexpected extra; m\.w: expected \(5, 3\)"):
        optimizer.load(state)


def test_bad_settings_are_answered():
    params = parameters(np.random.default_rng(6))
    for settings in ({"betas": (1.0, 0.9)}, {"eps": -1.0}, {"weight_decay": -0.1}, {"clip_norm": -1.0}):
        with pytest.raises(UsageError, match="adamw"):
            AdamW(params, **settings)
    with pytest.raises(UsageError, match="no parameters"):
        AdamW({})
