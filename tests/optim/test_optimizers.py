"""What every optimizer does, SGD, Adafactor and Muon against NumPy float64 references, and the moving average."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from seqlib.core.compile import compile
from seqlib.core.tensor import Parameter, Tensor, tensor
from seqlib.optim import SGD, Adafactor, AdamW, Muon, Optimizer
from seqlib.util.errors import UsageError

SHAPES = {"w": (5, 3), "layers.0.in": (3, 5), "stack": (2, 4, 3), "b": (3,)}
Make = Callable[..., Optimizer]

KINDS: list[Any] = [
    pytest.param(AdamW, {}, id="adamw"),
    pytest.param(SGD, {}, id="sgd"),
    pytest.param(SGD, {"momentum": 0.9}, id="momentum"),
    pytest.param(SGD, {"momentum": 0.8, "nesterov": True}, id="nesterov"),
    pytest.param(Adafactor, {}, id="adafactor"),
    pytest.param(Adafactor, {"relative": False, "momentum": 0.9, "clip_update": 0.0}, id="adafactor-momentum"),
    pytest.param(Muon, {}, id="muon"),
    pytest.param(Muon, {"momentum": 0.8, "rounds": 3, "hidden": lambda name, p: p.ndim == 2}, id="muon-all"),
]
every_kind = pytest.mark.parametrize(("kind", "settings"), KINDS)


def parameters(seed: int = 0) -> dict[str, Parameter]:
    rng = np.random.default_rng(seed)
    return {name: Parameter(rng.standard_normal(shape).astype(np.float32)) for name, shape in SHAPES.items()}


def gradients(seed: int) -> dict[str, Tensor]:
    rng = np.random.default_rng(100 + seed)
    return {n: tensor((rng.standard_normal(s) * (1 + seed % 3)).astype(np.float32)) for n, s in SHAPES.items()}


def values(optimizer: Optimizer) -> dict[str, np.ndarray]:
    return {n: p.numpy() for n, p in optimizer.params.items()} | optimizer.state_dict()


# -- what all of them do -------------------------------------------------------------------------------------


@every_kind
def test_a_quadratic_is_minimised(kind: Make, settings: dict[str, Any]) -> None:
    params = parameters()
    goal = {name: p.numpy() + 1.0 for name, p in params.items()}
    rate = 0.2 if kind is Muon else 0.05  # entries of a matrix move by 0.2 of it and less
    optimizer = kind(params, lr=rate, **settings)
    for step in range(400):
        optimizer.lr.assign(np.float32(rate / (1 + step / 20)))
        optimizer.update({n: tensor(p.numpy() - goal[n]) for n, p in params.items()})
    for name, p in params.items():
        np.testing.assert_allclose(p.numpy(), goal[name], atol=0.05)


@every_kind
def test_a_non_finite_gradient_changes_nothing(kind: Make, settings: dict[str, Any]) -> None:
    optimizer = kind(parameters(), lr=0.1, weight_decay=0.1, clip_norm=1.0, ema=0.9, **settings)
    optimizer.update(gradients(0))
    before = values(optimizer)
    for poison in (np.nan, np.inf):
        grads = gradients(1)
        bad = grads["w"].numpy()
        bad[1, 1] = poison
        assert not np.isfinite(optimizer.update({**grads, "w": tensor(bad)}).item())
        for name, value in values(optimizer).items():
            np.testing.assert_array_equal(value, before[name], err_msg=name)
    optimizer.update(gradients(2))
    assert all(np.isfinite(value).all() for value in values(optimizer).values())


@every_kind
def test_clipping_bounds_the_norm(kind: Make, settings: dict[str, Any]) -> None:
    clipped, scaled = (kind(parameters(), lr=0.1, **settings, **c) for c in ({"clip_norm": 0.5}, {}))
    grads = gradients(0)
    norm = clipped.update(grads).item()
    scaled.update({name: g * (0.5 / norm) for name, g in grads.items()})
    for name, value in values(scaled).items():
        np.testing.assert_allclose(values(clipped)[name], value, rtol=1e-5, atol=1e-7)


@every_kind
def test_state_comes_back_to_the_bit_and_compiled_equals_eager(kind: Make, settings: dict[str, Any]) -> None:
    found = []
    for mode in ("straight", "resumed", "compiled"):
        settings = {**settings, "weight_decay": 0.05, "clip_norm": 1.0, "ema": 0.9}
        params = parameters()
        optimizer = kind(params, lr=0.05, **settings)
        update = compile(optimizer.update, [params, optimizer]) if mode == "compiled" else optimizer.update
        for step in range(6):
            if mode == "resumed" and step == 3:
                saved = optimizer.state_dict()
                optimizer = kind(params, lr=1.0, **settings)
                optimizer.load(saved)
                update = optimizer.update
            update(gradients(step))
        found.append(values(optimizer))
    for name, value in found[0].items():
        np.testing.assert_array_equal(found[1][name], value, err_msg=name)
        np.testing.assert_allclose(found[2][name], value, rtol=2e-6, atol=1e-7, err_msg=name)


@every_kind
def test_bad_settings_name_the_optimizer(kind: Any, settings: dict[str, Any]) -> None:
    for wrong in ({"weight_decay": -0.1}, {"clip_norm": -1.0}, {"ema": 1.0}):
        with pytest.raises(UsageError, match=kind.name):
            kind(parameters(), **settings, **wrong)
    with pytest.raises(UsageError, match="no parameters"):
        kind({})


def test_momentum_is_checked() -> None:
    for kind in (SGD, Adafactor, Muon):
        with pytest.raises(UsageError, match="momentum: expected 0 <= momentum < 1"):
            kind(parameters(), momentum=1.0)
    with pytest.raises(UsageError, match="nesterov needs a momentum"):
        SGD(parameters(), nesterov=True)


# -- Muon ----------------------------------------------------------------------------------------------------


def nearest_orthogonal(u: np.ndarray) -> np.ndarray:
    left, _, right = np.linalg.svd(u, full_matrices=False)
    return left @ right


@pytest.mark.parametrize("momentum,rounds,decay", [(0.95, 5, 0.1), (0.0, 3, 0.0)])
def test_muon_follows_the_float64_reference(momentum: float, rounds: int, decay: float) -> None:
    params = parameters()
    hidden = {"w", "layers.0.in"}
    p = {n: params[n].numpy().astype(np.float64) for n in hidden}
    m = {n: np.zeros_like(x) for n, x in p.items()}
    settings: dict[str, Any] = {"lr": 0.05, "weight_decay": decay}
    optimizer = Muon(params, momentum=momentum, rounds=rounds, hidden=lambda name, _: name in hidden, **settings)
    other = AdamW({n: x for n, x in parameters().items() if n not in hidden}, **settings)
    assert set(optimizer.state_dict()) == {"lr", "steps", "m.3x5", "m.stack", "v.stack", "m.b", "v.b"}
    for step in range(20):
        grads = gradients(step)
        optimizer.update(grads)
        other.update({n: grads[n] for n in other.params})
        for n in hidden:
            g = grads[n].numpy().astype(np.float64)
            m[n] = momentum * m[n] + g
            x = g + momentum * m[n]
            x = x.T if len(x) > x.shape[1] else x
            x /= np.linalg.norm(x)
            for _ in range(rounds):
                square = x @ x.T
                x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
            x = x.T if x.shape != p[n].shape else x
            p[n] = p[n] - 0.05 * (0.2 * 5**0.5 * x + decay * p[n])
    for n, x in p.items():
        np.testing.assert_allclose(params[n].numpy(), x, rtol=1e-4, atol=1e-5)
    for n, x in other.params.items():
        np.testing.assert_array_equal(params[n].numpy(), x.numpy(), err_msg=n)


def test_muons_updates_are_nearly_orthogonal_and_of_the_size_that_is_said() -> None:
    rng = np.random.default_rng(3)
    for shape in ((64, 64), (48, 96), (96, 48)):
        p = Parameter(np.zeros(shape, np.float32))
        g = rng.standard_normal(shape).astype(np.float32)
        Muon({"layers.0.w": p}, lr=1.0, momentum=0.0).update({"layers.0.w": tensor(g)})
        way = -p.numpy() / (0.2 * max(shape) ** 0.5)
        assert np.sum(way * nearest_orthogonal(g)) > 0.95 * np.linalg.norm(way) * min(shape) ** 0.5
        assert 0.1 < np.sqrt(np.mean(p.numpy() ** 2)) < 0.25


def test_muon_takes_hidden_matrices_of_models_alone() -> None:
    from seqlib.optim.muon import is_hidden

    matrix, vector = Parameter(np.zeros((2, 3), np.float32)), Parameter(np.zeros(3, np.float32))
    assert is_hidden("encoder.0.attention.q_proj.weight", matrix) and is_hidden("layers.1.kernel", matrix)
    assert not is_hidden("source_embedding.weight", matrix) and not is_hidden("encoder.0.norm.weight", vector)
    with pytest.raises(UsageError, match="muon: rounds: expected 1 or more, got 0"):
        Muon({"w": matrix}, rounds=0)


# -- SGD -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum,nesterov", [(0.0, False), (0.9, False), (0.9, True)])
def test_sgd_follows_the_float64_reference(momentum: float, nesterov: bool) -> None:
    params = parameters()
    p = {n: x.numpy().astype(np.float64) for n, x in params.items()}
    m = {n: np.zeros_like(x) for n, x in p.items()}
    optimizer = SGD(params, lr=0.05, momentum=momentum, nesterov=nesterov, weight_decay=0.1)
    assert len(optimizer.state_variables()) == 2 + (len(SHAPES) if momentum else 0)
    for step in range(20):
        grads = gradients(step)
        optimizer.update(grads)
        for n, g in ((n, g.numpy().astype(np.float64)) for n, g in grads.items()):
            m[n] = momentum * m[n] + g
            way = g + momentum * m[n] if nesterov else m[n]
            p[n] = p[n] - 0.05 * (way + (0.1 * p[n] if p[n].ndim > 1 else 0.0))
    for name, x in params.items():
        np.testing.assert_allclose(x.numpy(), p[name], rtol=1e-5, atol=1e-6)


# -- Adafactor -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("relative,momentum,clip", [(True, 0.0, 1.0), (False, 0.9, 0.5), (True, 0.5, 0.0)])
def test_adafactor_follows_the_float64_reference(relative: bool, momentum: float, clip: float) -> None:
    params = parameters()
    p = {n: x.numpy().astype(np.float64) for n, x in params.items()}
    m = {n: np.zeros_like(x) for n, x in p.items()}
    r, c, v = (dict.fromkeys(p, 0.0) for _ in range(3))
    settings = {"relative": relative, "momentum": momentum, "clip_update": clip, "weight_decay": 0.1}
    optimizer = Adafactor(params, lr=0.02, **settings)
    for t in range(1, 21):
        grads = gradients(t)
        optimizer.update(grads)
        beta = 1 - t**-0.8
        for n, g in ((n, g.numpy().astype(np.float64)) for n, g in grads.items()):
            square = g * g + 1e-30
            if g.ndim > 1:
                r[n] = beta * r[n] + (1 - beta) * square.mean(-1)
                c[n] = beta * c[n] + (1 - beta) * square.mean(-2)
                moment = r[n][..., :, None] * c[n][..., None, :] / r[n].mean(-1)[..., None, None]
            else:
                moment = v[n] = beta * v[n] + (1 - beta) * square
            way = g / np.sqrt(moment)
            if clip:
                way /= max(1.0, np.sqrt((way**2).mean()) / clip)
            if momentum:
                way = m[n] = momentum * m[n] + (1 - momentum) * way
            scale = max(1e-3, np.sqrt((p[n] ** 2).mean())) if relative else 1.0
            decay = 0.1 if g.ndim > 1 else 0.0
            p[n] = p[n] - 0.02 * scale * way - 0.02 * decay * p[n]
    for name, x in params.items():
        np.testing.assert_allclose(x.numpy(), p[name], rtol=1e-4, atol=1e-5)


def test_adafactor_keeps_rows_and_columns() -> None:
    state = Adafactor({"w": Parameter(np.zeros((300, 200), np.float32))}).state_dict()
    assert {name: value.shape for name, value in state.items()} == {"lr": (), "steps": (), "r.w": (300,), "c.w": (200,)}


# -- the moving average --------------------------------------------------------------------------------------


def test_the_average_follows_its_formula() -> None:
    params = parameters()
    optimizer = SGD(params, lr=0.1, ema=0.5)
    average = {n: p.numpy().astype(np.float64) for n, p in params.items()}
    for t in range(1, 31):
        optimizer.update(gradients(t))
        d = min(0.5, (t - 1) / (t + 9))
        average = {n: d * average[n] + (1 - d) * p.numpy() for n, p in params.items()}
    for name, value in average.items():
        np.testing.assert_allclose(optimizer.averages[name].numpy(), value, rtol=1e-5, atol=1e-6)


def test_the_averaged_block_gives_everything_back() -> None:
    params = parameters()
    optimizer = AdamW(params, lr=0.1, ema=0.9)
    for t in range(5):
        optimizer.update(gradients(t))
    before, places = values(optimizer), {n: p.data for n, p in params.items()}
    with pytest.raises(KeyError), optimizer.averaged():
        for name, p in params.items():
            assert p.data is places[name]
            np.testing.assert_array_equal(p.numpy(), before[f"ema.{name}"])
        raise KeyError
    for name, value in values(optimizer).items():
        np.testing.assert_array_equal(value, before[name])


def test_without_an_average_the_block_does_nothing() -> None:
    optimizer = AdamW(parameters())
    assert not any(name.startswith("ema") for name in optimizer.state_variables())
    before = values(optimizer)
    with optimizer.averaged():
        for name, value in values(optimizer).items():
            np.testing.assert_array_equal(value, before[name])
