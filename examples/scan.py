"""A loop over time with `seqlib.scan`: a recurrent unit of one's own, trained and compiled. A few seconds on a CPU.

The minimal gated unit (Zhou et al. 2016) keeps a running answer to one question: have there been more ones than zeros?
"""

import numpy as np

import seqlib
from seqlib import nn
from seqlib.core.rng import use_generator
from seqlib.optim import AdamW

TIME, ROWS, WIDTH = 20, 64, 16


class MinimalGatedUnit(nn.Module):
    """x [B,T,D] → the last state [B,H]: one gate f decides what is kept and what is read."""

    def __init__(self, inputs: int, width: int) -> None:
        self.width = width
        self.gate, self.candidate = nn.Linear(inputs + width, width), nn.Linear(inputs + width, width)

    def forward(self, x: seqlib.Tensor) -> seqlib.Tensor:
        def body(h: seqlib.Tensor, now: seqlib.Tensor) -> tuple[seqlib.Tensor, None]:
            f = seqlib.sigmoid(self.gate(seqlib.concatenate([now, h], axis=-1)))
            new = seqlib.tanh(self.candidate(seqlib.concatenate([now, f * h], axis=-1)))
            return h + f * (new - h), None

        # scan goes along the leading axis; what body returns second would be stacked.
        last, _ = seqlib.scan(body, seqlib.zeros((x.shape[0], self.width)), seqlib.swapaxes(x, 0, 1))
        return last


def batch(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    bits = rng.integers(0, 2, (ROWS, TIME, 1))
    return bits.astype(np.float32), (bits[:, :, 0].sum(axis=1) * 2 > TIME).astype(np.int32)


with use_generator(seqlib.Generator(1)):
    unit, answer = MinimalGatedUnit(1, WIDTH), nn.Linear(WIDTH, 2)
parameters = {**{f"unit.{k}": p for k, p in unit.named_parameters().items()}, **answer.named_parameters()}
optimizer = AdamW(parameters, lr=1e-2, clip_norm=1.0)


def step(x: seqlib.Tensor, y: seqlib.Tensor) -> tuple[seqlib.Tensor, seqlib.Tensor]:
    def loss() -> tuple[seqlib.Tensor, seqlib.Tensor]:
        scores = answer(unit(x))
        total, count = seqlib.cross_entropy(scores, y)
        return total / count, seqlib.mean(seqlib.astype(seqlib.argmax(scores, axis=-1) == y, "float32"))

    (value, right), gradients = seqlib.value_and_grad(loss, params=parameters)()
    optimizer.update(gradients)
    return value, right


# The loop is unrolled in the program: gradients of any order go through it, and neighbouring steps share its memory.
fast = seqlib.compile(step, state=[unit, answer, optimizer])
rng = np.random.default_rng(0)
for number in range(1, 301):
    value, right = fast(*batch(rng))
    if number % 75 == 0:
        print(f"step {number}  loss {value.item():.3f}  right {right.item():.0%}")
print(f"{TIME} steps of time are {fast.programs[0].launch_count} launches, forward, backward and update")
assert right.item() > 0.85
