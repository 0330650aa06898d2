"""Every model on the GPU against float64 on the CPU, loss and gradients. Skipped where there is none."""

from typing import Any

import numpy as np
import pytest

import seqlib
from seqlib.core.grad import value_and_grad
from tests.models.zoo import ZOO

pytestmark = pytest.mark.gpu


EPS = float(np.finfo(np.float32).eps)


def _found(name: str, device: str, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """The mean loss without dropout and its gradients by all weights, float64 [1] and [N], of a compiled program."""
    make, batch = ZOO[name]
    model = make().eval()
    for parameter in model.parameters():
        parameter.data = parameter.data.astype(dtype)
    model.to(device)

    def loss(batch: Any) -> Any:
        total, weight = model.loss(batch, 0.1)
        return total / weight

    run = seqlib.compile(value_and_grad(loss, params=model.trainable_parameters()), state=[model], device=device)
    value, grads = run(batch())
    return np.float64(value.numpy()).reshape(1), np.concatenate([np.float64(g.numpy()).ravel() for g in grads.values()])


@pytest.mark.parametrize("name", ZOO)
def test_a_models_loss_and_gradients_are_within_twice_the_error_of_the_cpu(name: str, device: str = "cuda") -> None:
    runs = [_found(name, *how) for how in (("cpu", np.float64), ("cpu", np.float32), (device, np.float32))]
    for exact, plain, found in zip(*runs, strict=True):
        error, allowed = (float(np.linalg.norm(x - exact) / np.linalg.norm(exact)) for x in (found, plain))
        assert error <= 2 * allowed + 4 * EPS, f"relative error {error:.2e}, of float32 on the CPU {allowed:.2e}"
