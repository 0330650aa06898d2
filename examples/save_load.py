"""Saving and loading: a model, an optimizer, trees of tensors; training that goes on to the bit. A second on a CPU."""

import tempfile
from pathlib import Path

import numpy as np

import seqlib
from seqlib import nn
from seqlib.core.rng import use_generator
from seqlib.optim import AdamW


class Net(nn.Module):
    def __init__(self) -> None:
        self.layers = [nn.Linear(4, 16), nn.Linear(16, 1)]
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: seqlib.Tensor) -> seqlib.Tensor:
        return self.layers[1](self.dropout(seqlib.tanh(self.layers[0](x))))


class Training:
    """A model, its optimizer and its random numbers: all that decides what the next step does."""

    def __init__(self, seed: int) -> None:
        self.generator = seqlib.Generator(seed)
        with use_generator(self.generator):
            self.net = Net()
        self.optimizer = AdamW(self.net.named_parameters(), lr=1e-2)
        self.step = seqlib.compile(self._step, state=[self.net, self.optimizer, self.generator])

    def _step(self, x: seqlib.Tensor, y: seqlib.Tensor) -> seqlib.Tensor:
        with use_generator(self.generator):
            loss = seqlib.value_and_grad(
                lambda: seqlib.mean((self.net(x) - y) ** 2), params=self.net.named_parameters()
            )
            value, gradients = loss()
        self.optimizer.update(gradients)
        return value


rng = np.random.default_rng(0)
xs = rng.normal(size=(40, 32, 4)).astype(np.float32)
ys = np.sin(xs.sum(axis=-1, keepdims=True))

with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    whole = Training(seed=1)
    for x, y in zip(xs[:20], ys[:20]):
        whole.step(x, y)
    # Each is one safetensors file, readable by other tools, replaced only when the new one is complete.
    seqlib.save(folder / "net.safetensors", whole.net)
    seqlib.save(folder / "optimizer.safetensors", whole.optimizer)
    seqlib.save(folder / "rest.safetensors", {"generator": whole.generator.state, "seen": 20, "note": "half way"})
    first = [whole.step(x, y).item() for x, y in zip(xs[20:], ys[20:])]

    half = Training(seed=99)  # other weights, other random numbers: all of it is loaded
    half.net.load(seqlib.load(folder / "net.safetensors"))
    half.optimizer.load(seqlib.load(folder / "optimizer.safetensors"))
    rest = seqlib.load(folder / "rest.safetensors")
    half.generator.state.assign(rest["generator"])
    second = [half.step(x, y).item() for x, y in zip(xs[rest["seen"] :], ys[rest["seen"] :])]
    assert first == second  # to the bit, dropout included
    print(f"{rest['note']}: loss {second[0]:.4f}, at the end {second[-1]:.4f}, as if it had never been stopped")

    # Weights by name; what does not fit is refused, with the names, and nothing is changed.
    print({name: array.shape for name, array in whole.net.state_dict().items()})
    try:
        nn.Linear(4, 8).load(seqlib.load(folder / "net.safetensors"))
    except seqlib.SeqlibError as error:
        print(" ".join(str(error).split())[:150])
    else:
        raise AssertionError("weights of another model should be refused")
