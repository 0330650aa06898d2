"""The loss scale of training in float16."""

import numpy as np
import pytest

import seqlib
from seqlib.core import ops
from seqlib.core.tensor import Parameter, tensor
from seqlib.core.trace import collect_variables
from seqlib.optim import AdamW, LossScale
from seqlib.util.errors import UsageError


def _parts(start: float = 8.0, every: int = 2) -> tuple[Parameter, AdamW]:
    p = Parameter(np.array([1.0, -2.0], np.float32), "w")
    optimizer = AdamW({"w": p}, lr=0.1, clip_norm=1.0)
    optimizer.loss_scale = LossScale(start, every)
    return p, optimizer


@pytest.mark.parametrize("compiled", [False, True])
def test_it_halves_on_overflow_and_doubles_after_good_updates(compiled: bool) -> None:
    p, optimizer = _parts()
    scale = optimizer.loss_scale
    assert scale is not None

    def update(g):
        return optimizer.update({"w": g}, scale)

    step = seqlib.compile(update, state=[p, optimizer]) if compiled else update
    before = p.numpy()
    assert not np.isfinite(step(tensor(np.array([np.inf, 1.0], np.float32))).item())
    assert (p.numpy() == before).all() and scale.scale.item() == 4.0 and optimizer.steps.item() == 0
    assert step(tensor(np.array([2.4, 3.2], np.float32))).item() == pytest.approx(1.0)  # the norm without the scale
    assert scale.scale.item() == 4.0 and (p.numpy() != before).all()
    step(tensor(np.array([1.0, 1.0], np.float32)))
    assert scale.scale.item() == 8.0 and scale.good.item() == 0.0


def test_updates_are_those_without_a_scale() -> None:
    found = []
    for scaled in (False, True):
        p, optimizer = _parts()
        scale = optimizer.loss_scale if scaled else None
        for n in range(3):
            g = np.array([0.3 * n, 1.0], np.float32)
            optimizer.update({"w": tensor(g if scale is None else g * scale.scale.numpy())}, scale)
        found.append(p.numpy())
    assert np.allclose(found[0], found[1], rtol=1e-6)


def test_it_is_saved_with_the_optimizer() -> None:
    _, optimizer = _parts()
    assert {"loss_scale", "loss_scale.good_updates"} <= set(collect_variables(optimizer))
    state = optimizer.state_dict() | {"loss_scale": np.float32(2.0)}
    optimizer.load(state)
    assert optimizer.loss_scale is not None and ops.sum(optimizer.loss_scale.scale).item() == 2.0
    for start, every in ((0.0, 1), (1.0, 0)):
        with pytest.raises(UsageError, match="loss scale"):
            LossScale(start, every)
