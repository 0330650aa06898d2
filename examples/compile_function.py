"""A function of one's own, compiled: state, signatures, static arguments, what a program costs. A second on a CPU.

Softmax regression on three clouds of points, as one writes it in NumPy; `compile` makes it a program.
"""

import numpy as np

import seqlib

rng = np.random.default_rng(0)
centres = np.array([[0, 2], [2, -1], [-2, -1]], np.float32)
labels = rng.integers(0, 3, 600).astype(np.int32)
points = (centres[labels] + rng.normal(size=(600, 2))).astype(np.float32)

# What a function writes lives in Variables; Parameters are those that take gradients.
weight = seqlib.Parameter(np.zeros((3, 2), np.float32), name="weight")
bias = seqlib.Parameter(np.zeros(3, np.float32), name="bias")
steps = seqlib.Variable(np.int32(0), name="steps")
parameters = {"weight": weight, "bias": bias}


def logits(x: seqlib.Tensor) -> seqlib.Tensor:
    return seqlib.matmul(x, weight, transpose_b=True) + bias


def step(x: seqlib.Tensor, y: seqlib.Tensor, rate: float) -> seqlib.Tensor:
    """One step of gradient descent; returns the mean loss before it."""

    def loss() -> seqlib.Tensor:
        total, count = seqlib.cross_entropy(logits(x), y)
        return total / count

    value, gradients = seqlib.value_and_grad(loss, params=parameters)()
    for name, parameter in parameters.items():
        parameter.assign(parameter - rate * gradients[name])
    steps.assign(steps + 1)
    return value


# `state` names all that the function reads or writes beside its arguments. A tensor or array among these is an input; a
# Python number is static: another value makes another program.
fast = seqlib.compile(step, state=[weight, bias, steps])
for number in range(100):
    value = fast(points, labels, 0.5)
    if number % 25 == 0:
        print(f"step {number}  loss {value.item():.4f}")
fast(points, labels, 0.1)  # another static argument
fast(points[:64], labels[:64], 0.1)  # another shape
print(f"{steps.item()} steps by {len(fast.programs)} programs:")
for program in fast.programs:
    print(f"  {program.summary()}{'; built because ' + program.reason if program.reason else ''}")
assert len(fast.programs) == 3

# A rate that is an array is an input, so one program serves all rates; eager and compiled agree to the bit.
again = seqlib.compile(step, state=[weight, bias, steps])
for rate in (0.3, 0.2, 0.1):
    before = weight.numpy(), bias.numpy()
    compiled = again(points, labels, np.float32(rate)).item(), weight.numpy()
    weight.assign(before[0])
    bias.assign(before[1])
    eager = step(seqlib.tensor(points), seqlib.tensor(labels), np.float32(rate)).item(), weight.numpy()
    assert compiled[0] == eager[0] and np.array_equal(compiled[1], eager[1])
assert len(again.programs) == 1

right = (logits(seqlib.tensor(points)).numpy().argmax(axis=1) == labels).mean()
print(f"{right:.1%} of the points on their side; where the time goes:")
with seqlib.hooks() as seen:
    again(points, labels, np.float32(0.1))
print(seen)
assert right > 0.9
